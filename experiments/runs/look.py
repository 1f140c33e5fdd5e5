"""A look into the directory of a run: what it notes, read once, and what of it is damaged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..files import Damage, DamagedError, read_json
from .attempts import Attempt, Submission
from .directory import RunDirectory
from .journal import Entry

# What a launch does about each kind of damage: see ``launch.repair``.
SET_ASIDE = "vswin launch sets it aside, and the run goes on from its newest checkpoint"
TESTED_AGAIN = "vswin launch sets the test aside, and tests the model again"
CUT = "vswin launch sets what follows the last whole line aside, and the run goes on from its newest checkpoint"
STARTED_OVER = "vswin launch sets the whole run aside and starts it over; put the file back to keep the run"


@dataclass(frozen=True)
class Look:
    """All that planning asks of a run's directory, as it was at one moment; None where there is no such note.

    ``results`` are the records of its tests, by protocol; ``error`` is the exception of the last attempt, empty if it
    did not fail. ``damages`` are those of notes that cannot be read, ``of_results`` those of tests.
    """

    run: RunDirectory
    exists: bool = False
    attempt: Attempt | None = None
    submission: Submission | None = None
    last: Entry | None = None
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))
    has_failed: bool = False
    error: str = ""
    damages: tuple[Damage, ...] = ()
    of_results: tuple[Damage, ...] = ()

    @property
    def step(self) -> int:
        """The last step in the journal; 0 if there is none, or where it cannot be read."""
        return self.last.step if self.last else 0

    @property
    def damage(self) -> Damage | None:
        """The first damage; None if all can be read."""
        return next(iter((*self.of_results, *self.damages)), None)

    @classmethod
    def at(cls, run: RunDirectory) -> Look:
        """Read the notes of ``run``. Raises nothing for damage: that is told."""
        try:
            names = _names(run.path)
        except OSError as error:
            # nothing there, or a file where a folder above it should be: who writes to it says so
            if isinstance(error, (FileNotFoundError, NotADirectoryError)) and not os.path.lexists(run.path):
                return cls(run)
            return cls(run, exists=True, damages=(Damage(run.path, _reason(error), STARTED_OVER),))
        damages: list[Damage] = []

        def read(note: Path, reader: Any, remedy: str) -> Any:
            if note.name not in names:
                return None
            try:
                if note.is_symlink() and not note.exists():
                    raise DamagedError(Damage(note, "is a link to nothing", remedy))
                return reader(run)
            except DamagedError as error:
                damages.append(Damage(error.damage.file, error.damage.what, remedy))
            except OSError as error:
                damages.append(Damage(note, _reason(error), remedy))
            return None

        attempt = read(run.attempt, Attempt.of, SET_ASIDE)
        submission = read(run.submission, Submission.of, SET_ASIDE)
        last = read(run.journal, RunDirectory.last_entry, CUT)
        exception = read(run.error, RunDirectory.last_error, SET_ASIDE)
        results, of_results = _results(run) if "tests" in names else ({}, [])
        return cls(
            run,
            exists=True,
            attempt=attempt,
            submission=submission,
            last=last,
            results=MappingProxyType(results),
            has_failed=exception is not None,
            error=exception or "",
            damages=tuple(damages),
            of_results=tuple(of_results),
        )


def _results(run: RunDirectory) -> tuple[dict[str, dict[str, Any]], list[Damage]]:
    """The records of tests by protocol, and what is wrong with the others or with the scores beside them."""
    folder = run.result("").parent
    results: dict[str, dict[str, Any]] = {}
    damages: list[Damage] = []
    try:
        names = _names(folder)
    except OSError as error:
        return {}, [Damage(folder, _reason(error), TESTED_AGAIN)]
    for name in sorted(names):
        file = folder / name
        try:
            # a test is done where its record is; scores without one are those of a test that a kill ended
            if file.suffix == ".json" and not name.startswith("."):
                content = read_json(file, remedy=TESTED_AGAIN)
                own = {"signature": run.signature, "seed": run.seed, "protocol": file.stem}
                if any(content.get(name, value) != value for name, value in own.items()):
                    raise DamagedError(Damage(file, "is the record of another test", TESTED_AGAIN))
                results[file.stem] = content
            elif file.suffix == ".npz" and file.with_suffix(".json").name in names and not file.stat().st_size:
                damages.append(Damage(file, "is empty", TESTED_AGAIN))
        except DamagedError as error:
            damages.append(error.damage)
        except OSError as error:
            damages.append(Damage(file, _reason(error), TESTED_AGAIN))
    return results, damages


def _names(folder: Path) -> set[str]:
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries}


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
