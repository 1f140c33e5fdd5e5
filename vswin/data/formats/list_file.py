"""Lists of labelled videos as mmaction2, SlowFast and VideoMAE write them: a row is ``path label``.

The label is what follows the last blank, tab or comma, so paths may hold all three; a path in double quotes is taken
out of them. Windows line ends, a byte order mark and empty lines are accepted. mmaction2's lists of extracted frames,
recognised by ``rawframes`` in their name, have a number of frames between the two, which is not needed here.

``classes.txt``, or mmaction2's ``label_map*.txt``, beside a list holds the names of the classes, one per line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .rows import DataError, Gathering, read_lines

_ROW = re.compile(r'(?:"(?P<quoted>(?:[^"]|"")+)"|(?P<name>.*[^\s,]))(?:\s*,\s*|\s+)(?P<label>-?[0-9]{1,9})')
_FRAMES_ROW = re.compile(
    r"(?P<quoted>(?!))?(?P<name>.*[^\s,])(?:\s*,\s*|\s+)[0-9]+(?:\s*,\s*|\s+)(?P<label>-?[0-9]{1,9})"
)


def read(path: Path, *, classes: Sequence[str]) -> Gathering:
    """The rows of a list; raises DataError for a file that is missing, empty or not text."""
    gathering = Gathering(path, len(classes) if classes else None)
    row = _FRAMES_ROW if "rawframes" in path.stem else _ROW
    expected = "'path frames label'" if row is _FRAMES_ROW else "'path label'"
    empty = True
    for number, line in enumerate(read_lines(path), start=1):
        stripped = line.strip()
        if not stripped:
            continue
        empty = False
        found = row.fullmatch(stripped)
        if found is None:
            gathering.refuse(number, f"expected {expected} with an integer label, got {line!r}; correct the row")
            continue
        quoted, name, label = found["quoted"], found["name"], found["label"]
        gathering.add(quoted.replace('""', '"') if quoted else name, int(label), line=number)
    if empty:
        raise DataError(f"{path}: expected rows {expected}, got an empty file; write the list again")
    return gathering


def read_classes(folder: Path) -> tuple[str, ...]:
    """The class names beside the lists, in the order of their labels; none where there is no such file."""
    path = folder / "classes.txt"
    if not path.exists():
        maps = sorted(folder.glob("label_map*.txt"))
        if len(maps) > 1:
            names = ", ".join(found.name for found in maps)
            raise DataError(f"{folder}: expected one file of class names, got {names}; rename one to classes.txt")
        if not maps:
            return ()
        [path] = maps
    classes = [line.strip() for line in read_lines(path)]
    seen: dict[str, int] = {}
    for number, name in enumerate(classes, start=1):
        if not name or name in seen:
            got = f"{name!r} again after line {seen[name]}" if name else "an empty line"
            raise DataError(f"{path}:{number}: expected one new class name per line, got {got}; correct the line")
        seen[name] = number
    return tuple(classes)


def write(path: Path, *, rows: Sequence[tuple[str, int]]) -> None:
    """Write a list that ``read`` reads back; DataError for a name that no row can hold, as with a line end."""
    lines = [f"{name} {label}" for name, label in rows]
    for line, (name, label) in zip(lines, rows, strict=True):
        found = _ROW.fullmatch(line)
        if (
            "\n" in line
            or not _is_utf8(line)
            or found is None
            or (found["name"], int(found["label"])) != (name, label)
            or line != line.strip()
        ):
            raise DataError(f"{path}: expected a path that a row 'path label' can hold, got {name!r}; rename the file")
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _is_utf8(text: str) -> bool:
    """True unless a byte of the file name could not be decoded."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
