"""Lists of labelled videos, as mmaction2 writes them: a row is ``path label``, a list is one split of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Self


class Split(StrEnum):
    """Parts of a data set; the value is the name of its list, ``train.txt`` or ``val.txt``."""

    TRAIN = "train"
    VAL = "val"


class DataError(Exception):
    """A data set that is missing, incomplete or wrongly written; the message names file and line."""


@dataclass(frozen=True)
class VideoList:
    """Videos and their labels in the order of the list.

    ``names`` are the paths as written, absolute or relative to ``folder``; ``classes`` is empty where no class names
    are known.
    """

    folder: Path
    names: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]

    @classmethod
    def of_split(cls, data: Path, *, dataset: str, split: Split) -> Self:
        """The list ``data/dataset/split.txt`` with the class names of ``classes.txt`` beside it, if there is one.

        Raises DataError as ``read`` does.
        """
        return cls.in_folder(data / dataset, split=split)

    @classmethod
    def in_folder(cls, folder: Path, *, split: Split) -> Self:
        """As ``of_split``, of the folder of a data set."""
        classes = folder / "classes.txt"
        return cls.read(folder / f"{split}.txt", classes=_read_classes(classes) if classes.exists() else ())

    @classmethod
    def read(cls, path: Path, *, classes: Sequence[str] = ()) -> Self:
        """A list file. The label is what follows the last blank of a row, so paths may hold blanks.

        Windows line ends, a byte order mark and empty lines are accepted. Raises DataError for a missing or empty
        file, a row without a label, a label outside ``classes`` (below 0 where there are none) and a repeated path.
        """
        rows: dict[str, int] = {}
        line_of: dict[str, int] = {}
        for number, line in enumerate(_read_lines(path), start=1):
            if not line.strip():
                continue
            name, label = _parse_row(line, where=f"{path}:{number}")
            if label < 0 or (classes and label >= len(classes)):
                allowed = f"from 0 to {len(classes) - 1}" if classes else "of at least 0"
                raise DataError(f"{path}:{number}: expected a label {allowed}, got {label}; correct the row")
            if name in rows:
                raise DataError(
                    f"{path}:{number}: expected every video once, got {name!r} again after line {line_of[name]}; "
                    "remove one of the rows"
                )
            rows[name], line_of[name] = label, number
        if not rows:
            raise DataError(f"{path}: expected rows 'path label', got an empty file; {_how_to_get(path)}")
        return cls(path.parent, tuple(rows), tuple(rows.values()), tuple(classes))

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """Where video ``index`` lies."""
        return self.folder / self.names[index]

    @cached_property
    def fingerprint(self) -> str:
        """sha256, in hexadecimal, over class names in order and every row's path as written, label and file size.

        Looks at every file but reads none; raises DataError for the first that is missing.
        """
        digest = hashlib.sha256("\n".join([*self.classes, "\n"]).encode())
        for index, (name, label) in enumerate(zip(self.names, self.labels, strict=True)):
            try:
                size = self.path(index).stat().st_size
            except OSError as error:
                path = self.path(index)
                raise DataError(f"{path}: cannot be opened ({error.strerror}); {_how_to_get(path)}") from error
            digest.update(f"{name}\t{label}\t{size}\n".encode())
        return digest.hexdigest()


def _read_lines(path: Path) -> list[str]:
    try:
        # Not splitlines: it also splits at characters that may stand in a file name.
        return path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text, got byte {error.object[error.start]:#x}; convert it") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror}); {_how_to_get(path)}") from error


def _read_classes(path: Path) -> tuple[str, ...]:
    """Class names, one per line, in the order of their labels."""
    names = [line.strip() for line in _read_lines(path)]
    seen: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if not name or name in seen:
            got = f"{name!r} again after line {seen[name]}" if name else "an empty line"
            raise DataError(f"{path}:{number}: expected one new class name per line, got {got}; correct the line")
        seen[name] = number
    return tuple(names)


def _parse_row(line: str, *, where: str) -> tuple[str, int]:
    parts = line.strip().rsplit(maxsplit=1)
    if len(parts) != 2 or not parts[1].removeprefix("-").isdecimal():
        raise DataError(f"{where}: expected 'path label' with an integer label, got {line!r}; correct the row")
    return parts[0], int(parts[1])


def _how_to_get(path: Path) -> str:
    if "moving-digits" in path.parts:
        return "generate the data set again: vswin data generate"
    return "put the data set there, or point $VSWIN_DATA to where it is"
