"""Repair of runs before they go on: from what is intact, else by setting aside. Never while anything works on a run.

What is set aside lies beside where it was, as ``<name>.damaged-<n>``, and every repair is told.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from ..files import Damage, DamagedError, beside, locked, read_json, set_aside, write_bytes, write_json
from ..registry.recipe import Scale
from ..results.collect import check_test
from ..results.recorded import check_archive, recorded_tests
from ..results.verify_runs import walk
from ..runs import journal
from ..runs.directory import RunDirectory
from ..runs.jobs import Jobs
from ..runs.look import CUT, SET_ASIDE, STARTED_OVER, TESTED_AGAIN, Look
from ..runs.run import Run
from ..runs.state import RunState, live_state

# Signature, protocol and seed of the tests of a scale that have an intact record.
_Recorded = Callable[[Scale], set[tuple[str, str, str]]]


@dataclass(frozen=True)
class Mending:
    """Damage that a launch repairs, and the way it does."""

    damage: Damage
    mend: Callable[[], object]


@dataclass(frozen=True)
class Repair:
    """A damage of ``run`` that was repaired as its remedy says; ``failure`` is why it could not be, empty if it was."""

    run: Run
    damage: Damage
    failure: str = ""

    def __str__(self) -> str:
        failed = f"; that failed: {self.failure}" if self.failure else ""
        return f"{self.run.name}: {str(self.damage).replace('vswin launch', 'this launch')}{failed}"


def found(runs: Iterable[Run], jobs: Jobs) -> dict[Run, Damage]:
    """The first damage of each of ``runs`` that a launch would repair."""
    recorded = cache(recorded_tests)
    first = ((run, next(_faults(run, jobs.look(run), jobs, recorded), None)) for run in runs)
    return {run: fault.damage for run, fault in first if fault}


def repair(runs: Iterable[Run], jobs: Jobs) -> list[Repair]:
    """Repair what is damaged of ``runs``. Hold the lock of the scale: nothing else may start them."""
    done: list[Repair] = []
    recorded = cache(recorded_tests)
    for run in runs:
        if next(_faults(run, jobs.look(run), jobs, recorded), None) is None:
            continue
        path = run.directory.path
        if not path.is_dir():
            done += _mend(run, _faults(run, run.look(), jobs, recorded))
            continue
        try:
            # as an attempt does that takes the run over: whoever came first is seen now
            with locked(path / ".claim.lock"):
                done += _mend(run, _faults(run, run.look(), jobs, recorded))
        except OSError as error:
            damage = Damage(path, "cannot be written to", "make it writable")
            done.append(Repair(run, damage, error.strerror or str(error)))
    return done


def _mend(run: Run, faults: Iterator[Mending]) -> Iterator[Repair]:
    for fault in faults:
        try:
            fault.mend()
        except OSError as error:
            yield Repair(run, fault.damage, error.strerror or str(error))
        else:
            yield Repair(run, fault.damage)
        if not run.directory.path.exists():
            # all of it was set aside
            return


def _faults(run: Run, look: Look, jobs: Jobs, recorded: _Recorded) -> Iterator[Mending]:
    """Defects of ``run`` that can be repaired now, in the order in which they are."""
    if not look.exists or live_state(look, jobs.job(run)):
        return
    there = run.directory
    if not there.path.is_dir():
        yield from (Mending(damage, partial(set_aside, there.path)) for damage in look.damages)
        return
    yield from _of_tests(run, look, recorded)
    if run.state(jobs.job(run), look=look) is RunState.DONE:
        # nothing but its tests is read any more
        return
    if damage := _of_start(there):
        yield Mending(damage, there.set_aside)
        return
    for file in (there.attempt, there.submission, there.error):
        yield from (Mending(damage, partial(set_aside, file)) for damage in look.damages if damage.file == file)
    yield from _of_journal(there)
    yield from _of_checkpoints(there)
    yield from _of_other_notes(there)


def _of_tests(run: Run, look: Look, recorded: _Recorded) -> Iterator[Mending]:
    there = run.directory
    told = set()
    for damage in look.of_results:
        told.add(damage.file.stem)
        yield Mending(damage, partial(_set_test_aside, damage.file))
    # a run that was restored from its records has neither: there is nothing to test again
    if not any(there.checkpoints.glob("step-*.safetensors")):
        return
    for protocol in look.results:
        # scores may be gigabytes: those that are collected are not read at every launch
        if protocol in told or (run.signature, protocol, f"seed{run.seed}") in recorded(run.scale):
            continue
        try:
            check_test(there, protocol)
        except DamagedError as error:
            damage = Damage(error.damage.file, error.damage.what, TESTED_AGAIN)
            yield Mending(damage, partial(_set_test_aside, there.result(protocol)))


def _set_test_aside(file: Path) -> None:
    if file.name == "tests":
        set_aside(file)
        return
    # the record first: where it is, the test counts as done
    for path in (file.with_suffix(".json"), file.with_suffix(".npz")):
        if path.exists() or path.is_symlink():
            set_aside(path)


def _of_start(run: RunDirectory) -> Damage | None:
    """Damage to the note of what training started with: without it nothing tells that it goes on with the same."""
    has_begun = any(run.checkpoints.glob("step-*.safetensors"))
    if not has_begun and not (run.data.exists() or run.data.is_symlink()):
        return None
    try:
        read_json(run.data, remedy=STARTED_OVER)
    except DamagedError as error:
        return error.damage
    return None


def _of_journal(run: RunDirectory) -> Iterator[Mending]:
    path = run.journal
    if not path.is_file():
        if path.exists() or path.is_symlink():
            yield Mending(Damage(path, "is no file", SET_ASIDE), partial(set_aside, path))
        return
    found = walk(path)
    if found.damage:
        yield Mending(Damage(path, found.damage.what, CUT), partial(_cut, run, found.end, found.step))


def _cut(run: RunDirectory, end: int, step: int) -> None:
    """Keep the journal up to byte ``end``, the end of ``step``, and the rest beside it."""
    content = run.journal.read_bytes()
    write_bytes(beside(run.journal), content[end:])
    os.truncate(run.journal, end)
    journal.sync(run.journal)
    saved = sorted(run.checkpoints.glob("step-*.safetensors"))
    if any(_step(path) <= step for path in saved):
        # from the older one every step is computed again that is missing now
        for path in saved:
            if _step(path) > step:
                set_aside(path)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("step-"))


def _of_checkpoints(run: RunDirectory) -> Iterator[Mending]:
    """Checkpoints of which none can be read: training falls back on an older one by itself."""
    if run.checkpoints.is_symlink() or (run.checkpoints.exists() and not run.checkpoints.is_dir()):
        if not run.checkpoints.is_dir():
            damage = Damage(run.checkpoints, "is no directory", "vswin launch sets it aside, and starts the run over")
            yield Mending(damage, partial(set_aside, run.checkpoints))
        return
    saved = sorted(run.checkpoints.glob("step-*.safetensors"))
    if not saved:
        return
    from vswin.training.checkpoint import CheckpointError, examine

    problems = {}
    for path in reversed(saved):
        try:
            examine(path)
        except CheckpointError as error:
            problems[path] = str(error).removeprefix(f"{path} ").removeprefix("is damaged: ")
        else:
            return
    remedy = "vswin launch sets it aside: no older one is left, and training starts over"
    for path, what in problems.items():
        yield Mending(Damage(path, what, remedy), partial(set_aside, path))


def _of_other_notes(run: RunDirectory) -> Iterator[Mending]:
    """Notes that each attempt writes anew, scores of a test that is not done, and what stands in their places."""
    written = (run.recipe, run.code, run.code_diff, run.environment, run.datasets, run.weights)
    for path in written:
        if path.is_dir():
            yield Mending(Damage(path, "is a directory", SET_ASIDE), partial(set_aside, path))
    if run.machine.exists() or run.machine.is_symlink():
        try:
            read_json(run.machine, remedy=f"{SET_ASIDE}; steps that are computed again are not compared")
        except DamagedError as error:
            yield Mending(error.damage, partial(_forget_machine, run))
    for path in sorted(run.path.glob("tests/*.partial-*/*.npz")):
        try:
            check_archive(path, remedy="vswin launch sets it aside; its videos are scored again")
        except DamagedError as error:
            yield Mending(error.damage, partial(set_aside, path))


def _forget_machine(run: RunDirectory) -> None:
    set_aside(run.machine)
    # another machine than any: what is in the journal may have been computed anywhere
    write_json(run.machine, {})
