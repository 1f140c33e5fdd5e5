"""What MLflow has not been told is said by everybody, without mlflow; a damaged store is named with the remedy."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.cli.main import app
from experiments.registry.recipe import Scale
from experiments.results.verify_runs import verify_runs
from experiments.runs.state import RunState
from experiments.tracking.mirror import Mirror, search_runs
from experiments.tracking.told import Told, behind, is_behind
from tests.support.command_line import vswin_command
from tests.support.damages import empty, folder, garbage, half
from tests.support.made_up_runs import extend, make_up_run

pytestmark = pytest.mark.usefixtures("empty_home")


def test_runs_that_mlflow_lacks_are_counted() -> None:
    done, stopped = make_up_run("table4/split"), make_up_run("table4/split", seed=1, done=False)
    states = {done: done.state(), stopped: stopped.state()}
    assert behind({}) == ""
    assert behind({done: states[done]}) == "1 run is behind in MLflow: vswin sync"
    # one that is at work is told while it is
    assert behind({done: RunState.RUNNING}) == ""
    stopped.directory.attempt.write_text("")
    states[stopped] = stopped.state()
    assert behind(states) == "2 runs are behind in MLflow: vswin sync"
    for command in (["status", "table4"], ["status", "table4", "--runs"], ["launch", "table4", "--mode", "read-only"]):
        answer = CliRunner().invoke(app, [*command, "--scale", "tiny", "--seeds", "2"])
        assert "2 runs are behind in MLflow: vswin sync" in answer.output or command[0] == "launch"
    mirror = Mirror()
    mirror.push(done)
    mirror.push(stopped)
    assert behind(states) == ""
    extend(done, steps=1)
    assert behind(states) == "1 run is behind in MLflow: vswin sync"


@pytest.mark.parametrize("damage", [empty, half, garbage, folder])
def test_a_damaged_note_of_what_was_told_is_told_again(damage: Callable[[Path], None]) -> None:
    run = make_up_run("table4/split")
    Mirror().push(run)
    damage(run.directory.tracking)
    assert Told.read(run) is None
    assert is_behind(run)
    assert Mirror().round([run]).failures == {}
    assert not is_behind(run)
    [name] = search_runs(Mirror().uri, Scale.TINY)["name"]
    assert name


@pytest.mark.parametrize("damage", [garbage, half, folder])
def test_a_damaged_store_is_named_with_the_remedy(damage: Callable[[Path], None], empty_home: Path) -> None:
    run = make_up_run("table4/split")
    Mirror().push(run)
    database = empty_home / "runs" / "mlflow.db"
    damage(database)
    for command in (["sync"], ["ui"]):
        answer = CliRunner().invoke(app, [*command, "--scale", "tiny"])
        assert answer.exit_code == 1 or command == ["ui"]
        told = f"{answer.output} {answer.exception}"
        assert "mlflow.db: " in told
        assert "delete it, and vswin sync tells a new one everything" in told
    shutil.rmtree(database) if database.is_dir() else database.unlink()
    if damage is half:
        # a process of its own: MLflow keeps a connection to what was deleted
        subprocess.run(vswin_command("sync", "--scale", "tiny"), check=True, capture_output=True)
        assert not is_behind(run)


def test_a_store_that_somebody_writes_to_is_not_damaged(empty_home: Path) -> None:
    run = make_up_run("table4/split")
    Mirror().push(run)
    writer = sqlite3.connect(empty_home / "runs" / "mlflow.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert Mirror().experiment_id(Scale.TINY)
    writer.close()


@pytest.mark.slow
def test_folders_with_odd_letters(tiny_data: Path, tiny_upstream: Path, tmp_path: Path) -> None:
    home = tmp_path / "odd %41 100% ?x=1 #y [z] {b}"
    shutil.copytree(tiny_upstream / "tiny", home / "runs" / "tiny", ignore=shutil.ignore_patterns("tracking.json"))
    variables = {
        "VSWIN_DATA": str(tiny_data),
        "VSWIN_RUNS": str(home / "runs"),
        "VSWIN_RESULTS": str(home / "results #1"),
        "MLFLOW_TRACKING_URI": "",
    }
    for command in (
        ("run", "table4/split", "--scale", "tiny"),
        ("status", "table4", "--scale", "tiny", "--seeds", "1"),
        ("sync", "--scale", "tiny"),
        ("verify",),
    ):
        answer = subprocess.run(
            vswin_command(*command), env={**os.environ, **variables}, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, (command, answer.stdout, answer.stderr)
    assert "behind" not in answer.stdout
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        assert verify_runs(Scale.TINY).intact == 2
        assert (home / "runs" / "mlflow.db").is_file()
        assert len(search_runs(Mirror().uri, Scale.TINY)) == 2
        # MLflow makes an empty folder by the name in the address; nothing lies where an unquoted one would have put it
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and home not in path.parents]
