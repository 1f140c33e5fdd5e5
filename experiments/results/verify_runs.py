"""Verification of runs: journals, checkpoints, weights, tests and notes are those that a training left."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import folders
from ..files import Damage, DamagedError, read_json
from ..registry.catalogue import experiments
from ..registry.recipe import Scale, signatures_of
from ..runs import journal
from ..runs.directory import RunDirectory
from ..runs.look import CUT, STARTED_OVER
from ..runs.run import Run, existing
from ..runs.state import live_state
from .collect import check_test

_PUT_BACK = "put it back, or delete the run"
_ANEW = "it is written anew when the run goes on: vswin launch"
_WEIGHTS = "delete it: it is made again from the newest checkpoint where runs that start from it are launched"


@dataclass(frozen=True)
class Walk:
    """A journal read from its beginning to the first line that does not belong there, or to its end.

    ``end`` is the byte after the last good line and ``step`` its step; ``lacking`` are the steps between that no line
    has and none says are lost. Those that a line says are lost are known to record and plots.
    """

    end: int = 0
    step: int = 0
    lacking: tuple[range, ...] = ()
    damage: Damage | None = None


def walk(path: Path) -> Walk:
    """Read the journal at ``path``: its steps go up, by one where none is lacking or lost."""
    end = step = 0
    lacking: list[range] = []
    damage = None
    try:
        for entry, offset in journal.read(path):
            if entry.step <= step:
                damage = Damage(path, f"step {entry.step} comes after step {step}", CUT)
                break
            if entry.step > step + 1 and entry.missing != (step + 1, entry.step - 1):
                lacking.append(range(step + 1, entry.step))
            end, step = offset, entry.step
    except DamagedError as error:
        damage = error.damage
    return Walk(end, step, tuple(lacking), damage)


@dataclass(frozen=True)
class VerifiedRuns:
    """The runs of one scale: how many were looked at, are at work (and not judged), and what is wrong with the others.

    ``orphans`` are directories of recipes that no table has, ``strays`` what else lies among runs: copies, and what was
    set aside. Neither is read by anything.
    """

    scale: Scale
    runs: int
    at_work: int
    damages: tuple[Damage, ...]
    orphans: tuple[Path, ...]
    strays: tuple[Path, ...]

    @property
    def intact(self) -> int:
        """Runs without any damage, those at work left out."""
        damaged = {_run_folder(damage.file) for damage in self.damages}
        return self.runs - self.at_work - len(damaged)


def verify_runs(scale: Scale) -> VerifiedRuns:
    """Read everything that the runs of ``scale`` under ``$VSWIN_RUNS`` have left, and name what is damaged."""
    known = experiments(scale)
    damages: list[Damage] = []
    runs = list(existing(known))
    at_work = 0
    for run in runs:
        if live_state(run.look(), None):
            at_work += 1
        else:
            damages += damages_of(run)
    orphans, strays = _others({experiment.recipe.signature for experiment in known}, folders.runs() / scale)
    return VerifiedRuns(scale, len(runs), at_work, tuple(damages), tuple(orphans), tuple(strays))


def damages_of(run: Run) -> list[Damage]:
    """Everything that is wrong with a run at which nothing works."""
    look, there = run.look(), run.directory
    if not there.path.is_dir():
        return list(look.damages)
    found = [*look.of_results, *look.damages]
    told = {damage.file for damage in found}
    found += [damage for damage in _of_tests(there, look.results) if damage.file not in told]
    found += _of_notes(there)
    found += _of_training(there, journal_is_damaged=there.journal in told)
    return found


def _of_tests(run: RunDirectory, protocols: Iterable[str]) -> Iterator[Damage]:
    for protocol in protocols:
        try:
            check_test(run, protocol)
        except DamagedError as error:
            yield error.damage


def _of_notes(run: RunDirectory) -> Iterator[Damage]:
    for file, remedy in (
        (run.recipe, _ANEW),
        (run.data, STARTED_OVER),
        (run.machine, _ANEW),
        (run.code, _ANEW),
        (run.datasets, _ANEW),
        (run.tracking, "delete it: vswin sync tells MLflow everything again"),
    ):
        if not file.exists() and not file.is_symlink():
            continue
        try:
            content = read_json(file, remedy=remedy)
        except DamagedError as error:
            yield error.damage
            continue
        if file == run.recipe and _signature(content) != run.signature:
            yield Damage(file, "is the recipe of another run", remedy)


def _signature(recipe: dict[str, object]) -> str | None:
    try:
        return signatures_of(recipe)[0]
    except (KeyError, TypeError, ValueError):
        return None


def _of_training(run: RunDirectory, *, journal_is_damaged: bool) -> Iterator[Damage]:
    """Damage to journal, checkpoints and weights, and whatever does not fit together among them."""
    found = walk(run.journal)
    if found.damage and not journal_is_damaged:
        yield found.damage
    for steps in found.lacking:
        which = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
        yield Damage(run.journal, f"lacks {which}", _PUT_BACK)
    if (run.checkpoints.is_symlink() or run.checkpoints.exists()) and not run.checkpoints.is_dir():
        yield Damage(run.checkpoints, "is no directory", _PUT_BACK)
        return
    saved = sorted(run.checkpoints.glob("step-*.safetensors"))
    if saved and not (run.data.exists() or run.data.is_symlink()):
        yield Damage(run.data, "is missing", STARTED_OVER)
    if saved or run.weights.exists() or run.weights.is_symlink():
        yield from _of_tensors(run, saved, journal_ends_at=None if found.damage else found.step)


def _of_tensors(run: RunDirectory, saved: Sequence[Path], *, journal_ends_at: int | None) -> Iterator[Damage]:
    from vswin.models import WeightsError, read_checkpoint
    from vswin.training.checkpoint import CheckpointError, examine

    newest = None
    for path in saved:
        try:
            newest = examine(path)
        except CheckpointError as error:
            newest = None
            yield Damage(path, str(error).removeprefix(f"{path} ").removeprefix("is damaged: "), "delete it")
    if newest and journal_ends_at is not None:
        has = newest.step - newest.awaits_validation
        if journal_ends_at < has:
            yield Damage(
                run.journal, f"ends at step {journal_ends_at}, the newest checkpoint is of step {has}", _PUT_BACK
            )
    if not run.weights.exists() and not run.weights.is_symlink():
        return
    try:
        weights = read_checkpoint(run.weights)
    except (WeightsError, OSError) as error:
        yield Damage(run.weights, str(error).removeprefix(f"{run.weights} "), _WEIGHTS)
        return
    if newest and (
        weights.keys() != newest.weights.keys()
        or not all((weights[name] == value.to(weights[name].dtype)).all() for name, value in newest.weights.items())
    ):
        yield Damage(run.weights, "holds other weights than the newest checkpoint", _WEIGHTS)


def _others(known: set[str], folder: Path) -> tuple[list[Path], list[Path]]:
    """Directories of recipes that no table has, and what among runs is none."""
    orphans: list[Path] = []
    strays: list[Path] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(".") or not re.fullmatch(r"[0-9a-f]{10}", path.name) or not path.is_dir():
            continue
        inside = sorted(path.iterdir())
        if path.name not in known:
            orphans += [item for item in inside if item.name.startswith("seed-")]
            continue
        strays += [item for item in inside if not re.fullmatch(r"seed-(0|[1-9]\d*)|\..*", item.name)]
        for run in inside:
            strays += sorted(run.glob("**/*.damaged-*"))
    return orphans, strays


def _run_folder(file: Path) -> Path:
    """The directory of the run that ``file`` is of."""
    return next((path for path in (file, *file.parents) if path.name.startswith("seed-")), file)
