"""The append-only journal of a run: every metric is written here first.

One JSON object a line: ``{"step": 12, "time": 1700000000.25, "metrics": {"train/loss": 1.5, ...}, "crc": "89abcdef"}``.
The last field is a checksum (CRC-32) of what stands before it in the line; lines of earlier versions have none. Where a
training goes on from a checkpoint that is ahead of the journal, the next line says which steps are lost:
``"missing": [4, 30]``.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from vswin.errors import ExplainedError

from ..files import Damage, DamagedError, naming, write_bytes

# What a step computes. The rest (speed, memory) measures the machine and differs between attempts.
_COMPUTED = ("train/", "val/", "test/")
_FSYNC_SECONDS = 1.0
_TAIL_BYTES = 2**14
_CHECKSUM = b',"crc":'


class JournalError(ExplainedError, RuntimeError):
    """The journal cannot be what this training wrote, or would write again."""


@dataclass(frozen=True)
class Entry:
    """The metrics of one step; ``time`` in seconds since the epoch. ``missing``: first and last lost step before it."""

    step: int
    time: float
    metrics: Mapping[str, float]
    missing: tuple[int, int] | None = None


def read(path: Path, *, offset: int = 0) -> Iterator[tuple[Entry, int]]:
    """Entries from byte ``offset`` on, each with the offset after it. A torn last line is not yielded.

    Raises DamagedError for a line that is no entry.
    """
    if not path.exists():
        return
    with _opened(path) as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield _entry(line, path, before=offset), offset


def last(path: Path) -> Entry | None:
    """The newest entry, without reading the ones before it; None if there is none. A torn last line is left out."""
    if not path.exists():
        return None
    with _opened(path) as file:
        length = _TAIL_BYTES
        while True:
            start = max(0, file.seek(0, os.SEEK_END) - length)
            file.seek(start)
            # of a piece from the middle the first line is only the end of one
            lines = file.read().split(b"\n")[0 if start == 0 else 1 : -1]
            if lines or start == 0:
                return _entry(lines[-1], path, before=end(path)) if lines else None
            length *= 8


def missing_steps(path: Path, *, last: int) -> tuple[tuple[int, int], ...]:
    """First and last of each series of steps that are not in the journal, of those from 1 to ``last``.

    Raises DamagedError for a line that is no entry.
    """
    found: list[tuple[int, int]] = []
    before = 0
    for step in [*sorted({entry.step for entry, _ in read(path) if entry.step <= last}), last + 1]:
        if step > before + 1:
            found.append((before + 1, step - 1))
        before = step
    return tuple(found)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        remedy = "put the file back, or delete the run"
        raise DamagedError(Damage(path, error.strerror or str(error), remedy)) from error


def _entry(line: bytes, path: Path, *, before: int) -> Entry:
    remedy = (
        "cut the file before that line, and the next attempt computes again what follows its checkpoint and marks the "
        "rest as missing, or delete the run"
    )
    try:
        with naming(path, remedy=remedy):
            content = json.loads(line)
            if content.pop("crc", None) not in (None, _checksum(line.rpartition(_CHECKSUM)[0])):
                raise DamagedError(Damage(path, f"the line that ends at byte {before} is not what was written", remedy))
            lost = content.pop("missing", None)
            return Entry(**content, missing=(lost[0], lost[1]) if lost else None)
    except ValueError as error:
        if isinstance(error, DamagedError):
            raise
        raise DamagedError(Damage(path, f"the line that ends at byte {before} is no entry", remedy)) from error


def _checksum(content: bytes) -> str:
    return f"{zlib.crc32(content):08x}"


def sync(path: Path) -> None:
    """Force to disk what others wrote there: after a crash nothing that was read may be gone."""
    if path.exists():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def end(path: Path) -> int:
    """The offset after the newest entry: that of the file's end, but for a torn last line. 0 if there is no entry."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        start = file.seek(0, os.SEEK_END)
        while start > 0:
            # a line that goes over a border is found in the piece that has its end
            start = max(0, start - _TAIL_BYTES)
            file.seek(start)
            found = file.read(_TAIL_BYTES).rfind(b"\n")
            if found >= 0:
                return start + found + 1
    return 0


class Journal:
    """Appends to a journal. Flushed at once, so readers follow; forced to disk once a second and on close.

    Each time it is seen that the file is still the one that is written to: where it was deleted or replaced, all of it
    is written again under its name; where it was cut or others wrote to it, that is a JournalError.

    ``check_owner`` is called before every line and raises if another attempt has taken the run over. Lines up to step
    ``compared_after`` were not all computed where this attempt computes, and are not compared. ``on_difference`` is for
    devices that do not promise the same bits: it is told of the first step that differs, the journal keeps what it has,
    and nothing more is compared; None makes a difference an error. ``warn`` is told of what is missing and of what was
    restored.
    """

    def __init__(
        self,
        path: Path,
        *,
        check_owner: Callable[[], None] = lambda: None,
        compared_after: int = 0,
        on_difference: Callable[[str], None] | None = None,
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._path = path
        self._warn = warn
        self._on_difference = on_difference
        self._compared_after = compared_after
        self._known = {entry.step: entry for entry, _ in read(path)}
        self._newest = max(self._known, default=0)
        self._first: int | None = None
        self._check_owner = check_owner
        # to be read as well, if it has to be written again
        self._file: BinaryIO = path.open("ab+")
        _cut_torn_line(path)
        self._size = os.fstat(self._file.fileno()).st_size
        self._synced_at = time.monotonic()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append ``step``'s metrics. A step already there is compared instead; raises JournalError if it differs."""
        if self._first is None:
            self._first = step
            # steps only go up: of a journal of weeks, what lies before would stay in memory for nothing
            self._known = {later: entry for later, entry in self._known.items() if later >= step}
        if step in self._known:
            self._compare(step, self._known.pop(step).metrics, metrics)
            return
        self._check_owner()
        entry = {"step": step, "time": round(time.time(), 3), "metrics": dict(metrics)}
        if step > self._newest + 1:
            # the checkpoint was ahead: nothing has these steps any more
            entry["missing"] = [self._newest + 1, step - 1]
            self._warn(
                f"steps {self._newest + 1} to {step - 1} are missing in {self._path}, which was cut or deleted, and "
                "the checkpoint is later: curves have a gap there, which the trained weights do not depend on"
            )
        content = json.dumps(entry, separators=(",", ":")).encode().removesuffix(b"}")
        line = content + _CHECKSUM + f'"{_checksum(content)}"}}\n'.encode()
        self._file.write(line)
        self._file.flush()
        self._size += len(line)
        self._newest = max(self._newest, step)
        if time.monotonic() - self._synced_at >= _FSYNC_SECONDS:
            self.sync()

    def _compare(self, step: int, known: Mapping[str, float], metrics: Mapping[str, float]) -> None:
        if step <= self._compared_after:
            return
        for name in sorted(metrics.keys() & known.keys()):
            if not name.startswith(_COMPUTED) or known[name] == metrics[name]:
                continue
            message = (
                f"step {step} was computed again after a resume and {name} differs: the journal has {known[name]!r}, "
                f"now {metrics[name]!r}, on the same kind of machine with the same software"
            )
            if self._on_difference is None:
                raise JournalError(f"{message}; delete {self._path.parent} to start this run over")
            self._on_difference(f"{message}; it goes on, and the journal keeps the steps that it has")
            self._compared_after = max(self._known, default=step)
            return

    def sync(self) -> None:
        """Force what was written to disk, under its name; raises JournalError where it is there no more."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced_at = time.monotonic()
        here = os.fstat(self._file.fileno())
        if here.st_size != self._size:
            raise JournalError(
                f"{self._path} has {here.st_size} bytes and should have {self._size}: it was cut, or written to, while "
                "it was in use; start this run again, and the steps that are gone are marked as missing"
            )
        try:
            there = self._path.stat()
        except FileNotFoundError:
            there = None
        if there is None or not os.path.samestat(here, there):
            # a run that was moved aside is not made anew
            self._check_owner()
            self._file.seek(0)
            write_bytes(self._path, self._file.read())
            self._file.close()
            self._file = self._path.open("ab+")
            self._warn(f"{self._path} was {'replaced' if there else 'deleted'} while it was in use; it is restored")

    def close(self) -> None:
        """Force what was written to disk and close."""
        try:
            self.sync()
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cut_torn_line(path: Path) -> None:
    # a kill in the middle of a write leaves half a line; what follows it would be unreadable
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)
