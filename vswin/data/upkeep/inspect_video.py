"""A close look at one video: does it open, is all of it there, can it be decoded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

import av
from av.video.stream import VideoStream

from ..formats.placed import images
from ..video import VideoError, open_video

# Of what the header of a container without an index says, much has to be missing before it means anything.
_CLEARLY_LESS = 0.9


class Flaw(Enum):
    """Faults of a video."""

    MISSING = auto()
    UNREADABLE = auto()
    CUT_OFF = auto()


@dataclass(frozen=True)
class Defect:
    """A video that is not as it should be, and why."""

    flaw: Flaw
    detail: str


@dataclass(frozen=True)
class Inspected:
    """A video that is whole. Sizes are in pixels and bytes."""

    num_frames: int
    height: int
    width: int
    bytes: int


def inspect(path: Path) -> Inspected | Defect:
    """Open a video file or folder of frames, and decode its first, middle and last frame."""
    try:
        path.stat()
        with open_video(path) as video:
            info = video.info
            count = info.num_frames
            announced = None if path.is_dir() else _announced(path)
            if announced is not None and count < announced.least:
                return Defect(Flaw.CUT_OFF, f"{count} frames of {announced.frames}")
            try:
                video.frames(sorted({0, count // 2, count - 1}))
            except VideoError as error:
                return Defect(Flaw.CUT_OFF, _without(path, error))
        return Inspected(count, info.height, info.width, sum(file.stat().st_size for file in _files(path)))
    except VideoError as error:
        return Defect(Flaw.UNREADABLE, _without(path, error))
    except (FileNotFoundError, NotADirectoryError):
        return Defect(Flaw.MISSING, "no such file")
    # What a file server answers, or a folder without permission: a flaw of this video, no reason to end a check.
    except (av.FFmpegError, OSError, ValueError) as error:
        return Defect(Flaw.UNREADABLE, f"cannot be read ({error}); correct the path or its permissions")


def digest(path: Path, *, limit: int | None) -> bytes:
    """sha256 of a video file, or of the images of a folder in the order of their names; of ``limit`` bytes of each."""
    if limit is None and path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    found = hashlib.sha256()
    for name in _files(path):
        with name.open("rb") as file:
            found.update(file.read(limit))
    return found.digest()


def _files(path: Path) -> list[Path]:
    return images(path) if path.is_dir() else [path]


class _Announced(NamedTuple):
    """The frames that a header promises, and the least that has to be there."""

    frames: int
    least: float


def _announced(path: Path) -> _Announced | None:
    """None where the header promises nothing. Frames that are not meant to be shown are not counted."""
    with av.open(str(path.absolute()), metadata_errors="replace") as container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream):
            return None
        entries = stream.index_entries
        if "mov" in container.format.name and 0 < stream.frames <= len(entries):
            frames = sum(not entry.is_discard for entry in entries)
            return _Announced(frames, frames)
        if "matroska" not in container.format.name:
            return _Announced(stream.frames, _CLEARLY_LESS * stream.frames)
        # By duration and rate. Sound may go on after the pictures, so only where there is none.
        if len(container.streams) > 1 or not container.duration or not stream.average_rate:
            return None
        frames = round(stream.average_rate * container.duration / av.time_base)
        return _Announced(frames, _CLEARLY_LESS * frames)


def _without(path: Path, error: VideoError) -> str:
    """The message, whose path stands beside it in a report."""
    return str(error).removeprefix(f"{path}: ")
