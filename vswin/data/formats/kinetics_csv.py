"""The annotations of Kinetics as DeepMind publishes them: a CSV file per split.

A header ``label,youtube_id,time_start,time_end,split`` and, in some, ``is_cc``. A video is called ``ID_START_END.mp4``,
in seconds with six digits (or ``ID.mp4`` in some copies), flat or in class folders. Classes are in alphabetical order
over both splits with blanks taken as underscores, as the lists and label maps of mmaction2 have them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from . import placed
from .rows import PUBLISHED_SPLITS, DataError, Gathering, Split, read_text

_COLUMNS = ("label", "youtube_id", "time_start", "time_end")


def is_header(line: str) -> bool:
    """True for the first line of such a file."""
    return set(_COLUMNS) <= {name.strip().strip('"') for name in line.split(",")}


def classes_of(files: Mapping[Split, Path]) -> tuple[str, ...]:
    """Every label of both splits, in the order of the field.

    Raises DataError where a split is missing: without it a class could be missed and the others renumbered.
    """
    for split in PUBLISHED_SPLITS:
        if split not in files:
            there = ", ".join(str(path) for path in files.values())
            raise DataError(
                f"{there}: expected the CSV of both splits, since they number the classes together, got none for "
                f"{split}; put it beside, or a classes.txt with all class names in order"
            )
    labels = {row[0] for path in files.values() for _, row in _rows(path) if row is not None and row[0]}
    return tuple(sorted(labels, key=lambda label: label.replace(" ", "_")))


def read(path: Path, *, folder: Path, split: Split, classes: Sequence[str]) -> Gathering:
    """The rows of a split, each with the name under which its video lies in ``folder``.

    A video that is not there gets the name that it would have as ``train/ID_START_END.mp4``.
    """
    gathering = Gathering(path, len(classes))
    labels = {name: label for label, name in enumerate(classes)}
    rows = []
    for line, row in _rows(path):
        if row is None:
            gathering.refuse(line, f"expected {len(_COLUMNS)} or more fields, {','.join(_COLUMNS)}; correct the row")
            continue
        label, youtube, start, end = row
        if label not in labels:
            got = f"got {label!r}" if label else "got none"
            gathering.refuse(line, f"expected one of {len(classes)} class names, {got}; correct the row or classes.txt")
        elif (seconds := (_seconds(start), _seconds(end))) and None in seconds:
            gathering.refuse(line, f"expected whole seconds, got {start!r} and {end!r}; correct the row")
        elif not youtube:
            gathering.refuse(line, "expected a YouTube id, got none; correct the row")
        else:
            rows.append((line, labels[label], youtube, f"{youtube}_{seconds[0]:06d}_{seconds[1]:06d}"))
    found = placed.find({stem for *_, stem in rows} | {row[2] for row in rows}, folder=folder, split=split)
    for line, number, youtube, stem in rows:
        key = stem if stem in found.names else youtube
        if key in found.again:
            one, other = found.again[key]
            gathering.refuse(line, f"expected one video of this name, got {one} and {other}; remove one of them")
        else:
            gathering.add(found.names.get(key, f"{split}/{stem}.mp4"), number, line=line)
    return gathering


def _rows(path: Path) -> Iterator[tuple[int, tuple[str, str, str, str] | None]]:
    """Line and the four columns of every row; None for a row that is too short."""
    reader = csv.reader(read_text(path).split("\n"), skipinitialspace=True)
    header = [name.strip() for name in next(reader)]
    a, b, c, d = (header.index(name) for name in _COLUMNS)
    for row in reader:
        if row:
            try:
                yield reader.line_num, (row[a].strip(), row[b].strip(), row[c].strip(), row[d].strip())
            except IndexError:
                yield reader.line_num, None


@lru_cache(maxsize=1 << 16)
def _seconds(text: str) -> int | None:
    """pandas writes whole numbers as 10.0; a part of a second is none."""
    whole, _, part = text.partition(".")
    return int(whole) if whole.isascii() and whole.isdecimal() and len(whole) < 10 and not part.strip("0") else None
