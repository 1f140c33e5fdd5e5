"""Videos and their labels: one split of a data set, however it is annotated. See ``layout`` for what is understood."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from unicodedata import normalize

from .formats import list_file
from .formats.layout import Layout
from .formats.placed import count_images
from .formats.rows import DataError, Format, Listing, Split, where_to_put

__all__ = ["DataError", "Format", "Split", "VideoList"]

# What waits is the file server, not the processor: more threads than cores.
_THREADS = 32
_PER_THREAD = 512


@dataclass(frozen=True)
class VideoList:
    """Videos and their labels in the order of the list.

    ``names`` are the paths as written, absolute or relative to ``folder``; ``classes`` is empty where no class names
    are known. ``source`` is the file (for class folders, the folder) that says so, in ``format``.
    """

    folder: Path
    names: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    format: Format
    source: Path

    @classmethod
    def of_split(cls, data: Path, *, dataset: str, split: Split) -> Self:
        """A split of the data set in ``data/dataset``, by what lies there (see ``layout``).

        Raises DataError where nothing, or more than one thing, can be read there, and as ``read`` does.
        """
        return cls.in_folder(data / dataset, split=split)

    @classmethod
    def in_folder(cls, folder: Path, *, split: Split) -> Self:
        """As ``of_split``, of the folder of a data set."""
        return cls.of_listing(Layout.of(folder).read(split))

    @classmethod
    def read(cls, path: Path, *, classes: Sequence[str] = ()) -> Self:
        """A list file of rows ``path label``, paths relative to its folder.

        Raises DataError for a missing or empty file, a row without a label, a label outside ``classes`` (below 0 where
        there are none) and a repeated path.
        """
        gathering = list_file.read(path, classes=classes)
        rows, problems = tuple(gathering.rows.values()), tuple(gathering.problems)
        return cls.of_listing(Listing(Format.LIST, path, path.parent, rows, tuple(classes), problems))

    @classmethod
    def of_listing(cls, listing: Listing) -> Self:
        """The rows of ``listing``; raises DataError where it has a problem or no rows."""
        listing.insist()
        return cls.of_good_rows(listing)

    @classmethod
    def of_good_rows(cls, listing: Listing) -> Self:
        """The rows of ``listing`` that are right, whatever is wrong with others: for a report of both."""
        names = tuple(row.name for row in listing.rows)
        labels = tuple(row.label for row in listing.rows)
        return cls(listing.folder, names, labels, listing.classes, listing.format, listing.source)

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """Where video ``index`` lies."""
        return self.folder / self.names[index]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The size of every file in bytes; of a folder of frames, how many there are.

        Looks at every file but reads none; raises DataError for the first that is missing.
        """
        folder = str(self.folder)

        def sizes(first: int) -> list[int | OSError]:
            return [_size(folder, name) for name in self.names[first : first + _PER_THREAD]]

        with ThreadPoolExecutor(_THREADS) as threads:
            found = [size for part in threads.map(sizes, range(0, len(self), _PER_THREAD)) for size in part]
        good = tuple(size for size in found if isinstance(size, int))
        if len(good) < len(found):
            index, error = next((i, size) for i, size in enumerate(found) if isinstance(size, OSError))
            raise DataError(_missing(self.path(index), error, more=len(found) - len(good) - 1))
        return good

    @cached_property
    def fingerprint(self) -> str:
        """sha256, in hexadecimal, over class names in order and every row's path as written, label and size.

        Raises DataError as ``sizes`` does.
        """
        digest = hashlib.sha256(_bytes("\n".join([*self.classes, "\n"])))
        for name, label, size in zip(self.names, self.labels, self.sizes, strict=True):
            digest.update(_bytes(f"{name}\t{label}\t{size}\n"))
        return digest.hexdigest()

    def manifest(self) -> dict[str, Any]:
        """A summary of the videos for records, as plain data.

        ``bytes`` is the sum of ``sizes``. Raises DataError as ``sizes`` does.
        """
        return {
            "format": self.format.value,
            "source": self.source.name,
            "videos": len(self),
            "classes": list(self.classes),
            "num_classes": len(self.classes) or max(self.labels) + 1,
            "bytes": sum(self.sizes),
            "fingerprint": self.fingerprint,
        }


def _bytes(text: str) -> bytes:
    # Names of class folders are what the disk has, which need not be UTF-8; Python keeps such bytes as surrogates.
    return text.encode(errors="surrogateescape")


def _size(folder: str, name: str) -> int | OSError:
    # Text, not Path: it halves the time for 240,000 files.
    path = os.path.join(folder, name)  # noqa: PTH118
    try:
        found = os.stat(path)  # noqa: PTH116
        return count_images(path) if stat.S_ISDIR(found.st_mode) else found.st_size
    except OSError as error:
        return error


def _missing(path: Path, error: OSError, *, more: int) -> str:
    rest = f" (and {more} more of the list; vswin data check names them)" if more else ""
    others = (normalize(form, str(path)) for form in ("NFC", "NFD"))
    other = next((name for name in others if name != str(path) and Path(name).exists()), None)
    if other is not None:
        return (
            f"{path}: cannot be opened ({error.strerror}), but a file whose name looks the same is there, its letters "
            f"composed in the other way of Unicode; write the list on this machine, or rename the file{rest}"
        )
    return f"{path}: cannot be opened ({error.strerror}){rest}; {where_to_put(path)}"
