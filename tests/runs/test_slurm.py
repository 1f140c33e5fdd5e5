"""What Slurm is asked, and what is made of its answers, where it misbehaves: known, gone, or could not be asked."""

from __future__ import annotations

import time

import pytest

from experiments.runs import slurm
from experiments.runs.slurm import Failure, Phase, SlurmError, look, named
from tests.support.slurm_double import SlurmDouble

pytest_plugins = ["tests.support.slurm_double"]
SCRIPT = "#!/bin/bash\n#SBATCH --job-name=it\n#SBATCH --mem={memory}\n"


def submit(double: SlurmDouble, tmp_path: object, *, memory: str = "1GB") -> str:
    script = double.programs.parent / "script"
    script.write_text(SCRIPT.format(memory=memory))
    return slurm.call("sbatch", str(script)).split()[-1]


def test_a_job_is_known_gone_or_could_not_be_asked_about(slurm_double: SlurmDouble, tmp_path: object) -> None:
    job = submit(slurm_double, tmp_path)
    assert look([job])[job].phase is Phase.PENDING
    slurm_double.stand(job, squeue="", sacct="TIMEOUT")
    assert (look([job])[job].phase, look([job])[job].failure) == (Phase.ENDED, Failure.TIME_LIMIT)
    # squeue answers not to know it, and nobody keeps accounts: it is gone
    slurm_double.has(accounting=False)
    assert (look([job])[job].phase, look([job])[job].failure) == (Phase.ENDED, None)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("hang", "squeue did not answer within 1 s; sacct failed: Slurm accounting storage is disabled"),
        ("slurm_load_jobs error: Unable to contact slurm controller", "Unable to contact slurm controller"),
        ("truncate", "squeue stopped in the middle of its answer"),
    ],
)
def test_no_answer_is_never_taken_for_an_end(
    slurm_double: SlurmDouble, tmp_path: object, monkeypatch: pytest.MonkeyPatch, fault: str, told: str
) -> None:
    job = submit(slurm_double, tmp_path)
    slurm_double.has(accounting=False)
    slurm_double.fault("squeue", fault)
    if fault == "hang":
        monkeypatch.setattr(slurm, "_PATIENCE_SECONDS", 1.0)
    found = look([job])[job]
    assert found.phase is Phase.UNKNOWN
    assert not found.phase.is_live
    assert told in found.reason
    # what sacct remembers of an end is certain all the same
    slurm_double.has(accounting=True)
    slurm_double.stand(job, squeue="COMPLETED", sacct="COMPLETED")
    assert look([job])[job].phase is Phase.ENDED


def test_answers_that_contradict_are_no_answer(slurm_double: SlurmDouble, tmp_path: object) -> None:
    """An answer of squeue that lacks lines, or accounts that have not heard of the end: who could tell?"""
    job = submit(slurm_double, tmp_path)
    slurm_double.stand(job, squeue="", sacct="RUNNING")
    found = look([job])[job]
    assert found.phase is Phase.UNKNOWN
    assert found.reason == "squeue does not know the job, and sacct says that it is running"
    # accounts that are late, of a job that squeue has seen end
    slurm_double.stand(job, squeue="FAILED", sacct="RUNNING")
    assert look([job])[job].phase is Phase.ENDED
    slurm_double.fault("sacct", "truncate")
    slurm_double.fault("squeue", "out of order")
    assert "sacct: expected 5 columns" in look([job])[job].reason


def test_a_refused_job_is_none(slurm_double: SlurmDouble, tmp_path: object) -> None:
    with pytest.raises(SlurmError, match="Requested node configuration is not available"):
        submit(slurm_double, tmp_path, memory="400GB")
    [refused] = slurm_double.jobs
    assert refused["elements"][0]["squeue"] == "FAILED"
    assert named("it", since=time.time()) is None
    job = submit(slurm_double, tmp_path)
    assert named("it", since=time.time()) == job
    # one that failed at work was taken
    slurm_double.stand(job, squeue="", sacct="FAILED")
    assert named("it", since=time.time()) == job
    assert named("other", since=time.time()) is None


def test_whether_a_job_was_taken_may_be_unknown(slurm_double: SlurmDouble, tmp_path: object) -> None:
    submit(slurm_double, tmp_path)
    slurm_double.fault("squeue", "Unable to contact slurm controller")
    with pytest.raises(SlurmError, match="Unable to contact"):
        named("it", since=time.time())
    slurm_double.mend()
    slurm_double.fault("sacct", "Connection refused")
    with pytest.raises(SlurmError, match="Connection refused"):
        named("other", since=time.time())
    slurm_double.has(accounting=False)
    slurm_double.mend()
    assert named("other", since=time.time()) is None


def test_slurm_says_what_it_would_do(slurm_double: SlurmDouble) -> None:
    assert slurm.verdict(SCRIPT.format(memory="4GB")).start == "2026-12-01T04:41:09"
    assert slurm.verdict(SCRIPT.format(memory="400GB")).refusal == "Requested node configuration is not available"
    slurm_double.has(submit_limit=0)
    assert slurm.is_submit_limit(slurm.verdict(SCRIPT.format(memory="4GB")).refusal)
    slurm_double.fault("sbatch", "sbatch: error: Unable to contact slurm controller (connect failure)")
    with pytest.raises(SlurmError, match="Unable to contact"):
        slurm.verdict(SCRIPT.format(memory="4GB"))
    assert slurm_double.jobs == []


@pytest.mark.parametrize(
    ("limit", "minutes"), [("1-00:00:00", 1440), ("00:30:00", 30), ("UNLIMITED", None), ("2-12:30:00", 3630)]
)
def test_the_longest_job_of_a_partition(slurm_double: SlurmDouble, limit: str, minutes: int | None) -> None:
    slurm_double.has(max_time=limit)
    assert slurm.longest_minutes(None) == slurm.longest_minutes("main") == slurm.longest_minutes("x,main") == minutes
    # sbatch is left to name it
    assert slurm.longest_minutes("nowhere") is None


def test_a_view_that_is_refreshed_often_asks_seldom(slurm_double: SlurmDouble, tmp_path: object) -> None:
    first, second = submit(slurm_double, tmp_path), submit(slurm_double, tmp_path)
    patient = slurm.PatientLook(seconds=60)
    assert patient([]) == {}
    assert patient([first])[first].phase is Phase.PENDING
    for _ in range(5):
        found = patient([first, second])
    assert len(slurm_double.calls("squeue")) == 1
    assert found[first].phase is Phase.PENDING
    assert (found[second].phase, found[second].reason[:15]) == (Phase.UNKNOWN, "not asked yet, ")
    again = slurm.PatientLook(seconds=0)
    again([first])
    again([first])
    assert len(slurm_double.calls("squeue")) == 3
