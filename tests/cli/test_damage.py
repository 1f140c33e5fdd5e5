"""Damage to a run is a state with a remedy, not a traceback: whatever happens to its files, the others go on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from experiments.cli.main import app
from experiments.launch.plan import Action, plan_now
from experiments.registry.catalogue import find_variant
from experiments.registry.recipe import Scale
from experiments.results.verify import verify
from experiments.runs.attempts import Attempt, Submission
from experiments.runs.run import Run
from tests.support.damages import DAMAGES, Damaging, dangling, empty, garbage, missing
from tests.support.finished_runs import finished_run

FILES = ("attempt.json", "submission.json", "journal.jsonl", "tests/*.json", "tests/*.npz")
COMMANDS = (
    ("status", "table4", "--all"),
    ("status", "table4", "--json"),
    ("launch", "table4", "--seeds", "2", "--dry-run"),
    ("logs", "table4/split"),
    ("cancel", "table4", "--dry-run"),
    ("forecast", "table4"),
    ("collect",),
    ("tables", "table4"),
    ("verify",),
)


@pytest.fixture(autouse=True)
def _folders(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of its own; MLflow is not what is looked at here, and away."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def two_runs() -> tuple[Run, Run]:
    runs = tuple(finished_run(find_variant("table4/split"), seed=seed, top1=70.0 + seed) for seed in range(2))
    for run in runs:
        attempt = Attempt.of(run.directory)
        assert attempt
        # nothing works on them any more
        gone = replace(attempt.process, ticks=0)
        replace(attempt, process=gone).note(run.directory)
        Submission(profile="local", at=0.0, log="", process=gone).note(run.directory)
    return runs[0], runs[1]


def call(*command: str) -> Result:
    answer = CliRunner().invoke(app, command)
    assert answer.exception is None or isinstance(answer.exception, SystemExit), (command, answer.exception)
    assert answer.exit_code in (0, 1), (command, answer.output)
    return answer


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_no_command_ends_in_a_traceback_and_no_number_changes(file: str, damage: Damaging) -> None:
    damaged, intact = two_runs()
    [path] = damaged.directory.path.glob(file)
    damage(path)
    said = {command: call(*command).output for command in COMMANDS}
    found = {record.seed: record.top1 for record in verify(Scale.MINI).records}
    assert found[1] == 71.0
    # the damaged run is recorded as it was, or named, or known to be unfinished
    if 0 in found:
        assert found[0] == 70.0
    elif damage is not missing:
        assert path.name in said[("collect",)] or "2 never started" in said[COMMANDS[0]]
    assert {step.run: step.action for step in plan_now([intact.experiment], seeds=range(2))}[intact] is Action.DONE


@pytest.mark.parametrize("file", ["attempt.json", "submission.json", "journal.jsonl"])
@pytest.mark.parametrize("damage", [empty, garbage, dangling], ids=lambda damage: damage.__name__)
def test_an_unfinished_run_with_a_damaged_note_waits_for_its_user(file: str, damage: Damaging) -> None:
    damaged, _ = two_runs()
    for result in damaged.directory.results():
        result.unlink()
    path = damaged.directory.path / file
    damage(path)
    if (file, damage) == ("journal.jsonl", empty):
        # as that of a run before its first step
        return
    text = call("status", "table4", "--seeds", "2").output
    assert "1 DAMAGED" in text
    assert file in "".join(text.split())
    plan = call("launch", "table4", "--seeds", "2", "--dry-run").output
    assert "1 DAMAGED" in plan
