"""Lists of labelled videos as mmaction2, SlowFast and VideoMAE write them: a row is ``path label``.

The label is what follows the last blank, tab or comma, so paths may hold all three; a path in double quotes is taken
out of them. Windows line ends, a byte order mark and empty lines are accepted. Lists of extracted frames have a number
of frames between the two (mmaction2, VideoMAE), which is not needed here, and some an offset before it, which must be
0. They are told by their rows: all of them end so, and no video is called like the first with a number behind it.

``classes.txt``, or mmaction2's ``label_map*.txt``, beside a list holds the names of the classes, one per line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from .rows import DataError, Gathering, read_lines

_ROW = re.compile(r'(?:"(?P<quoted>(?:[^"]|"")+)"|(?P<name>.*[^\s,]))(?:\s*,\s*|\s+)(?P<label>-?[0-9]{1,9})')
_BETWEEN = r"(?:\s*,\s*|\s+)"
_FRAMES_ROW = re.compile(
    rf"(?P<quoted>(?!))?(?P<name>.*[^\s,]){_BETWEEN}(?P<frames>[0-9]+){_BETWEEN}(?P<label>-?[0-9]{{1,9}})"
)
_OFFSET_ROW = re.compile(
    rf"(?P<quoted>(?!))?(?P<name>.*[^\s,]){_BETWEEN}(?P<offset>[0-9]+){_BETWEEN}(?P<frames>[0-9]+){_BETWEEN}"
    r"(?P<label>-?[0-9]{1,9})"
)
_COLUMNS = {_ROW: "'path label'", _FRAMES_ROW: "'path frames label'", _OFFSET_ROW: "'path offset frames label'"}
_SAMPLE = 32


def read(path: Path, *, classes: Sequence[str]) -> Gathering:
    """The rows of a list; raises DataError for a file that is missing, empty or not text."""
    gathering = Gathering(path, len(classes) if classes else None)
    lines = read_lines(path)
    row = _columns([line.strip() for line in lines if line.strip()], path)
    expected = _COLUMNS[row]
    empty = True
    for number, line in enumerate(lines, start=1):
        stripped = line.strip()
        if not stripped:
            continue
        empty = False
        found = row.fullmatch(stripped)
        if found is None:
            gathering.refuse(number, f"expected {expected} with an integer label, got {line!r}; correct the row")
            continue
        if row is _OFFSET_ROW and int(found["offset"]):
            gathering.refuse(
                number,
                f"expected a video from its first frame, got offset {found['offset']}, fourth from the right of four "
                "columns; cut the video out and set it to 0",
            )
            continue
        quoted, name, label = found["quoted"], found["name"], found["label"]
        gathering.add(quoted.replace('""', '"') if quoted else name, int(label), line=number)
    if empty:
        raise DataError(f"{path}: expected rows {expected}, got an empty file; write the list again")
    return gathering


def _columns(rows: Sequence[str], path: Path) -> re.Pattern[str]:
    """The pattern of the ``rows`` of a list: the one of most columns that all have, unless names hold the numbers."""
    if "rawframes" in path.stem:
        return _FRAMES_ROW
    if any(row.startswith('"') for row in rows):
        return _ROW
    sample = rows[:: max(1, len(rows) // _SAMPLE)]
    for pattern, plainer in ((_OFFSET_ROW, _FRAMES_ROW), (_FRAMES_ROW, _ROW)):
        if sample and all(pattern.fullmatch(row) for row in rows):
            names = [found["name"] for row in sample if (found := plainer.fullmatch(row))]
            # not Path.exists: it raises for a name that is too long
            if not any(os.path.exists(path.parent / name) for name in names):  # noqa: PTH110
                return pattern
    return _ROW


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
    lines = [_line(name, label) for name, label in rows]
    for line, (name, label) in zip(lines, rows, strict=True):
        found = _ROW.fullmatch(line)
        read_back = found and (found["quoted"].replace('""', '"') if found["quoted"] else found["name"])
        if (
            "\n" in line
            or not _is_utf8(line)
            or found is None
            or (read_back, int(found["label"])) != (name, label)
            or line != line.strip()
        ):
            raise DataError(f"{path}: expected a path that a row 'path label' can hold, got {name!r}; rename the file")
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _line(name: str, label: int) -> str:
    """The row of a video, its name in quotes where it ends like a number of frames."""
    plain = f"{name} {label}"
    if not _FRAMES_ROW.fullmatch(plain):
        return plain
    doubled = name.replace('"', '""')
    return f'"{doubled}" {label}'


def _is_utf8(text: str) -> bool:
    """True unless a byte of the file name could not be decoded."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
