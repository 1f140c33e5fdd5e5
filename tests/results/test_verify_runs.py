"""Runs prove themselves: whatever is done to a file of one, ``vswin verify`` names it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from experiments.cli.main import app
from experiments.registry.recipe import Scale
from experiments.results.verify_runs import Walk, verify_runs, walk
from experiments.runs.directory import RunDirectory
from experiments.runs.journal import Journal, missing_steps
from tests.support.damages import DAMAGES, Damaging, empty, flipped, half, missing
from tests.support.tiny_runs import DONE, STOPPED, run_of

FILES = ("checkpoints", "weights.safetensors", "journal.jsonl", "attempt.json", "data.json", "code.json", "recipe.json")


@pytest.fixture(autouse=True)
def runs(tiny_runs: Path, empty_home: Path) -> Path:
    """A copy of the runs, which a test may damage."""
    shutil.copytree(tiny_runs, empty_home / "runs")
    return empty_home / "runs"


def verified(*arguments: str, code: int) -> str:
    answer = CliRunner().invoke(app, ["verify", *arguments])
    assert answer.exit_code == code, (answer.output, answer.exception)
    assert answer.exception is None or isinstance(answer.exception, SystemExit)
    return answer.stdout


def test_whole_runs_are_intact(runs: Path) -> None:
    found = verify_runs(Scale.TINY)
    assert (found.runs, found.intact, found.damages, found.orphans, found.strays) == (3, 3, (), (), ())
    [line] = [line for line in verified(code=0).splitlines() if "runs" in line]
    assert line.split() == ["tiny", "runs", "3", "0", "0", "0"]
    assert json.loads(verified(str(runs), "--json", code=0))["runs"]["tiny"]["intact"] == 3


def file_of(run: RunDirectory, name: str) -> Path:
    return max(run.checkpoints.iterdir()) if name == "checkpoints" else run.path / name


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage",
    [half, flipped, *(pytest.param(each, marks=pytest.mark.slow) for each in DAMAGES if each not in (half, flipped))],
)
def test_damage_is_named(name: str, damage: Damaging) -> None:
    run = run_of(DONE).directory
    path = file_of(run, name)
    damage(path)
    found = verify_runs(Scale.TINY).damages
    if damage is missing and name in ("weights.safetensors", "attempt.json", "code.json", "recipe.json", "checkpoints"):
        # none of it is needed to prove the rest
        assert {each.file for each in found} <= {path, run.weights}
    elif damage is flipped and name in ("attempt.json", "code.json", "data.json", "journal.jsonl"):
        # a digit that is another: only digests could tell
        assert {each.file for each in found} <= {path}
    elif damage is empty and name == "journal.jsonl":
        assert "ends at step 0, the newest checkpoint is of step" in str(found)
    else:
        assert path in [each.file for each in found]
        assert path.name in verified(code=1)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda lines: lines[:10] + lines[14:], "lacks steps 11 to 14"),
        (lambda lines: lines[:3], "ends at step 3, the newest checkpoint is of step 30"),
        (lambda lines: lines[:20] + lines[15:], "step 16 comes after step 20"),
    ],
)
def test_a_journal_with_a_hole_or_doubled_steps_is_named(change: Callable[[list[str]], list[str]], what: str) -> None:
    path = run_of(DONE).directory.journal
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
    found = verify_runs(Scale.TINY).damages
    assert found[0].file == path
    assert what in " ".join(each.what for each in found)


def test_weights_that_are_not_those_of_the_checkpoint_are_named() -> None:
    path = run_of(DONE).directory.weights
    tensors = load_file(path)
    name = next(iter(tensors))
    tensors[name] = tensors[name] + 1
    save_file(tensors, path, metadata={"format": "pt"})
    [damage] = verify_runs(Scale.TINY).damages
    assert (damage.file, damage.what) == (path, "holds other weights than the newest checkpoint")


def test_copies_and_runs_of_no_recipe_are_counted(runs: Path) -> None:
    path = run_of(STOPPED).directory.path
    shutil.copytree(path, path.with_name("seed-1.bak"))
    shutil.copytree(path, runs / "tiny" / "0123456789" / "seed-0")
    found = verify_runs(Scale.TINY)
    assert (found.intact, len(found.orphans), len(found.strays)) == (3, 1, 1)
    assert "scale tiny: 1 runs of recipes that no table has" in verified(code=0)


def test_steps_that_a_line_says_are_lost_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        for step in (1, 2, 6):
            journal.write(step, {"train/loss": 1.0})
    assert walk(path) == Walk(end=path.stat().st_size, step=6)
    assert missing_steps(path, last=6) == ((3, 5),)


def test_the_recipe_of_another_run_is_named() -> None:
    run = run_of(DONE)
    shutil.copy(run.upstream[0].directory.recipe, run.directory.recipe)
    [damage] = verify_runs(Scale.TINY).damages
    assert damage.what == "is the recipe of another run"


def test_nothing_to_verify_is_said(empty_home: Path) -> None:
    (empty_home / "nothing").mkdir()
    assert "nothing to verify in" in verified(str(empty_home / "nothing"), code=0)
    verified(str(empty_home / "nowhere"), code=2)
