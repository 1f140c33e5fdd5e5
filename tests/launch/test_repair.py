"""A launch repairs what is damaged from what is intact: the run ends as if nothing had happened to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from _pytest.mark.structures import ParameterSet

from experiments.launch.launching import preview
from experiments.launch.plan import Action
from experiments.launch.repair import Repair, repair
from experiments.registry.recipe import Scale
from experiments.runs.jobs import Jobs
from experiments.runs.run import Run
from experiments.runs.state import RunState
from tests.support.damages import dangling, empty, flipped, folder, garbage, half, missing
from tests.support.tiny_runs import DONE, STOPPED, computed, go_on, run_of, scores


@pytest.fixture(scope="module")
def made(tiny_data: Path, tiny_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of scale tiny: one done, one stopped; and in ``ended`` the stopped one as it ends without damage."""
    home = tmp_path_factory.mktemp("tiny-runs")
    shutil.copytree(tiny_runs, home / "runs")
    shutil.copytree(tiny_runs, home / "ended")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VSWIN_DATA", str(tiny_data))
        patch.setenv("VSWIN_RUNS", str(home / "ended"))
        go_on(run_of(STOPPED))
    return home


@pytest.fixture(autouse=True)
def runs(made: Path, empty_home: Path) -> Path:
    """A copy of the runs, which a test may damage."""
    shutil.copytree(made / "runs", empty_home / "runs")
    return empty_home / "runs"


def slow(*values: object) -> ParameterSet:
    return pytest.param(*values, marks=pytest.mark.slow)


def mend(run: Run) -> list[Repair]:
    return repair([run], Jobs([run]))


def newest(run: Run) -> Path:
    return max(run.directory.checkpoints.glob("step-*.safetensors"))


def assert_ends_as_undisturbed(run: Run, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run.state() is RunState.DONE
    found = computed(run.directory), scores(run.directory)
    where = made / ("ended" if run.seed == STOPPED else "runs")
    with monkeypatch.context() as patch:
        patch.setenv("VSWIN_RUNS", str(where))
        expected = computed(run.directory), scores(run.directory)
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])


def bad_end(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\x00\xff garbage\n" * 3)


def bad_lines(path: Path) -> None:
    """Garbage in place of the last three lines, steps that the newest checkpoint has."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-3]) + os.urandom(40).replace(b"\n", b"") + b"\n")


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("attempt.json", empty),
        slow("attempt.json", folder),
        slow("attempt.json", dangling),
        slow("machine.json", half),
        ("journal.jsonl", bad_end),
        slow("code.json", folder),
        slow("error.txt", folder),
    ],
)
def test_a_stopped_run_goes_on_without_its_damaged_note(
    file: str, damage: Callable[[Path], None], made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(STOPPED)
    path = run.directory.path / file
    if not path.exists():
        path.touch()
    before = run.look().step
    damage(path)
    shown = {step.run: step for step in preview(["table4"], scale=Scale.TINY, seeds=2).steps}
    assert shown[run].action is Action.DAMAGED
    assert f"{file}: " in shown[run].why
    assert "vswin launch sets" in shown[run].why
    # a dry run says it without doing it
    assert not list(run.directory.path.glob("*.damaged-1"))
    [repaired] = mend(run)
    assert (repaired.damage.file, repaired.failure) == (path, "")
    assert path.with_name(f"{file}.damaged-1").exists() or damage is dangling
    assert mend(run) == []
    assert run.state() in (RunState.INTERRUPTED, RunState.NEW)
    assert run.look().step == before
    go_on(run)
    assert_ends_as_undisturbed(run, made, monkeypatch)


@pytest.mark.parametrize("damage", [flipped, *map(slow, (empty, half, folder, dangling))])
@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_a_damaged_test_is_set_aside_and_repeated(
    damage: Callable[[Path], None], suffix: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(DONE)
    [record] = run.directory.results()
    damage(record.with_suffix(suffix))
    shown = {step.run: step for step in preview(["table4"], scale=Scale.TINY, seeds=1).steps}
    assert shown[run].action is Action.DAMAGED
    assert mend(run)
    assert mend(run) == []
    assert run.state() is RunState.INTERRUPTED
    go_on(run)
    assert_ends_as_undisturbed(run, made, monkeypatch)


def test_scores_of_another_run_are_noticed() -> None:
    run, other = run_of(DONE), next(iter(run_of(DONE).upstream))
    [record] = run.directory.results()
    [foreign] = other.directory.results()
    shutil.copy(foreign.with_suffix(".npz"), record.with_suffix(".npz"))
    [repaired] = mend(run)
    assert repaired.damage.file == record
    shutil.copy(foreign, record)
    shutil.copy(foreign.with_suffix(".npz"), record.with_suffix(".npz"))
    [repaired] = mend(run)
    assert "is the record of another test" in repaired.damage.what


def test_scores_that_have_a_record_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(DONE)
    [protocol] = run.experiment.protocols
    read: list[str] = []
    monkeypatch.setattr("experiments.launch.repair.check_test", lambda there, protocol: read.append(protocol))
    assert mend(run) == []
    assert set(read) == {protocol}
    read.clear()
    recorded = {(run.signature, protocol, f"seed{run.seed}")}
    monkeypatch.setattr("experiments.launch.repair.recorded_tests", lambda scale: recorded)
    assert mend(run) == []
    assert read == []


@pytest.mark.parametrize("has_older", [slow(True), False])
def test_steps_that_the_journal_lost_are_computed_again_where_an_older_checkpoint_is_left(
    has_older: bool, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(STOPPED)
    checkpoint = newest(run)
    if not has_older:
        for path in run.directory.checkpoints.iterdir():
            if path != checkpoint:
                path.unlink()
    bad_lines(run.directory.journal)
    mend(run)
    if has_older:
        assert newest(run) < checkpoint
        go_on(run)
        assert_ends_as_undisturbed(run, made, monkeypatch)
    else:
        # better a hole in a curve than a training from its beginning
        assert newest(run) == checkpoint
        assert mend(run) == []


@pytest.mark.parametrize("damage", [missing, *map(slow, (empty, garbage, folder))])
def test_without_the_note_of_its_start_a_run_begins_anew(
    damage: Callable[[Path], None], made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(STOPPED)
    damage(run.directory.data)
    [repaired] = mend(run)
    assert repaired.damage.file == run.directory.data
    assert run.state() is RunState.NEW
    [aside] = run.directory.path.parent.glob(f"replaced-seed-{STOPPED}-*")
    assert (aside / "journal.jsonl").exists()
    go_on(run)
    assert_ends_as_undisturbed(run, made, monkeypatch)


@pytest.mark.parametrize("damage", [half, *map(slow, (empty, garbage, folder))])
def test_checkpoints_of_which_none_is_whole_are_set_aside(
    damage: Callable[[Path], None], made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(STOPPED)
    saved = list(run.directory.checkpoints.iterdir())
    damage(newest(run))
    # training takes the older one by itself
    assert mend(run) == []
    for path in saved:
        if path.is_file() and path != newest(run):
            damage(path)
    repaired = mend(run)
    assert len(repaired) == len(saved) > 1
    assert all("training starts over" in each.damage.remedy for each in repaired)
    go_on(run)
    assert_ends_as_undisturbed(run, made, monkeypatch)


def test_nothing_is_repaired_while_something_works_on_the_run() -> None:
    from experiments.runs.attempts import Ownership

    run = run_of(STOPPED)
    Ownership(run.directory)
    bad_end(run.directory.journal)
    run.directory.submission.write_text("")
    assert run.state() is RunState.RUNNING
    assert mend(run) == []
