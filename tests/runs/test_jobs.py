"""What Slurm and the machine say of many jobs at once, read as they print it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.files import write_text
from experiments.job.body import _failed_in_this_job
from experiments.registry.catalogue import find_experiment, find_variant
from experiments.registry.recipe import Scale
from experiments.runs import slurm
from experiments.runs.attempts import Attempt, Ownership, Process, Submission, attempts_at, is_running
from experiments.runs.jobs import Jobs
from experiments.runs.run import Run
from experiments.runs.slurm import Failure, Job, Phase, account_row, expand, queue_row
from experiments.runs.state import RunState


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path))
    return Run(find_experiment(Scale.TINY, find_variant("table4/split")), 0)


def gone() -> Process:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = Process.of(process.pid)
    process.communicate()
    return found


def attempt(run: Run, **changes: object) -> None:
    """An attempt at ``run`` whose process is gone."""
    before = Attempt.of(run.directory) or Attempt(number=0, token="", process=gone())
    replace(before, **{"process": gone(), "began": time.time(), **changes}).note(run.directory)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "phase", "failure"),
    [
        # as sacct printed them of jobs that were treated so on slurm/dev-cluster
        ("7|PENDING|0:0|0:0|None assigned", Phase.PENDING, None),
        ("7|RUNNING|0:0|0:0|node1", Phase.RUNNING, None),
        ("7|REQUEUED|0:0|0:0|node1", Phase.REQUEUED, None),
        ("7|COMPLETED|0:0|0:0|node1", Phase.ENDED, None),
        ("7|PREEMPTED|0:0|0:0|node1", Phase.ENDED, Failure.PREEMPTED),
        ("7|NODE_FAIL|1:0|0:0|node[1-2]", Phase.ENDED, Failure.NODE_FAILURE),
        ("7|TIMEOUT|0:0|0:15|node1", Phase.ENDED, Failure.TIME_LIMIT),
        ("7|FAILED|1:0|1:0|node1", Phase.ENDED, Failure.OWN_ERROR),
        ("7|FAILED|1:0|0:125|node1", Phase.ENDED, Failure.OUT_OF_MEMORY),
        ("7|OUT_OF_MEMORY|0:125|0:125|node1", Phase.ENDED, Failure.OUT_OF_MEMORY),
        ("7|FAILED|9:0|0:9|node1", Phase.ENDED, Failure.KILLED),
        ("7|FAILED|137:0|0:9|node1", Phase.ENDED, Failure.KILLED),
        ("7|CANCELLED by 0|0:0|0:0|None assigned", Phase.ENDED, Failure.CANCELLED),
    ],
)
def test_what_sacct_says(line: str, phase: Phase, failure: Failure | None) -> None:
    [job] = account_row(line)
    assert (job.id, job.phase, job.failure) == ("7", phase, failure)


@pytest.mark.parametrize(
    ("fields", "phase", "failure", "reason"),
    [
        (("7_1", "PENDING", "Priority", "0", "0", "0"), Phase.PENDING, None, "Priority"),
        (("7_1", "PENDING", "BeginTime", "2", "0", "0"), Phase.REQUEUED, None, "BeginTime"),
        (("7_1", "PENDING", "DependencyNeverSatisfied", "0", "0", "0"), Phase.ENDED, Failure.DEPENDENCY, ...),
        (("7_1", "RUNNING", "None", "0", "0", "0", "node1"), Phase.RUNNING, None, ""),
        (("7_1", "COMPLETING", "None", "0", "0", "0", "node1"), Phase.RUNNING, None, ""),
        # wait(2) gives 256 x the exit code, or the signal
        (("7_1", "FAILED", "NonZeroExitCode", "0", "768", "0"), Phase.ENDED, Failure.OWN_ERROR, "FAILED"),
        (("7_1", "FAILED", "NonZeroExitCode", "0", "2304", "9"), Phase.ENDED, Failure.KILLED, "FAILED"),
        (("7_1", "TIMEOUT", "TimeLimit", "0", "0", "0"), Phase.ENDED, Failure.TIME_LIMIT, "TIMEOUT"),
        (("7_1", "COMPLETED", "None", "0", "0", "0"), Phase.ENDED, None, "COMPLETED"),
    ],
)
def test_what_squeue_says(fields: tuple[str, ...], phase: Phase, failure: Failure | None, reason: object) -> None:
    job = queue_row(*fields)
    assert (job.id, job.phase, job.failure) == ("7_1", phase, failure)
    assert reason in (job.reason, ...)


def test_elements_of_an_array_that_wait_share_a_row() -> None:
    assert expand("7") == ["7"]
    assert expand("7_12") == ["7_12"]
    assert expand("7_[1-3,5%2]") == ["7_1", "7_2", "7_3", "7_5"]


def test_own_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert slurm.own_job() is None
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert slurm.own_job() == ("9", 2)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert slurm.own_job() == ("7_1", 2)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What squeue is called with and what it sees of SQUEUE_PARTITION, a line each; it knows one running element."""
    said = tmp_path / "said"
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(f'#!/bin/sh\necho "$@ [$SQUEUE_PARTITION]" >> {said}\necho RUNNING\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{squeue.parent}:{os.environ['PATH']}")
    return said


def test_an_element_of_an_array_asks_for_itself_only(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last element has the array's number as SLURM_JOB_ID, by which squeue names its brothers, too."""
    for name, value in (("JOB_ID", "7"), ("ARRAY_JOB_ID", "7"), ("ARRAY_TASK_ID", "1")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SQUEUE_PARTITION", "mine")
    assert slurm.own_job_goes_on()
    [call] = told.read_text().splitlines()
    assert "--jobs=7_1 " in call
    # nor does what its user likes to see decide
    assert call.endswith("[]")


def test_a_job_is_submitted_from_inside_another_as_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    monkeypatch.setenv("SLURM_CPU_BIND", "quiet,map_cpu:0")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with slurm.outside_own_job():
        assert os.environ["SLURM_CPU_BIND"]
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    with slurm.outside_own_job():
        assert {name for name in os.environ if name.startswith("SLURM_")} == {"SLURM_CONF"}
    assert (os.environ["SLURM_JOB_ID"], os.environ["SLURM_CPU_BIND"]) == ("9", "quiet,map_cpu:0")


def test_only_an_earlier_start_of_a_job_is_not_tried_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a shell inside a job (``srun --pty bash``) a failed run may be launched again."""
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    Ownership(run.directory)
    write_text(run.directory.error, "ValueError: no")
    assert not _failed_in_this_job(run.directory)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert _failed_in_this_job(run.directory)


def submit(run: Run, job: str) -> None:
    Submission(profile="gpu", at=time.time() - 10, log="/log", job=job).note(run.directory)


def test_without_slurm_nothing_is_known(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    submit(run, "7_1")
    jobs = Jobs([run])
    why = "no squeue on this machine: launch where Slurm's commands are"
    found = jobs.job(run)
    assert found is not None
    assert (found.phase, found.reason.startswith(why)) == (Phase.UNKNOWN, True)
    assert jobs.state(run) is RunState.UNKNOWN
    assert jobs.note(run).startswith(f"could not ask Slurm: {why}")
    # a process that works on it all the same is seen
    attempt(run, process=Process.of(os.getpid()))
    assert Jobs([run]).state(run) is RunState.RUNNING
    with pytest.raises(slurm.SlurmError, match="no scontrol on this machine"):
        slurm.config("MaxArraySize")


def job_is(run: Run, phase: Phase, failure: Failure | None = None) -> Jobs:
    """As ``Jobs``, where Slurm said so of the one job that ``run`` was submitted to."""
    jobs = Jobs([])
    submission = Submission.of(run.directory)
    assert submission is not None
    assert submission.job is not None
    jobs._submissions = {run: submission}
    jobs._slurm = {submission.job: Job(id=submission.job, phase=phase, failure=failure)}
    return jobs


def test_slurm_goes_before_what_can_be_seen(run: Run) -> None:
    submit(run, "7_1")
    assert job_is(run, Phase.PENDING).state(run) is RunState.PENDING
    # its job works on another run first
    assert job_is(run, Phase.RUNNING).state(run) is RunState.PENDING
    attempt(run, job="7_1")
    assert job_is(run, Phase.RUNNING).state(run) is RunState.RUNNING
    assert job_is(run, Phase.REQUEUED).state(run) is RunState.PENDING
    # a survivor on a node that was given up
    attempt(run, job="7_1", process=Process.of(os.getpid()))
    assert is_running(run.directory)
    assert job_is(run, Phase.ENDED, Failure.NODE_FAILURE).state(run) is RunState.INTERRUPTED
    # somebody runs it by hand
    attempt(run, job=None, process=Process.of(os.getpid()))
    assert job_is(run, Phase.ENDED, Failure.NODE_FAILURE).state(run) is RunState.RUNNING


def test_why_a_run_is_not_done(run: Run) -> None:
    submit(run, "7_1")
    assert job_is(run, Phase.PENDING).failure(run) is None
    # the job ended before the run began: a set-up line failed, or the user cancelled it
    assert job_is(run, Phase.ENDED, Failure.OWN_ERROR).failure(run) is Failure.OWN_ERROR
    attempt(run, job="7_1")
    assert job_is(run, Phase.ENDED, Failure.TIME_LIMIT).failure(run) is Failure.TIME_LIMIT
    attempt(run, job=None)
    assert job_is(run, Phase.ENDED, Failure.TIME_LIMIT).failure(run) is Failure.KILLED
    attempt(run, stopped=True)
    assert job_is(run, Phase.ENDED, Failure.TIME_LIMIT).failure(run) is None
    write_text(run.directory.error, "ValueError: no")
    assert job_is(run, Phase.ENDED, Failure.TIME_LIMIT).failure(run) is Failure.OWN_ERROR


def test_a_job_that_ends_with_an_error_need_not_be_the_runs_fault(run: Run) -> None:
    submit(run, "7_1")
    failed = job_is(run, Phase.ENDED, Failure.OWN_ERROR)
    attempt(run, job="7_1", stopped=True)
    # saved, but the cluster does not requeue
    assert failed.failure(run) is None
    attempt(run, job="7_1", stopped=False, lost_a_rank=True)
    assert failed.failure(run) is Failure.KILLED
    attempt(run, job="7_1", lost_a_rank=False)
    assert failed.failure(run) is Failure.OWN_ERROR
    # another run of the same job failed, and this one was never begun
    run.directory.attempt.unlink()
    other = Run(run.experiment, 1)
    submit(other, "7_1")
    write_text(other.directory.error, "ValueError: no")
    failed._submissions = {run: failed._submissions[run], other: failed._submissions[run]}
    assert failed.failure(run) is None
    assert failed.failure(other) is Failure.OWN_ERROR


def test_attempts_that_get_no_further_are_counted(run: Run) -> None:
    def fruitless() -> int:
        return Jobs([run]).fruitless(run)

    assert fruitless() == 0
    for expected in (1, 2, 3):
        Ownership(run.directory)
        attempt(run)
        assert fruitless() == expected
    run.directory.journal.write_text('{"step": 1, "time": 1.0, "metrics": {}}\n')
    assert fruitless() == 0
    owner = Ownership(run.directory)
    owner.stopped()
    attempt(run)
    assert fruitless() == 0
    Ownership(run.directory)
    attempt(run)
    assert fruitless() == 1


def test_jobs_that_end_before_the_run_begins_are_counted(run: Run) -> None:
    attempt(run, began=1.0)
    submit(run, "7")
    assert Jobs([run]).fruitless(run) == 1
    first = Submission.of(run.directory)
    assert first is not None
    replace(first, job="8", unstarted=1).note(run.directory)
    assert Jobs([run]).fruitless(run) == 2
    attempt(run, job="8", number=2)
    assert Jobs([run]).fruitless(run) == 1


@pytest.mark.parametrize("seconds_behind", [5.0, -5.0])
def test_no_clock_decides_whether_a_job_has_begun(
    run: Run, monkeypatch: pytest.MonkeyPatch, seconds_behind: float
) -> None:
    """A node's clock differs from that of the machine that submits, and each attempt goes on."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    now = time.time()
    for restart in range(4):
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restart))
        if restart == 0:
            Submission(profile="gpu", at=now, log="/log", job="7", attempts=attempts_at(run.directory)).note(
                run.directory
            )
            assert job_is(run, Phase.ENDED, Failure.NODE_FAILURE).fruitless(run) == 1
        with monkeypatch.context() as node:
            node.setattr(time, "time", lambda: now - seconds_behind)
            Ownership(run.directory)
        with run.directory.journal.open("a") as file:
            file.write(json.dumps({"step": 100 * (restart + 1), "time": 1.0, "metrics": {}}) + "\n")
        ended = job_is(run, Phase.ENDED, Failure.NODE_FAILURE)
        assert ended.fruitless(run) == 0
        assert ended.failure(run) is Failure.NODE_FAILURE
    # the next job ends before it begins; then somebody runs it by hand
    Submission(profile="gpu", at=now, log="/log", job="8", attempts=attempts_at(run.directory)).note(run.directory)
    assert job_is(run, Phase.ENDED, Failure.NODE_FAILURE).fruitless(run) == 1
    attempt(run, job=None, number=5, began=now - seconds_behind)
    assert job_is(run, Phase.ENDED, Failure.NODE_FAILURE).fruitless(run) == 0


def test_notes_of_earlier_versions_are_read(run: Run) -> None:
    attempt(run, job="7", number=1)
    submit(run, "7")
    assert "attempts" not in json.loads(run.directory.submission.read_text())
    for job, began, unstarted in (("7", 1.0, False), ("6", 1.0, True), ("6", time.time(), False)):
        attempt(run, job=job, began=began)
        submission = Submission.of(run.directory)
        assert submission is not None
        assert submission.unstarted_by(Attempt.of(run.directory)) is unstarted


def test_an_attempt_of_an_earlier_start_of_the_same_job_is_over(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    first = Ownership(run.directory)
    # the first one's process lives: a survivor on a node that Slurm lost
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    second = Ownership(run.directory)
    assert (first.number, second.number) == (1, 2)
    second.check()


def test_a_note_of_an_earlier_version_stays_readable_to_it(run: Run) -> None:
    # as code that jobs were pinned to before wrote it
    before = Submission(profile="gpu", at=1.0, log="/log", job="7")
    before.note(run.directory)
    assert not {"attempts", "refused"} & json.loads(run.directory.submission.read_text()).keys()
    assert Submission.of(run.directory) == before
