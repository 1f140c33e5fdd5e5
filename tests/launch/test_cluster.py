"""Launches on a real Slurm cluster: whatever happens to a job, its run ends as if nothing had."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from experiments.launch.plan import plan_now
from experiments.registry.catalogue import experiments, find_table
from experiments.registry.recipe import Scale
from experiments.results.record import Record, load
from experiments.runs import journal, slurm
from experiments.runs.attempts import Attempt, Submission
from experiments.runs.jobs import Failure, Phase
from experiments.runs.run import Run
from tests.support.command_line import Vswin, vswin_command
from tests.support.mlflow_points import journal_points, mlflow_points, mlflow_run
from tests.support.patience import eventually
from tests.support.places import CLONE
from tests.support.slurm_cluster import SlurmCluster
from tests.support.tracking_servers import MlflowServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
pytest_plugins = ["tests.support.slurm_cluster"]

PROFILES = """\
[test]
account = "vswin"
memory = "1000MB"
time = "30"
signal_seconds = 60

# nothing is said before the time limit
[unwarned]
account = "vswin"
memory = "1000MB"
time = "30"
signal_seconds = 0

[packed]
account = "vswin"
memory = "1000MB"
time = "30"
runs_per_job = 2

[pair]
account = "vswin"
nodes = 2
memory = "1000MB"
time = "30"

[never]
account = "vswin"
memory = "1000MB"
time = "30"
options = { begin = "now+10days" }

[three]
account = "vswin"
memory = "1000MB"
time = "30"
parallel = 3
"""
# In a wrapper around sbatch: nothing is submitted then.
ONLY_ASKED = '[ "$1" = --test-only ] &&'
# A test runs the code as it is here, committed or not.
ON_TEST = ("--scale", "tiny", "--allow-dirty", "--on")


def runs_of(*tables: str, seeds: int = 1) -> list[Run]:
    found = experiments(Scale.TINY, [find_table(name) for name in tables])
    return [Run(each, seed) for seed in range(seeds) for each in found]


def are_done(*tables: str, seeds: int = 1) -> bool:
    found = experiments(Scale.TINY, [find_table(name) for name in tables])
    return all(step.action == "DONE" for step in plan_now(found, seeds=range(seeds)))


def record_of(run: Run) -> Record:
    [path] = run.directory.results()
    return load(path)


def outcome(folder: Path) -> tuple[list[tuple[int, dict[str, float]]], np.ndarray]:
    """What a run computed: every step of its journal, once, and the scores of its test."""
    steps = [
        (
            entry.step,
            {name: value for name, value in entry.metrics.items() if name.startswith(("train/", "val/", "test/"))},
        )
        for entry, _ in journal.read(folder / "journal.jsonl")
    ]
    assert [step for step, _ in steps] == list(range(1, len(steps) + 1))
    [result] = folder.glob("tests/*.json")
    with np.load(result.with_suffix(".npz")) as archive:
        return steps, archive["scores"]


def assert_as_undisturbed(run: Run, undisturbed: Path) -> None:
    steps, scores = outcome(run.directory.path)
    expected_steps, expected_scores = outcome(undisturbed / run.signature / f"seed-{run.seed}")
    assert steps == expected_steps
    np.testing.assert_array_equal(scores, expected_scores)


def frozen(*runs: Run, number: int = 1) -> list[Attempt]:
    """Attempt ``number`` at every one of ``runs``, each stopped by SIGSTOP when it has taken some steps."""
    stopped: dict[Run, Attempt] = {}

    def look() -> bool:
        for run in runs:
            attempt = run.last_attempt()
            if run not in stopped and attempt and attempt.number == number and run.directory.last_step() > attempt.step:
                os.kill(attempt.process.pid, signal.SIGSTOP)
                assert not run.directory.results(), "too late: it is done"
                stopped[run] = attempt
        return len(stopped) == len(runs)

    # so small a run is over within seconds of its first step
    eventually(f"attempts {number} have taken some steps", look, every=0.02)
    return [stopped[run] for run in runs]


def thaw(attempt: Attempt) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(attempt.process.pid, signal.SIGCONT)


def ends_in(cluster: SlurmCluster, run: Run, *, seconds: int) -> None:
    """A time limit is a minute at least, but the end of a running job can be moved."""
    end = (datetime.now() + timedelta(seconds=seconds)).isoformat(timespec="seconds")
    cluster.call("scontrol", "update", f"jobid={job_of(run)}", f"endtime={end}")


def job_of(run: Run) -> str:
    submission = Submission.of(run.directory)
    assert submission is not None
    assert submission.job is not None
    return submission.job


def ended(run: Run) -> Failure | None:
    """How the job of ``run`` ended; waits for it."""
    job = job_of(run)
    # of Slurm itself: nobody else asks about the job of a run that is done
    found = eventually(
        f"the job of {run.directory.path} ends",
        lambda: (seen := slurm.look({job}).get(job)) and seen.phase is Phase.ENDED and seen,
    )
    return found.failure


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    file = tmp_path_factory.mktemp("profiles") / "profiles.toml"
    file.write_text(PROFILES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VSWIN_PROFILES", str(file))
        yield file


@pytest.fixture(scope="module")
def undisturbed(
    slurm_cluster: SlurmCluster,
    profiles: Path,
    tiny_data: Path,
    tiny_upstream: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Tables 4 and 6, two seeds, launched as one array over two nodes: the folder of their runs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(tiny_upstream / "tiny", folder / "runs" / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("DATA", tiny_data), ("RUNS", folder / "runs"), ("RESULTS", folder / "results")):
            patch.setenv(f"VSWIN_{name}", str(value))
        command = vswin_command("launch", "table4", "table6", "--seeds", "2", *ON_TEST, "test")
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert re.search(r"submitted 10 of 11 runs to test: \d+\n", said)
        again = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert "nothing to submit" in again
        eventually("tables 4 and 6 are done", lambda: are_done("table4", "table6", seeds=2), seconds=280)
        again = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert "nothing to do: all 11 runs are done" in again
        nodes = set()
        for run in runs_of("table4", "table6", seeds=2):
            assert record_of(run).provenance.attempts == 1
            nodes.add(next(each.nodes for each in slurm_cluster.ended(job_of(run))))
        assert nodes == {"node1", "node2"}
    return folder / "runs" / "tiny"


@pytest.fixture
def cluster(slurm_cluster: SlurmCluster, profiles: Path, home: Path) -> Iterator[SlurmCluster]:
    """The cluster, with folders of the test's own; no job outlives it."""
    yield slurm_cluster
    slurm_cluster.call("scancel", "--user=root")
    eventually("no job is left", lambda: not slurm_cluster.call("squeue", "--noheader"))


def test_array_over_two_nodes(undisturbed: Path) -> None:
    assert len(list(undisturbed.glob("*/seed-*"))) == 11


def test_what_is_asked_to_stop_finishes_on_its_own(cluster: SlurmCluster, vswin: Vswin, undisturbed: Path) -> None:
    vswin("launch", "table4", "--seeds", "1", *ON_TEST, "test")
    # the last element of an array has the number of the array
    requeued, limited, signalled = runs_of("table4")
    first = frozen(signalled, requeued, limited)
    # before a time limit, or by a preemption that says so; a preemption that does not; a time limit that comes
    cluster.call("scancel", "--signal=USR2", job_of(signalled))
    cluster.call("scontrol", "requeue", job_of(requeued))
    # Slurm wakes who is stopped before it signals
    ends_in(cluster, limited, seconds=55)
    thaw(first[0])
    # and once more, by a preemption that is SIGTERM
    [second] = frozen(signalled, number=2)
    cluster.call("scancel", "--signal=TERM", job_of(signalled))
    thaw(second)
    eventually("table 4 is done", lambda: are_done("table4"), seconds=240)
    for run, attempts in ((signalled, 3), (requeued, 2), (limited, 2)):
        assert_as_undisturbed(run, undisturbed)
        assert record_of(run).provenance.attempts == attempts
        # on its own: still the same job
        last = run.last_attempt()
        assert last is not None
        assert (last.job, last.restart) == (job_of(run), attempts - 1)
    vswin("sync", "--scale", "tiny")
    for run in (signalled, requeued, limited):
        assert mlflow_points(run) == journal_points(run)


def test_what_a_machine_ends_is_done_after_one_relaunch(cluster: SlurmCluster, vswin: Vswin, undisturbed: Path) -> None:
    vswin("launch", "table4", "--seeds", "1", *ON_TEST, "unwarned")
    killed, limited, cancelled = runs_of("table4")
    attempts = frozen(killed, limited, cancelled)
    os.kill(attempts[0].process.pid, signal.SIGKILL)
    ends_in(cluster, limited, seconds=2)
    cluster.call("scancel", job_of(cancelled))
    assert ended(killed) is Failure.KILLED
    assert ended(limited) is Failure.TIME_LIMIT
    assert ended(cancelled) is Failure.CANCELLED
    # the first is the image model that all start from
    _, *steps = json.loads(vswin("status", "table4", "--scale", "tiny", "--seeds", "1", "--json").stdout)
    assert [(step["action"], step["why"].split(";")[0]) for step in steps] == [
        ("RESUME", "killed"),
        ("RESUME", "time limit"),
        ("RESUME", "cancelled"),
    ]
    vswin("launch", "table4", "--seeds", "1", *ON_TEST, "unwarned")
    eventually("table 4 is done", lambda: are_done("table4"), seconds=240)
    for run in (killed, limited, cancelled):
        assert_as_undisturbed(run, undisturbed)


def test_run_of_a_lost_node_goes_on_elsewhere_and_its_survivor_is_fenced_off(
    cluster: SlurmCluster, vswin: Vswin, undisturbed: Path
) -> None:
    vswin("launch", "table6", "--seeds", "1", *ON_TEST, "test")
    lost = runs_of("table6")[0]
    [survivor] = frozen(lost)
    # the accounting hears of a job a moment after it began
    [first] = eventually("the accounting knows the job", lambda: cluster.attempts(job_of(lost)), seconds=60)
    cluster.call("scontrol", "update", f"nodename={first.nodes}", "state=down", "reason=test")
    try:
        eventually("another attempt", lambda: lost.last_attempt().number == 2, seconds=240)  # type: ignore[union-attr]
        thaw(survivor)
        eventually("table 6 is done", lambda: are_done("table6"), seconds=240)
        assert_as_undisturbed(lost, undisturbed)
        eventually(
            "the accounting knows both nodes",
            lambda: {each.nodes for each in cluster.attempts(job_of(lost))} == {"node1", "node2"},
            seconds=60,
        )
    finally:
        cluster.call("scontrol", "update", f"nodename={first.nodes}", "state=resume")


def test_own_error_is_left_alone(
    cluster: SlurmCluster, vswin: Vswin, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    monkeypatch.setenv("VSWIN_DATA", str(data))
    victim = next((data / "moving-digits" / "tiny" / "train").iterdir())
    whole = victim.read_bytes()
    victim.write_bytes(b"not a video")
    vswin("launch", "table6", "--seeds", "1", *ON_TEST, "packed")
    runs = runs_of("table6")
    for run in runs:
        assert ended(run) is Failure.OWN_ERROR
    # one after the other: the second run of a job is tried, whatever became of the first
    assert all("TooManyBrokenError" in run.directory.last_error() for run in runs)
    answer = vswin("launch", "table6", "--seeds", "1", *ON_TEST, "packed", code=1)
    assert "--mode retry retries it" in " ".join(answer.stdout.split())
    assert [job_of(run) for run in runs[:2]] == [job_of(runs[0])] * 2
    victim.write_bytes(whole)


def test_upstream_runs_first_and_when_it_fails_its_dependants_are_blocked(
    cluster: SlurmCluster, vswin: Vswin, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs" / "tiny"
    shutil.rmtree(runs)
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    monkeypatch.setenv("VSWIN_DATA", str(data))
    victim = next(path for path in (data / "moving-digits" / "tiny-stills" / "train").rglob("*") if path.is_file())
    whole = victim.read_bytes()
    victim.write_bytes(b"no picture")
    dependants = runs_of("table8")
    [experiment, *_] = experiments(Scale.TINY, [find_table("table8")])
    [image_model] = [Run(each, 0) for each in experiment.upstream]

    assert "submitted 3 of 3" in vswin("launch", "table8", "--seeds", "1", *ON_TEST, "test").stdout
    assert ended(image_model) is Failure.OWN_ERROR
    for run in dependants:
        assert ended(run) in (Failure.CANCELLED, Failure.DEPENDENCY)
    answer = vswin("launch", "table8", "--seeds", "1", *ON_TEST, "test", code=1)
    told = " ".join(answer.stdout.split())
    assert "BLOCKED" in told
    assert "image-t-small failed" in told
    assert "submitted" not in told.replace("not submitted", "")

    # other pictures make another model
    victim.write_bytes(whole)
    shutil.rmtree(runs)
    vswin("launch", "table8", "--seeds", "1", *ON_TEST, "test")
    eventually("table 8 is done", lambda: are_done("table8"), seconds=240)
    [first] = cluster.ended(job_of(image_model))
    for run in dependants:
        [second] = cluster.ended(job_of(run))
        assert first.end is not None
        assert second.start is not None
        assert first.end <= second.start


def test_jobs_tell_a_tracking_server_themselves(
    cluster: SlurmCluster, vswin: Vswin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = MlflowServer(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    server.start()
    try:
        # each of two processes, of which only one may tell
        vswin("launch", "table6", "--seeds", "1", *ON_TEST, "pair")
        first, *_ = runs = runs_of("table6")
        [attempt] = frozen(first)
        cluster.call("scancel", "--signal=USR2", job_of(first))
        thaw(attempt)
        eventually("table 6 is done", lambda: are_done("table6"), seconds=280)
        for run in runs:
            ended(run)
            # nothing was left to sync, also before it was started again
            submission = Submission.of(run.directory)
            assert submission is not None
            assert "MLflow: " not in Path(submission.log).read_text()
            assert mlflow_points(run) == journal_points(run)
            assert mlflow_run(run).info.status == "FINISHED"
    finally:
        server.stop()


def test_exactly_so_many_jobs_run_at_once_whatever_they_wait_for(
    cluster: SlurmCluster, vswin: Vswin, tmp_path: Path
) -> None:
    """Several image models that others wait for: as many groups, and one limit."""
    shutil.rmtree(tmp_path / "runs" / "tiny")
    tables = ("table7", "baselines")
    answer = vswin("launch", *tables, "--seeds", "1", *ON_TEST, "three")
    match = re.search(r"submitted (\d+) of \d+ runs to three: (\d+)\n", answer.stdout)
    assert match
    count, array = int(match[1]), match[2]
    eventually("the tables are done", lambda: are_done(*tables), seconds=400)
    attempts = [cluster.ended(f"{array}_{index}")[0] for index in range(count)]
    moments = sorted({each.start for each in attempts if each.start})
    at_once = [
        sum(each.start <= moment < each.end for each in attempts if each.start and each.end) for moment in moments
    ]
    assert max(at_once) == 3
    # it is not one at a time: but for the first image models and the last runs there are always three
    assert sum(number == 3 for number in at_once) > len(at_once) / 2
    for run in runs_of(*tables):
        assert record_of(run).provenance.attempts == 1


def test_launcher_killed_between_sbatch_and_bookkeeping(
    cluster: SlurmCluster, vswin: Vswin, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next launch finds the jobs again, and gives them what they still wait for."""
    calls = tmp_path / "calls"
    wrapper = tmp_path / "bin" / "sbatch"
    wrapper.parent.mkdir()
    sbatch = shutil.which("sbatch")
    wrapper.write_text(f'#!/bin/sh\n{ONLY_ASKED} exec {sbatch} "$@"\n{sbatch} "$@" >> {calls} && kill -9 $PPID\n')
    wrapper.chmod(0o755)
    command = vswin_command("launch", "table6", "--seeds", "1", *ON_TEST, "packed")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
        launcher = subprocess.run(command, check=False, capture_output=True)
        assert launcher.returncode == -signal.SIGKILL
    number = calls.read_text().split()[-1]
    assert not any(Submission.of(run.directory) for run in runs_of("table6"))
    answer = vswin("launch", "table6", "--seeds", "1", *ON_TEST, "packed")
    assert f"could not note: {number}" in answer.stdout
    assert "nothing to submit" in answer.stdout
    # two runs share a job
    assert [job_of(run) for run in runs_of("table6")] == [f"{number}_0", f"{number}_0", f"{number}_1"]
    eventually("table 6 is done", lambda: are_done("table6"), seconds=200)
    for run in runs_of("table6"):
        assert record_of(run).provenance.attempts == 1
        assert_as_undisturbed(run, undisturbed)


def test_done_again_and_a_controller_that_answers_too_late(
    cluster: SlurmCluster, vswin: Vswin, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What sbatch took is kept though it says that it did not; where it took nothing, what was done stays in place."""
    for run in runs_of("table6"):
        shutil.copytree(undisturbed / run.signature / f"seed-{run.seed}", run.directory.path)
    force = ("launch", "table6", "--seeds", "1", "--mode", "force", *ON_TEST, "test")
    late = 'echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1'
    sbatch = shutil.which("sbatch")
    wrapper = tmp_path / "bin" / "sbatch"
    wrapper.parent.mkdir()

    def sbatch_is(line: str) -> None:
        wrapper.write_text(f'#!/bin/sh\n{ONLY_ASKED} exec {sbatch} "$@"\n{line}\n{late}\n')
        wrapper.chmod(0o755)

    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    sbatch_is("")
    assert "Socket timed out" in vswin(*force, code=1).stderr
    assert are_done("table6")
    sbatch_is(f'{sbatch} "$@"')
    assert "submitted 3 of 4 runs to test" in vswin(*force).stdout
    eventually("table 6 is done again", lambda: are_done("table6"), seconds=200)
    for run in runs_of("table6"):
        assert [path.name.partition("-2")[0] for path in run.directory.path.parent.glob("replaced-*")] == [
            "replaced-seed-0"
        ]
        assert_as_undisturbed(run, undisturbed)


def test_two_nodes_train_one_run_with_uncommitted_code(
    cluster: SlurmCluster, vswin: Vswin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", CLONE, clone], check=True)
    monkeypatch.setenv("PYTHONPATH", str(clone))
    with (clone / "experiments" / "__init__.py").open("a") as file:
        file.write("# not committed\n")
    on_pair = ("launch", "table6", "--seeds", "1", "--scale", "tiny", "--on", "pair")
    assert "uncommitted code: experiments/__init__.py; commit it" in vswin(*on_pair, code=1).stderr
    vswin(*on_pair, "--allow-dirty")
    # the jobs have a clone of their own
    shutil.rmtree(clone)
    monkeypatch.delenv("PYTHONPATH")
    first, *_ = runs_of("table6")
    [attempt] = frozen(first)
    cluster.call("scancel", "--signal=USR2", job_of(first))
    thaw(attempt)
    eventually("table 6 is done", lambda: are_done("table6"), seconds=280)
    for run in runs_of("table6"):
        outcome(run.directory.path)
        provenance = record_of(run).provenance
        assert (provenance.nodes, provenance.processes, provenance.dirty) == (2, 2, True)
        assert "+# not committed" in run.directory.code_diff.read_text()
        assert provenance.attempts == (2 if run == first else 1)


def test_more_runs_than_an_array_may_have_and_no_accounting(
    cluster: SlurmCluster, vswin: Vswin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sacct = tmp_path / "bin" / "sacct"
    sacct.parent.mkdir()
    sacct.write_text("#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2; exit 1\n")
    sacct.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sacct.parent}:{os.environ['PATH']}")
    assert re.search(
        "would submit 25 jobs to never by 2 sbatch calls; Slurm would start the first at 2",
        vswin("launch", "table4", "table6", "--seeds", "5", *ON_TEST, "never", "--dry-run").stdout,
    )
    answer = vswin("launch", "table4", "table6", "--seeds", "5", *ON_TEST, "never")
    match = re.search(r"submitted 25 of 26 runs to never: (\d+), (\d+)\n", answer.stdout)
    assert match
    queue = cluster.call("squeue", "--noheader", "--array", "--format=%i").split()
    assert sorted(queue) == sorted(
        [f"{match[1]}_{index}" for index in range(20)] + [f"{match[2]}_{i}" for i in range(5)]
    )
    assert "nothing to submit" in vswin("launch", "table4", "table6", "--seeds", "5", *ON_TEST, "never").stdout
    cluster.call("scancel", "--user=root")
    found = experiments(Scale.TINY, [find_table("table4")])

    def again() -> bool:
        actions = {step.run: step.action for step in plan_now(found, seeds=[0])}
        return all(actions[run].needs_work for run in runs_of("table4"))

    eventually("a launch would submit them again", again)


OWN_TABLE = """\
from experiments.registry import Block, Row, SWIN_T_K400, Table

TABLE = Table(
    id="mine",
    caption="Warm-up.",
    question="Does it matter?",
    source="",
    blocks=(Block(baseline=SWIN_T_K400, isolates=("optim.warmup_epochs",), rows=(
        Row("usual"), Row("other", {"optim.warmup_epochs": 5.0}),
    )),),
)
"""


def test_own_tables_may_be_edited_meanwhile_and_nodes_need_no_git(
    cluster: SlurmCluster, vswin: Vswin, profiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.py").write_text(OWN_TABLE)
    monkeypatch.setenv("VSWIN_TABLES", str(own))
    # a node that has only what a job needs
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("srun", "scontrol", "squeue", "bash", "sh", "env"):
        (programs / name).symlink_to(str(shutil.which(name)))
    own_profiles = tmp_path / "profiles.toml"
    fields = 'account = "vswin"\nmemory = "1000M"\ntime = "30"\n'
    own_profiles.write_text(f'[bare]\n{fields}setup = ["export PATH={programs}"]\noptions = {{ begin = "now+8" }}\n')
    monkeypatch.setenv("VSWIN_PROFILES", str(own_profiles))
    said = vswin("launch", "mine/other", "--seeds", "1", *ON_TEST, "bare").stdout
    assert "submitted 1 of 2 runs" in said
    [directory] = [path.parent for path in (tmp_path / "runs" / "tiny").glob("*/seed-0/submission.json")]
    (own / "mine.py").write_text(OWN_TABLE.replace("5.0", "6.0"))
    eventually("the run is done", lambda: list(directory.glob("tests/*.json")), seconds=120)
    code = json.loads((directory / "code.json").read_text())
    commit = subprocess.run(["git", "-C", CLONE, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert code["name"] == commit.stdout.strip()
    # its row is another one now
    assert "never started" in vswin("status", "mine/other", "--scale", "tiny", "--seeds", "1").stdout


@pytest.fixture
def submit_limit(cluster: SlurmCluster) -> Iterator[None]:
    """Four jobs at a time, and no more in the queue."""
    modify = ("sacctmgr", "--immediate", "modify", "user", "root", "set")
    cluster.call(*modify, "maxsubmitjobs=4")
    yield
    cluster.call(*modify, "maxsubmitjobs=-1")


@pytest.mark.usefixtures("submit_limit")
def test_what_slurm_refuses_and_what_does_not_fit(
    cluster: SlurmCluster, vswin: Vswin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_profiles = tmp_path / "profiles.toml"
    monkeypatch.setenv("VSWIN_PROFILES", str(own_profiles))
    on_own = ("launch", "table4", "table6", "--seeds", "1", *ON_TEST, "own")
    # Slurm shows jobs of other tests for a while
    every_job = ("squeue", "--noheader", "--array", "--states=all", "--format=%i")
    before = set(cluster.call(*every_job).split())
    for line, reason in (
        ('memory = "400GB"', "Requested node configuration is not available"),
        ('gpus = 1\ngpu_type = "h900"', "Requested node configuration is not available"),
        ('partition = "nowhere"', "invalid partition specified: nowhere"),
        ('account = "nobody"', "Invalid account or account/partition combination"),
        ('time = "5-0"', "time = 5-0 is 5.0 days, more than the cluster's partition allows: 24:00 h"),
    ):
        own_profiles.write_text("[own]\n" + (line if "time" in line else f'time = "30"\n{line}') + "\n")
        said = " ".join(vswin(*on_own, code=1).stderr.split())
        assert reason in said, said
        assert reason in " ".join(vswin(*on_own, "--dry-run", code=1).stdout.split())
        # words may be broken at the end of a line
        shown = vswin("status", "table4", "--scale", "tiny", "--seeds", "1").stdout
        assert "".join(reason.split()) in "".join(shown.split())
    assert set(cluster.call(*every_job).split()) <= before
    own_profiles.write_text(
        '[own]\naccount = "vswin"\nmemory = "1000M"\ntime = "30"\noptions = { begin = "now+1day" }\n'
    )
    said = " ".join(vswin(*on_own).stdout.split())
    assert "submitted 4 of 6 runs to own" in said
    assert "1 of 6 runs do not fit into the queue, and the next launch submits them" in said
    assert "AssocMaxSubmitJobLimit" in said
    assert len(cluster.call("squeue", "--noheader", "--array").splitlines()) == 4
    assert "nothing is submitted now: 4 of 6 runs wait or run" in vswin(*on_own).stdout
    cluster.call("scancel", "--user=root")
    eventually("no job is left", lambda: not cluster.call("squeue", "--noheader"))
    assert "submitted 4 of 6 runs to own" in vswin(*on_own).stdout
