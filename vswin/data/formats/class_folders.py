"""A data set without any annotation: ``train/<class>/<video>`` and ``val/<class>/<video>``.

A video is a file, or a folder of frames. Classes are in alphabetical order over both splits, so one that has no video
in a split keeps its number. Names are compared in Unicode's composed form, since a file system may have changed it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from unicodedata import normalize

from . import placed
from .rows import PUBLISHED_SPLITS, DataError, Gathering, Split


def folders_of(folder: Path) -> dict[Split, Path]:
    """The folder of each split that has class folders in it."""
    found: dict[Split, Path] = {}
    for split in PUBLISHED_SPLITS:
        ours = [path for path in placed.split_folders(folder, split=split) if _class_folders(path)]
        if len(ours) > 1:
            names = ", ".join(f"{path.name}/" for path in ours)
            raise DataError(f"{folder}: expected one folder for {split}, got {names}; remove or rename one")
        if ours:
            found[split] = ours[0]
    return found


def classes_of(folders: Mapping[Split, Path]) -> tuple[str, ...]:
    """The names of the class folders of both splits, in order; DataError where a split is missing."""
    for split in PUBLISHED_SPLITS:
        if split not in folders:
            there = ", ".join(str(path) for path in folders.values())
            raise DataError(
                f"{there}: expected class folders for both splits, since they number the classes together, got none "
                f"for {split}; make {split}/<class>, or put a classes.txt with all class names in order there"
            )
    return tuple(sorted({_composed(path.name) for folder in folders.values() for path in _class_folders(folder)}))


def read(path: Path, *, folder: Path, classes: Sequence[str]) -> Gathering:
    """The videos under the split's folder ``path``, in the order of classes and names."""
    gathering = Gathering(path, len(classes))
    labels = {_composed(name).replace("_", " "): label for label, name in enumerate(classes)}
    for place in sorted(_class_folders(path), key=lambda place: _composed(place.name)):
        label = labels.get(_composed(place.name).replace("_", " "))
        if label is None:
            gathering.problems.append(
                f"{place}: expected one of the {len(classes)} classes of classes.txt; add or rename it"
            )
            continue
        with os.scandir(place) as entries:
            names = sorted(entry.name for entry in entries if placed.is_video(entry))
        prefix = place.relative_to(folder).as_posix()
        for name in names:
            gathering.add(f"{prefix}/{name}", label, line=0)
    if not gathering.rows and not gathering.problems:
        raise DataError(f"{path}: expected videos in class folders, got none; put some there")
    return gathering


def _class_folders(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        return [path / entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]


def _composed(name: str) -> str:
    return normalize("NFC", name)
