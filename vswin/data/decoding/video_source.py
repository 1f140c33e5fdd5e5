"""Sources of frames, be it a file or a folder: their common interface and checks."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import ExplainedError

# 8K UHD, the largest size that is broadcast. A header that claims more would make the decoder reserve gigabytes.
MAX_PIXELS = 7680 * 4320


class VideoError(ExplainedError):
    """A video that is missing, unreadable or shorter than it claims; the message starts with its path."""


@dataclass(frozen=True)
class VideoInfo:
    """Number of frames, and their size in pixels as ``Video.frames`` gives them, that is upright.

    ``frame_rate`` is in frames per second, and None where nothing states it.
    """

    num_frames: int
    height: int
    width: int
    frame_rate: Fraction | None


class Video(Protocol):
    """An open video."""

    @property
    def num_frames(self) -> int:
        """Number of frames, found without decoding. Raises VideoError."""

    @property
    def info(self) -> VideoInfo:
        """Number of frames and their size, which takes decoding the first one. Raises VideoError."""

    def frames(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """The frames at ``indices`` (in display order, from 0) as RGB: uint8 [T, H, W, 3].

        ``indices`` may repeat and need not be sorted. Raises VideoError where they cannot be decoded or differ in
        size, ValueError where ``indices`` is empty, negative or not a row.
        """


def ascending(indices: ArrayLike) -> tuple[list[int], NDArray[np.intp]]:
    """The distinct ``indices`` in ascending order, and where in them each of ``indices`` stands: [T].

    ValueError where ``indices`` is empty, negative or not a row of integers.
    """
    wanted = np.asarray(indices)
    if wanted.ndim != 1 or wanted.size == 0 or not np.issubdtype(wanted.dtype, np.integer) or wanted.min() < 0:
        raise ValueError(f"expected a row of frame indices from 0 on, got {indices!r}")
    unique, back = np.unique(wanted, return_inverse=True)
    return unique.tolist(), back


def check_file(path: Path) -> None:
    """Raise VideoError unless ``path`` is a regular file. To open a named pipe would wait for a writer forever."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise VideoError(f"{path}: no such file; restore it, or generate or prepare the data set again") from error
    except (OSError, ValueError) as error:
        raise VideoError(f"{path}: cannot be read ({error}); correct the path or its permissions") from error
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(f"{path}: expected a regular file, got {_KINDS.get(stat.S_IFMT(status.st_mode))}; replace it")
    if status.st_size == 0:
        raise VideoError(f"{path}: expected a video, got an empty file; replace the file")


def check_size(path: Path, *, height: int, width: int) -> None:
    """Raise VideoError for frames without pixels or of more than MAX_PIXELS."""
    if not 0 < height * width <= MAX_PIXELS:
        got = f"{width}x{height}" if height and width else "an unknown size"
        raise VideoError(f"{path}: expected frames of 1 to {MAX_PIXELS} pixels, got {got}; replace the file")


_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
