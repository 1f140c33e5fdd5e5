"""Where the videos of a split lie under the folder of a data set, by the habits of the field."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .rows import Split, VideoRow

# Containers of videos that FFmpeg reads; sound alone, subtitles and single pictures have others.
VIDEO_SUFFIXES = frozenset(
    {"mp4", "m4v", "mov", "qt", "3gp", "3g2", "f4v", "webm", "mkv", "avi", "divx", "mpg", "mpeg", "mpe", "mpv", "m2v"}
    | {"vob", "ts", "mts", "m2ts", "m2t", "flv", "wmv", "asf", "ogv", "rm", "rmvb", "mxf", "dv", "y4m", "nut", "gif"}
)
IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "png"})

SPLIT_WORDS = {
    Split.TRAIN: ("train", "training"),
    Split.VAL: ("val", "validation", "validate", "valid"),
    Split.TEST: ("test", "testing"),
}

_SAMPLE = 32


def split_folders(folder: Path, *, split: Split) -> list[Path]:
    """``train``, ``training`` or what else the split's own folder is called, where there is one."""
    return [folder / word for word in SPLIT_WORDS[split] if (folder / word).is_dir()]


def places(folder: Path, *, split: Split) -> list[Path]:
    """The folders in which videos of the split may lie: Video Swin's and mmaction2's, then Something-Something's."""
    named = [f"{kind}_{word}" for kind in ("videos", "rawframes") for word in SPLIT_WORDS[split]]
    shared = ["videos", "20bn-something-something-v2", "rawframes"]
    return [
        *split_folders(folder, split=split),
        *(path for name in [*named, *shared] if (path := folder / name).is_dir()),
    ]


def base_of(rows: Sequence[VideoRow], *, folder: Path, split: Split) -> Path:
    """The folder that the names of a list are relative to: the one under which most of a sample exist.

    The data set's own, where none is better.
    """
    sample = rows[:: max(1, len(rows) // _SAMPLE)]

    def hits(base: Path) -> int:
        # Not Path.exists: it raises for a name that is too long and for a folder without permission.
        return sum(os.path.exists(base / row.name) for row in sample)  # noqa: PTH110

    best, most = folder, hits(folder)
    for place in places(folder, split=split) if most < len(sample) else []:
        if (found := hits(place)) > most:
            best, most = place, found
    return best


@dataclass
class Found:
    """``names`` by stem, relative to the data set's folder; ``again`` are the stems found twice, with both names."""

    names: dict[str, str] = field(default_factory=dict)
    again: dict[str, tuple[str, str]] = field(default_factory=dict)


def find(stems: Collection[str], *, folder: Path, split: Split) -> Found:
    """The videos and frame folders that are called like ``stems``, flat or in class folders.

    The first of ``places`` that has a stem counts, then the data set's own folder.
    """
    found = Found()
    for place in [*places(folder, split=split), folder]:
        here = Found()
        prefix = "" if place == folder else f"{place.relative_to(folder).as_posix()}/"
        _scan(place, prefix=prefix, stems=stems, into=here, depth=2 if prefix else 1)
        found.again.update((stem, both) for stem, both in here.again.items() if stem not in found.names)
        found.names = {**here.names, **found.names}
    return found


def _scan(place: Path, *, prefix: str, stems: Collection[str], into: Found, depth: int) -> None:
    """Names of what is called like ``stems`` in ``place``, and in the folders there if ``depth`` is above 1."""
    with os.scandir(place) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            stem, dot, suffix = entry.name.rpartition(".")
            if suffix.lower() in VIDEO_SUFFIXES and stem in stems:
                key = stem
            elif entry.name in stems and entry.is_dir():
                key = entry.name
            else:
                if depth > 1 and not dot and entry.is_dir():
                    _scan(place / entry.name, prefix=f"{prefix}{entry.name}/", stems=stems, into=into, depth=depth - 1)
                continue
            name = f"{prefix}{entry.name}"
            if key in into.names:
                into.again[key] = (into.names[key], name)
            else:
                into.names[key] = name


def is_video(entry: os.DirEntry[str]) -> bool:
    """True for a video file or a folder of frames."""
    if entry.name.startswith("."):
        return False
    if entry.is_dir():
        return count_images(entry.path) > 0
    return entry.name.rpartition(".")[2].lower() in VIDEO_SUFFIXES


def count_images(folder: str | Path) -> int:
    """The number of images in a folder of frames."""
    with os.scandir(folder) as entries:
        return sum(entry.name.rpartition(".")[2].lower() in IMAGE_SUFFIXES for entry in entries)


def images(folder: Path) -> list[Path]:
    """The images in a folder of frames, in the order of their names."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower().removeprefix(".") in IMAGE_SUFFIXES)
