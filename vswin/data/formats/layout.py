"""The layout of ``$VSWIN_DATA/<data set>/``, and the format that its files are read in.

**Lists** (ours; they win over everything else)
    train.txt, val.txt         rows "path label"; paths are absolute, or
                               relative to the folder, train/, videos_train/
    test.txt                   the same, may be missing: only for recipes that
                               are tested on a split of its own
    classes.txt                class names in the order of their labels, one
                               per line; may be missing

**Lists of others**: one .txt or .csv per split, with train or val in its name
    kinetics400_train_list_videos.txt, k400_val.txt    mmaction2, Video Swin
    train.csv without a header                         SlowFast, VideoMAE
    sthv2_train_list_rawframes.txt                     rows "folder frames label"
    classes.txt or label_map*.txt                      as above

**Kinetics-400, -600, -700** as published, here or in annotations/
    train.csv, val.csv or validate.csv, kinetics-400_train.csv ...
                               label,youtube_id,time_start,time_end,split
    train/ or videos_train/, val/ or videos_val/
                               ID_START_END.mp4, flat or in class folders

**Something-Something v2** as published, here or in annotations/ or labels/
    train.json, validation.json, labels.json, with or without a prefix like
    something-something-v2-
    20bn-something-something-v2/ or videos/            ID.webm

**Class folders**, where there is no annotation at all
    train/<class>/<video>, val/<class>/<video>
    <class>/<video> alone has to be split first: vswin data split NAME

A video may also be a folder of frames, img_00001.jpg and so on. A folder that
can be read in several ways, or in none, is refused. Published annotations name
videos that have gone since: ``vswin data check NAME --write-lists FOLDER``
writes lists of those that are there and whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import class_folders, kinetics_csv, list_file, placed, something_something
from .rows import PUBLISHED_SPLITS, DataError, Format, Gathering, Listing, NoDataError, Split, where_to_put

_PLACES = ("", "annotations", "labels")
_LOOKED_FOR = "train.txt and val.txt, lists, Kinetics CSVs, Something-Something JSONs, train/<class>/ and val/<class>/"


@dataclass(frozen=True)
class Layout:
    """The annotation of the data set in ``folder``; ``files`` are lists, or the splits' folders for class folders."""

    folder: Path
    format: Format
    files: Mapping[Split, Path]

    @classmethod
    def of(cls, folder: Path) -> Layout:
        """Look at what lies in ``folder``; raises DataError where that can be read in several ways, or in none."""
        ours = {split: path for split in Split if (path := folder / f"{split}.txt").exists()}
        if ours:
            return cls(folder, Format.LIST, ours)
        for place in _PLACES:
            found = _annotations(folder / place)
            if found:
                return cls(folder, *_only(folder / place, found))
        folders = class_folders.folders_of(folder) if folder.is_dir() else {}
        if folders:
            return cls(folder, Format.CLASS_FOLDERS, folders)
        raise NoDataError(
            f"{folder / 'train.txt'}: no such file, and nothing else that lists videos, in {folder}; "
            f"looked for {_LOOKED_FOR}; {where_to_put(folder)}"
        )

    def read(self, split: Split) -> Listing:
        """The rows of a split, wrong ones apart. Raises DataError where the split cannot be read at all."""
        path = self.files.get(split)
        if path is None:
            there = ", ".join(str(path) for path in self.files.values())
            raise DataError(
                f"{self.folder / f'{split}.txt'}: cannot be opened: there is no {split} split, only {there}; "
                f"{where_to_put(self.folder)}"
            )
        classes = self.classes()
        gathering = self._gather(path, split=split, classes=classes)
        rows = tuple(gathering.rows.values())
        folder = self.folder
        if self.format is Format.LIST:
            folder = placed.base_of(rows, folder=self.folder, split=split)
        return Listing(self.format, path, folder, rows, classes, tuple(gathering.problems))

    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their labels, the same for both splits; none for a list without them."""
        named = list_file.read_classes(self.folder)
        if named or self.format is Format.LIST:
            return named
        if self.format is Format.KINETICS:
            return kinetics_csv.classes_of(self.files)
        if self.format is Format.SOMETHING:
            return something_something.classes_of(next(iter(self.files.values())).parent)
        return class_folders.classes_of(self.files)

    def _gather(self, path: Path, *, split: Split, classes: tuple[str, ...]) -> Gathering:
        if self.format is Format.LIST:
            return list_file.read(path, classes=classes)
        if self.format is Format.KINETICS:
            return kinetics_csv.read(path, folder=self.folder, split=split, classes=classes)
        if self.format is Format.SOMETHING:
            return something_something.read(path, folder=self.folder, split=split, classes=classes)
        return class_folders.read(path, folder=self.folder, classes=classes)


def data_sets(data: Path) -> list[str]:
    """The names of the data sets under the data folder, such as ``moving-digits/tiny``.

    Two levels deep at most: a real data set has hundreds of thousands of files below that.
    """
    names: list[str] = []
    for folder in sorted(path for path in data.glob("[!.]*") if path.is_dir()):
        if _readable(folder):
            names.append(folder.name)
        else:
            inside = sorted(path for path in folder.glob("[!.]*") if path.is_dir())
            names += [f"{folder.name}/{path.name}" for path in inside if _readable(path)]
    return names


def _readable(folder: Path) -> bool:
    try:
        Layout.of(folder)
    except NoDataError:
        return False
    except DataError:
        # What can be read in several ways is a data set, and is to be put right.
        return True
    return True


def _annotations(place: Path) -> list[tuple[Format, Split, Path]]:
    """Every file in ``place`` that is an annotation by its name and its first line."""
    found = []
    for path in sorted(place.glob("[!.]*")) if place.is_dir() else []:
        words = set(re.split(r"[_\-. ]+", path.stem.lower()))
        for split in PUBLISHED_SPLITS:
            if words & set(placed.SPLIT_WORDS[split]) and path.is_file() and (format_ := _format(path)):
                found.append((format_, split, path))
    return found


def _format(path: Path) -> Format | None:
    if path.suffix == ".txt":
        return Format.LIST
    if path.suffix not in (".csv", ".json"):
        return None
    with path.open("rb") as file:
        first = file.readline(1 << 16).decode("utf-8-sig", errors="replace").strip()
    if path.suffix == ".csv":
        return Format.KINETICS if kinetics_csv.is_header(first) else Format.LIST
    # Kinetics comes as JSON too, an object: the same as its CSV.
    return Format.SOMETHING if first.startswith("[") else None


def _only(place: Path, found: list[tuple[Format, Split, Path]]) -> tuple[Format, dict[Split, Path]]:
    files = {split: path for _, split, path in found}
    formats = {format_ for format_, _, _ in found}
    if len(files) < len(found) or len(formats) > 1:
        names = ", ".join(f"{path.name} ({format_}, {split})" for format_, split, path in found)
        raise DataError(
            f"{place}: expected one annotation file per split, all of one format, got {names}; "
            "move away what does not count, or write train.txt and val.txt, which win"
        )
    return formats.pop(), files
