"""Rows of a name and a label, and rows that are wrong: every format of annotation is read into these."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from vswin.config import Split

from ...errors import ExplainedError

# What published annotations have; a test split is read from lists of ours only.
PUBLISHED_SPLITS = (Split.TRAIN, Split.VAL)

__all__ = [
    "PUBLISHED_SPLITS",
    "DataError",
    "Format",
    "Gathering",
    "Listing",
    "NoDataError",
    "Split",
    "VideoRow",
    "read_lines",
    "read_text",
    "where_to_put",
]


class DataError(ExplainedError):
    """A data set that is missing, incomplete or wrongly written; the message names file and line."""


class NoDataError(DataError):
    """A folder in which nothing says what its videos are."""


class Format(StrEnum):
    """A way to write down the videos and labels of a data set."""

    LIST = "path label list"
    KINETICS = "Kinetics CSV"
    SOMETHING = "Something-Something JSON"
    CLASS_FOLDERS = "class folders"


class VideoRow(NamedTuple):
    """A video: ``name`` is its path, absolute or relative to a folder; ``line`` is where it was read, or 0."""

    name: str
    label: int
    line: int


@dataclass(frozen=True)
class Listing:
    """One split as it was read from ``source``.

    Names are relative to ``folder``. ``problems`` are the rows that were left out, each a sentence that begins with
    file and line; a listing with problems is only good for a report.
    """

    format: Format
    source: Path
    folder: Path
    rows: tuple[VideoRow, ...]
    classes: tuple[str, ...]
    problems: tuple[str, ...]

    def insist(self) -> None:
        """Raise DataError for the first problem."""
        if self.problems:
            more = len(self.problems) - 1
            rest = f" (and {more} more such rows; vswin data check lists them)" if more else ""
            raise DataError(self.problems[0] + rest)


@dataclass
class Gathering:
    """Rows of one file, as they are read: every video once, every label within its bounds.

    ``unit`` is what its rows are counted in, where that is not lines.
    """

    source: Path
    num_classes: int | None
    unit: str = "line"
    rows: dict[str, VideoRow] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, name: str, label: int, *, line: int) -> None:
        """Take a row in, or note what is wrong with it."""
        if label < 0 or (self.num_classes is not None and label >= self.num_classes):
            allowed = "of at least 0" if self.num_classes is None else f"from 0 to {self.num_classes - 1}"
            self.refuse(line, f"expected a label {allowed}, got {label}; correct the row")
        elif (earlier := self.rows.get(name)) is not None:
            again = f"{name!r} again after {self.unit} {earlier.line}"
            self.refuse(line, f"expected every video once, got {again}; remove one of the rows")
        else:
            self.rows[name] = VideoRow(name, label, line)

    def refuse(self, line: int, message: str) -> None:
        """Note that the row of ``line`` is wrong."""
        where = line if self.unit == "line" else f"{self.unit} {line}"
        self.problems.append(f"{self.source}:{where}: {message}")


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark; raises DataError."""
    try:
        # Not newline translation alone: a lone carriage return may stand in a file name, one before a line feed not.
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text, got byte {error.object[error.start]:#x}; convert it") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror}); {where_to_put(path)}") from error
    if (place := text.find("\0")) >= 0:
        line = text.count("\n", 0, place) + 1
        raise DataError(f"{path}:{line}: expected text, got a NUL byte, which no file name holds; write the file again")
    if "\n" not in text and text.count("\r") > 1:
        raise DataError(f"{path}: expected lines that end in a line feed, got carriage returns alone; convert the file")
    return text


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file. Not splitlines: it also splits at characters that may stand in a file name."""
    return read_text(path).rstrip("\n").split("\n")


def where_to_put(path: Path) -> str:
    """Advice on a missing file of a data set."""
    if "moving-digits" in path.parts:
        return "generate the data set again: vswin data generate"
    return "put the data set there, or point $VSWIN_DATA to where it is (vswin data layout)"
