"""Writing files whole, naming damaged ones, and holding a lock."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vswin.errors import ExplainedError
from vswin.files import NoLocksError, exclusive, whole_file

__all__ = [
    "Damage",
    "DamagedError",
    "NoLocksError",
    "beside",
    "locked",
    "naming",
    "read_bytes",
    "read_json",
    "set_aside",
    "write_bytes",
    "write_json",
    "write_text",
]


@dataclass(frozen=True)
class Damage:
    """A file that is not what it should be: which, in what way, and the remedy."""

    file: Path
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}; {self.remedy}"


class DamagedError(ExplainedError, ValueError):
    """A file cannot be read as what it should be; ``damage`` names it, and its remedy."""

    def __init__(self, damage: Damage) -> None:
        super().__init__(str(damage))
        self.damage = damage


def read_bytes(path: Path, *, remedy: str) -> bytes:
    """The content of ``path``; raises DamagedError if it is missing, empty, no file, or cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = "is a link to nothing" if path.is_symlink() and not path.exists() else error.strerror or str(error)
        raise DamagedError(Damage(path, reason, remedy)) from error
    if not content:
        raise DamagedError(Damage(path, "is empty", remedy))
    return content


def read_json(path: Path, *, remedy: str) -> dict[str, Any]:
    """The JSON object in ``path``; raises DamagedError as ``read_bytes`` does, and for anything but an object.

    Numbers that JSON does not have (NaN, infinities) are refused.
    """
    text = read_bytes(path, remedy=remedy)
    try:
        content = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DamagedError(Damage(path, f"is not JSON ({' '.join(str(error).split())})", remedy)) from error
    if not isinstance(content, dict):
        raise DamagedError(Damage(path, f"expected a JSON object, got {type(content).__name__}", remedy))
    return content


@contextmanager
def naming(path: Path, *, remedy: str) -> Iterator[None]:
    """Name ``path`` where what was read from it lacks a field, or has one too many; raises DamagedError."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedError(Damage(path, f"is not what it should be ({error})", remedy)) from error


def set_aside(path: Path) -> Path:
    """Rename what lies at ``path``, whatever it is, and return where it lies now: ``<name>.damaged-<n>``."""
    return path.rename(beside(path))


def beside(path: Path) -> Path:
    """The first free ``<name>.damaged-<n>`` beside ``path``."""
    number = 1
    while (free := path.with_name(f"{path.name}.damaged-{number}")).exists() or free.is_symlink():
        number += 1
    return free


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def locked(path: Path, *, on_wait: Callable[[], None] = lambda: None) -> AbstractContextManager[None]:
    """Hold the lock file ``path``, somewhere in ``$VSWIN_RUNS``; see ``vswin.files.exclusive``."""
    return exclusive(path, folder="VSWIN_RUNS", on_wait=on_wait)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` so that readers see the old file or the new one, never half of it."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def write_text(path: Path, content: str) -> None:
    """Write ``content`` so that readers see the old file or the new one, never half of it."""
    write_bytes(path, content.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` so that readers see the old file or the new one, never half of it."""
    with whole_file(path) as file:
        file.write(content)
