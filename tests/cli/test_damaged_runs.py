"""Every kind of file of a run x everything that happens to files: no command ends in a traceback, the others go on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from experiments.cli.main import app
from experiments.files import write_text
from experiments.launch.repair import repair
from experiments.runs.attempts import Attempt, Submission
from experiments.runs.jobs import Jobs
from experiments.runs.run import Run
from experiments.runs.state import RunState
from experiments.tracking.mirror import Mirror
from experiments.tracking.told import behind
from tests.support.damages import DAMAGES, Damaging, copied, empty, flipped, folder, half, looping, unreadable
from tests.support.tiny_runs import DONE, STOPPED, run_of

FILES = (
    *("attempt.json", "submission.json", "journal.jsonl", "error.txt", "tracking.json"),
    *("data.json", "code.json", "machine.json", "datasets.json", "recipe.json", "environment.txt"),
    *("weights.safetensors", "checkpoints/*", "tests/*.json", "tests/*.npz"),
)
TINY = ("--scale", "tiny", "--seeds", "2")
COMMANDS = (
    ("status", "table4", *TINY, "--json"),
    ("status", "table4", *TINY, "--runs"),
    ("launch", "table4", *TINY, "--dry-run"),
    ("verify",),
)


def foreign(path: Path) -> None:
    """The same file of the run that all start from."""
    [other] = run_of(DONE).upstream
    pattern = path.name if path.parent.name.startswith("seed-") else f"{path.parent.name}/*{path.suffix}"
    found = sorted(other.directory.path.glob(pattern))
    shutil.copy(found[-1], path) if found else path.write_bytes(b"{}")


EVERY = (*DAMAGES, foreign, copied, looping, unreadable)
FAST = (empty, half, flipped, foreign)


@pytest.fixture(scope="module")
def told(tiny_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs, with every note that there may be, and told to MLflow."""
    copy = tmp_path_factory.mktemp("told") / "runs"
    shutil.copytree(tiny_runs, copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VSWIN_RUNS", str(copy))
        for run in (run_of(DONE), run_of(STOPPED)):
            attempt = Attempt.of(run.directory)
            assert attempt
            Submission(profile="local", at=0.0, log="", process=attempt.process).note(run.directory)
        write_text(run_of(STOPPED).directory.error, "ValueError: no\n")
        (copy / "tiny" / "seed").mkdir()
    return copy


@pytest.fixture(autouse=True)
def runs(told: Path, empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(told, empty_home / "runs")
    # nothing answers there: what a store is told is looked at below
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    return empty_home / "runs"


def call(*command: str) -> Result:
    answer = CliRunner().invoke(app, command)
    assert answer.exception is None or isinstance(answer.exception, SystemExit), (command, answer.exception)
    assert answer.exit_code in (0, 1), (command, answer.output)
    return answer


def file_of(run: Run, pattern: str) -> Path:
    found = sorted(run.directory.path.glob(pattern))
    if not found:
        found = [run.directory.path / pattern]
        write_text(found[0], '{"uri": "nowhere"}\n')
    return found[-1]


def may_be_slow(damage: Damaging) -> object:
    marks = [] if damage in FAST else [pytest.mark.slow]
    if damage is unreadable:
        marks.append(pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything"))
    return pytest.param(damage, marks=marks, id=damage.__name__)


@pytest.mark.parametrize("pattern", FILES)
@pytest.mark.parametrize("damage", [may_be_slow(damage) for damage in EVERY])
def test_no_command_ends_in_a_traceback(pattern: str, damage: Damaging) -> None:
    """Of the run that is done its number stays, or it is DAMAGED; the stopped one is never taken for done."""
    damaged, [upstream] = run_of(DONE), run_of(DONE).upstream
    if pattern in ("error.txt", "machine.json", "attempt.json", "submission.json", "data.json", "checkpoints/*"):
        damaged = run_of(STOPPED)
    before = {run: run.look().results for run in (run_of(DONE), upstream)}
    damage(file_of(damaged, pattern))
    shown = {
        (item["signature"], item["seed"]): item for item in json.loads(call(*COMMANDS[0]).stdout) if item["attempts"]
    }
    for run, results in before.items():
        now = shown.get((run.signature, run.seed))
        if now and now["action"] == "DONE":
            assert list(now["top1"].values()) == [result["top1"] for result in results.values()]
        else:
            assert run == damaged
    for command in COMMANDS[1:]:
        call(*command)
    repaired = repair([upstream, damaged], Jobs([upstream, damaged]))
    assert {each.run for each in repaired} <= {damaged}
    assert {each.failure for each in repaired} <= {""}
    # whatever it was: now it is as it was, to be gone on with, or to be begun anew
    assert damaged.state() is not RunState.DAMAGED
    if damaged.seed == STOPPED:
        assert damaged.state() in (RunState.FAILED, RunState.INTERRUPTED, RunState.NEW)
    assert repair([upstream, damaged], Jobs([upstream, damaged])) == []


@pytest.mark.slow
@pytest.mark.parametrize("pattern", FILES)
@pytest.mark.parametrize("damage", [empty, half, folder, looping])
def test_mlflow_is_told_of_the_others(
    pattern: str, damage: Damaging, empty_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = run_of(STOPPED)
    others = [run_of(DONE), *run_of(DONE).upstream]
    damage(file_of(damaged, pattern))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    pushed = Mirror().round([damaged, *others])
    assert pushed.failures.keys() <= {damaged.name}
    assert behind({run: run.state() for run in others}) == ""
    call("sync", "--scale", "tiny")
