"""Launches against a double of Slurm: what it does not answer, refuses or has no room for is told, never guessed."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from experiments.cli import look_after
from experiments.cli.main import app
from experiments.launch import pinned
from experiments.launch.launching import Launched, NotReadyError, Target, launch, preview
from experiments.launch.plan import Action
from experiments.registry.catalogue import experiments, find_table
from experiments.registry.recipe import Scale
from experiments.runs import slurm
from experiments.runs.attempts import Submission
from experiments.runs.run import Run
from experiments.runs.slurm import SlurmError
from tests.support.slurm_double import SlurmDouble
from vswin.errors import ExplainedError

pytest_plugins = ["tests.support.slurm_double"]
TINY = ("--scale", "tiny")
ON_TEST = ("launch", "table6", "--seeds", "1", *TINY, "--on", "test", "--allow-dirty")


@pytest.fixture
def double(slurm_double: SlurmDouble, home: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmDouble:
    """The double, a profile called test, and no clone: nothing is ever computed."""
    monkeypatch.setenv("VSWIN_PROFILES", str(home / "profiles.toml"))
    profile()
    monkeypatch.setattr(pinned, "pin", lambda **_: home / "runs" / "code" / "clone")
    # a terminal must not fold what is looked for
    monkeypatch.setenv("COLUMNS", "1000")
    return slurm_double


def profile(**fields: object) -> None:
    """Write the profile called test."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in {"time": "30", "memory": "1GB", **fields}.items()]
    Path(os.environ["VSWIN_PROFILES"]).write_text("\n".join(["[test]", *lines, ""]))


def vswin(*arguments: str, code: int = 0) -> str:
    answer = CliRunner().invoke(app, list(arguments))
    assert answer.exit_code == code, f"{answer.output}\n{answer.exception!r}"
    if answer.exception and not isinstance(answer.exception, SystemExit):
        # main() prints it
        assert isinstance(answer.exception, ExplainedError), answer.exception
        return f"{answer.output}{answer.exception}"
    return answer.output


def launched(*tables: str, seeds: int = 1) -> Launched:
    target = Target(profile="test", allow_dirty=True)
    return launch(tables or ("table6",), scale=Scale.TINY, seeds=seeds, target=target)


def runs_of(table: str) -> list[Run]:
    return [Run(each, 0) for each in experiments(Scale.TINY, [find_table(table)])]


def job_of(run: Run) -> str | None:
    found = Submission.of(run.directory)
    return found.job if found else None


# ------------------------------------------------------------------------------------ known, gone, or not asked


@pytest.mark.parametrize("fault", ["truncate", "slurm_load_jobs error: Unable to contact slurm controller"])
def test_runs_whose_job_cannot_be_asked_about_are_neither_submitted_nor_cancelled(
    double: SlurmDouble, fault: str
) -> None:
    double.has(accounting=False)
    assert len(launched().submitted) == 3
    double.fault("squeue", fault)
    text = vswin(*ON_TEST, code=1)
    assert len(double.jobs) == 1
    assert "not done, and left alone" in text
    assert text.count("could not ask Slurm: ") == 3
    assert "table6/spatial" in text

    shown = json.loads(vswin("status", "table6", *TINY, "--seeds", "1", "--json"))
    assert [item["action"] for item in shown] == ["DONE", *["UNKNOWN"] * 3]
    assert shown[1]["job"]["phase"] == "unknown"
    assert "sacct failed: Slurm accounting storage is disabled" in shown[1]["why"]
    assert "3 runs: could not ask Slurm: squeue" in vswin("status", "table6", *TINY, "--seeds", "1")

    for dry_run in ([], ["--dry-run"]):
        text = vswin("cancel", "table6", *TINY, *dry_run, code=1)
        assert text.count("not ended  table") == text.count("could not ask Slurm: ") == 3
    assert not double.calls("scancel")

    double.mend()
    assert "nothing to submit: 3 of 4 runs wait or run" in vswin(*ON_TEST)
    assert vswin("cancel", "table6", *TINY).count("was cancelled") == 3


def test_what_waits_for_such_a_run_is_not_submitted(double: SlurmDouble, home: Path) -> None:
    double.has(accounting=False)
    [image_model] = runs_of("table6")[0].upstream
    for file in image_model.directory.results():
        file.unlink()
    Submission(profile="test", at=1.0, log="", job="7").note(image_model.directory)
    double.fault("squeue", "slurm_load_jobs error: Unable to contact slurm controller")
    found = launched()
    assert [step.action for step in found.skipped] == [Action.UNKNOWN]
    assert [step.action for step in found.blocked] == [Action.BLOCKED] * 3
    assert "image-t-small unknown: could not ask Slurm: squeue" in found.blocked[0].why
    assert not found.ok
    assert double.jobs == []


def test_nothing_is_submitted_where_sbatch_gives_no_answer(double: SlurmDouble) -> None:
    double.fault("sbatch", "sbatch: error: Unable to contact slurm controller (connect failure)")
    with pytest.raises(SlurmError, match=r"could not ask Slurm, so nothing is submitted: .*Unable to contact"):
        launched()
    assert all(job_of(run) is None for run in runs_of("table6"))


# ---------------------------------------------------------------------------------------------- what is refused


def test_what_slurm_would_refuse_is_named_before_anything_is_submitted(double: SlurmDouble) -> None:
    profile(memory="400GB")
    reason = "Requested node configuration is not available"
    text = vswin(*ON_TEST, "--dry-run", code=1)
    assert f"test: Slurm would refuse the jobs: {reason}" in text.partition("missing\n")[2]
    text = vswin(*ON_TEST, code=1)
    assert f"correct profile test:\n  {reason}" in text
    assert double.jobs == []
    shown = vswin("status", "table6", *TINY, "--seeds", "1")
    assert f"3 runs: Slurm refused it: {reason}" in shown
    assert f"Slurm refused it: {reason}" in vswin("logs", "table6/none", *TINY)
    # with a corrected profile the next launch submits
    profile()
    assert "submitted 3 of 4 runs" in vswin(*ON_TEST)
    assert "refused" not in vswin("status", "table6", *TINY, "--seeds", "1")

    profile(partition="nowhere")
    assert "Invalid partition name specified" in vswin("check", "table6", *TINY, "--no-steps", "--on", "test", code=1)
    profile()
    pinnable = json.loads(vswin("check", "table6", *TINY, "--no-steps", "--on", "test", "--json"))
    said = {item["aspect"]: item["detail"] for item in pinnable if item["about"] == "jobs"}
    assert said["Slurm"] == "it would start the first at 2026-12-01T04:41:09"
    assert said["code"].endswith("runs/code/clone")
    profile(time="5-0")
    with pytest.raises(NotReadyError, match=r"time = 5-0 is 5.0 days, more than the cluster's .* allows: 24:00 h"):
        launched("table4")


def test_a_refused_job_is_never_adopted(double: SlurmDouble) -> None:
    """Slurm keeps it as FAILED under the name that it was submitted by."""
    double.fault("sbatch", "refuse")
    # as if the resources had gone between the question and the submission
    text = vswin(*ON_TEST, code=1)
    assert "sbatch did not take the jobs" in text
    assert "Requested node configuration is not available" in text
    [kept] = double.jobs
    assert kept["elements"][0]["squeue"] == "FAILED"
    assert all(job_of(run) is None for run in runs_of("table6"))
    double.mend()
    found = launched()
    assert (len(found.submitted), found.adopted) == (3, ())
    # a refusal is no start that failed
    submissions = [Submission.of(run.directory) for run in runs_of("table6")]
    assert [(each.unstarted, each.refused) for each in submissions if each] == [(0, None)] * 3


def test_an_answer_that_comes_too_late_is_no_refusal(double: SlurmDouble) -> None:
    double.fault("sbatch", "late")
    found = launched()
    assert found.jobs == (double.jobs[0]["id"],)
    assert found.ok
    # taken, but who could tell: the next launch asks again
    double.fault("squeue", "Unable to contact slurm controller")
    with pytest.raises(Exception, match="could not be asked, the next launch does"):
        launched("table4")
    with pytest.raises(SlurmError, match=r"whether it took .* \(table4/split seed 0, .*nothing is submitted"):
        launched("table4")
    double.mend()
    again = launched("table4")
    assert again.adopted == (double.jobs[1]["id"],)
    assert len(double.jobs) == 2


# ---------------------------------------------------------------------------------------------- a queue that is full


def test_only_what_fits_into_the_queue_is_submitted(double: SlurmDouble) -> None:
    double.has(submit_limit=4)
    text = vswin("launch", "table4", "table6", "--seeds", "2", *TINY, "--on", "test", "--allow-dirty")
    assert "submitted 4 of 11 runs to test: 101" in text
    assert "6 of 11 runs do not fit into the queue, and the next launch submits them" in text
    assert "AssocMaxSubmitJobLimit" in text
    assert len(double.jobs[0]["elements"]) == 4
    found = launched("table4", "table6", seeds=2)
    assert (found.jobs, len(found.left), len(found.on_cluster), found.ok) == ((), 6, 4, True)
    # a limit must not hide what Slurm has against each of the jobs
    double.stand(double.jobs[0]["id"], squeue="", sacct="CANCELLED")
    profile(memory="400GB")
    with pytest.raises(NotReadyError, match="Requested node configuration is not available"):
        launched("table4", "table6", seeds=2)
    profile()
    again = launched("table4", "table6", seeds=2)
    assert (len(again.submitted), len(again.left)) == (4, 6)
    outlook = preview(["table8"], scale=Scale.TINY, target=Target(profile="test")).outlook
    assert outlook is not None
    assert "AssocMaxSubmitJobLimit" in outlook.full


# ---------------------------------------------------------------------------------------- what is named on the way


def test_variants_and_ranges_of_seeds_are_launched(double: SlurmDouble) -> None:
    text = vswin("launch", "table6/none", "table4/split", "--seeds", "3-4", *TINY, "--on", "test", "--allow-dirty")
    assert "submitted 4 of 5 runs" in text
    [job] = double.jobs
    assert "--comment='table6/none s3, table4/split s3, table6/none s4, table4/split s4'" in job["script"]
    text = vswin("status", "table6/none", *TINY, "--seeds", "3,4")
    assert "seeds 3-4: 1 of 3 runs done" in text
    assert "1 of 2 runs done" in vswin("status", "table6/none", *TINY, "--seeds", "1")


def test_rows_have_the_names_of_the_table_that_was_asked_for(double: SlurmDouble) -> None:
    """table6/full is the same run as table4/joint, which stands first."""
    vswin(*ON_TEST)
    text = vswin("status", "table6", *TINY, "--seeds", "1", "--runs")
    assert "table6/full" in text
    assert "table4" not in text
    assert "table4/joint" in vswin("status", *TINY, "--seeds", "1", "--runs")
    shown = json.loads(vswin("status", "table6", *TINY, "--seeds", "1", "--json"))
    assert [item["name"] for item in shown[1:]] == ["table6/full", "table6/spatial", "table6/none"]


def test_cancel_says_who_ends_along(double: SlurmDouble, home: Path) -> None:
    [image_model] = runs_of("table6")[0].upstream
    for file in image_model.directory.results():
        file.unlink()
    assert len(launched().submitted) == 4
    for dry_run, told in ((["--dry-run"], "would end"), ([], "end")):
        text = vswin("cancel", "upstream", *TINY, *dry_run)
        assert f"3 runs wait for these and {told}, too: table4/joint seed 0, table6/spatial" in text
    assert double.calls("scancel") == [f"scancel {job_of(image_model)}"]


def test_slurm_is_asked_about_runs_that_are_not_done_only(double: SlurmDouble) -> None:
    launched()
    before = len(double.calls())
    vswin("status", "table6", *TINY, "--seeds", "1")
    # and once for jobs that are in no line of the table
    assert [call.split()[0] for call in double.calls()[before:]] == ["squeue", "squeue"]
    for run in runs_of("table6"):
        for protocol in run.experiment.protocols:
            run.directory.result(protocol).parent.mkdir(parents=True)
            run.directory.result(protocol).write_text('{"top1": 1.0}')
    before = len(double.calls())
    vswin("status", "table6", *TINY, "--seeds", "1")
    assert len(double.calls()) == before + 1


def test_jobs_that_no_table_shows_are_listed_and_can_be_cancelled(
    double: SlurmDouble, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = ("status", "table6", *TINY, "--seeds", "1")
    launched("table6", seeds=2)
    launched("table4/split", seeds=1)
    text = vswin(*status)
    assert text.count("also in the queue: job 100_") == 3
    assert "table6/spatial seed 1: another seed" in text
    assert "table4/split" not in text
    assert "cancel --orphans" not in text
    assert "nothing to cancel" in vswin("cancel", "--orphans", *TINY)
    # its row was edited: another signature
    edited = runs_of("table6")[1].directory.path
    edited.parent.rename(edited.parent.with_name("0123456789"))
    assert slurm.call("squeue", "--noheader", "--array", "--format=%T").count("PENDING") == 7
    text = vswin(*status)
    assert "job 100_1 is pending, table6/spatial seed 0: no table has such a row any more" in text
    assert "vswin cancel --orphans ends those" in text
    assert "would be cancelled" in vswin("cancel", "--orphans", *TINY, "--dry-run")
    found = json.loads(vswin("cancel", "--orphans", *TINY, "--json"))
    assert {item["run"] for item in found} == {"table6/spatial seed 0", "table6/spatial seed 1"}
    assert slurm.call("squeue", "--noheader", "--array", "--format=%T").count("PENDING") == 5
    # jobs of another folder of runs are nobody's business
    (home / "other" / "tiny").mkdir(parents=True)
    (home / "other" / "tiny" / "jobs").symlink_to(home / "runs" / "tiny" / "jobs")
    monkeypatch.setenv("VSWIN_RUNS", str(home / "other"))
    assert "also in the queue" not in vswin(*status)


def test_a_limit_is_held_by_one_array_of_jobs_that_wait_for_different_runs(double: SlurmDouble, home: Path) -> None:
    profile(parallel=2)
    [image_model] = runs_of("table6")[0].upstream
    for file in image_model.directory.results():
        file.unlink()
    found = preview(["table6"], scale=Scale.TINY, seeds=1, target=Target(profile="test", allow_dirty=True))
    assert found.outlook is not None
    assert (found.outlook.arrays, found.outlook.jobs, found.outlook.at_once) == (1, 4, 2)
    assert len(launched().submitted) == 4
    [job] = double.jobs
    assert "#SBATCH --array=0-3%2" in job["script"]
    assert "#SBATCH --hold" in job["script"]
    number = job["id"]
    assert [each["dependency"] for each in job["elements"]] == ["", *[f"afterok:{number}_0"] * 3]
    assert {each["reason"] for each in job["elements"]} == {"Priority"}


@pytest.mark.parametrize("command", ["update", "release"])
def test_an_array_that_was_submitted_and_not_released_is_finished_by_the_next_launch(
    double: SlurmDouble, command: str
) -> None:
    """A job must neither start before what it waits for nor be held for ever."""
    profile(parallel=2)
    [image_model] = runs_of("table6")[0].upstream
    for file in image_model.directory.results():
        file.unlink()
    double.fault("scontrol", f"only {command}")
    with pytest.raises(ExplainedError, match="was submitted, but not finished; the next launch does"):
        launched()
    assert {each["reason"] for each in double.jobs[0]["elements"]} == {"JobHeldUser"}
    double.mend()
    found = launched()
    assert found.adopted == (double.jobs[0]["id"],)
    assert {each["reason"] for each in double.jobs[0]["elements"]} == {"Priority"}
    assert len(double.jobs) == 1


def test_a_watched_status_asks_slurm_every_30_seconds_at_most(
    double: SlurmDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched()
    terminal = Console(force_terminal=True, file=io.StringIO(), width=200)
    monkeypatch.setattr(look_after, "console", terminal)
    looks = iter(range(5))

    def sleep(seconds: float) -> None:
        if next(looks, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(look_after, "time", SimpleNamespace(sleep=sleep))
    before = len(double.calls())
    vswin("status", "table6", *TINY, "--seeds", "1", "--watch")
    assert "3 PENDING" in terminal.file.getvalue()  # type: ignore[attr-defined]
    assert [call.split()[0] for call in double.calls()[before:]] == ["squeue"]


# ------------------------------------------------------------------------------------------------- this machine


@pytest.mark.usefixtures("home")
def test_a_folder_of_runs_that_cannot_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / "file" / "runs"))
    for command in (("launch", "table6", "--seeds", "1"), ("run", "upstream/image-t-small")):
        text = vswin(*command, *TINY, code=1)
        assert "file is no folder; set $VSWIN_RUNS to one that you can write to" in text
    assert "is no folder" in vswin("launch", "table6", *TINY, "--dry-run", code=1)
    assert "is no folder" in vswin("check", "table6", *TINY, "--no-steps", code=1)
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    assert "cannot be written to; set $VSWIN_RUNS" in vswin("launch", "table6", *TINY, "--dry-run", code=1)


@pytest.mark.usefixtures("home")
def test_without_a_gpu_paper_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from experiments.launch import launching

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    # data and weights of scale paper are there
    monkeypatch.setattr(launching, "_check_ready", lambda steps: None)
    text = vswin("launch", "table6", "--scale", "paper", "--seeds", "1", code=1)
    assert "device, this machine: scale paper needs a GPU and torch sees none here" in text
    assert "--cpu computes without" in text
    assert not any(run.directory.path.exists() for run in paper_runs())
    checked = json.loads(vswin("check", "table6", "--scale", "paper", "--no-steps", "--json", code=1))
    assert [item["outcome"] for item in checked if item["aspect"] == "device"] == ["failed"]
    checked = json.loads(vswin("check", "table6", "--scale", "paper", "--no-steps", "--cpu", "--json", code=1))
    assert not [item for item in checked if item["aspect"] == "device"]
    # nothing has failed, so nothing has to be retried
    steps = json.loads(
        vswin("launch", "table6", "--scale", "paper", "--seeds", "1", "--cpu", "--dry-run", "--json", code=1)
    )
    assert {step["action"] for step in steps} == {"SUBMIT"}


def paper_runs() -> list[Run]:
    return [Run(each, 0) for each in experiments(Scale.PAPER, [find_table("table6")])]
