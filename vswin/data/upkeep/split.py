"""Videos in one folder per class, and no more: shared out to training and validation, with a balance sheet."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import numpy as np

from ..formats import list_file, placed
from ..formats.rows import DataError, Split

# Names of UCF-101's clips: those of one group are cut from one recording.
_UCF = re.compile(r"_(g\d+)_c\d+\.\w+$")
_ARCHIVES = frozenset({"zip", "tar", "gz", "tgz", "bz2", "xz", "rar", "7z"})
_TRIES = 1000


@dataclass(frozen=True, kw_only=True)
class ClassesSplit:
    """``videos``: how many every split got. ``groups``: how many groups were kept together; 0 without any.

    ``left_out`` has every other file and folder by the reason why it is in no list, in the order of names.
    """

    videos: Mapping[Split, int]
    groups: int
    left_out: Mapping[str, Sequence[str]]


def split_classes(folder: Path, *, share: float, seed: int, group_by: str | None = None) -> ClassesSplit:
    """Write ``train.txt``, ``val.txt`` and ``classes.txt`` for ``folder/<class>/.../<video>``; say what became of all.

    Of every class the ``share`` for validation, at least one and not all, is drawn; the same ``seed`` gives the same
    lists for the same names. A video is a file or a folder of frames, at any depth. ``group_by`` is a regular
    expression: videos whose paths give the same match (its first group, if it has one) go to one split, as clips of
    one recording or person must; the share is then met as nearly as groups allow. The names of UCF-101 are recognised.

    Raises DataError, and writes nothing, where there are lists or splits already, where a class has fewer than two
    videos or groups, where a path gives no group, and where a name fits in no list.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder with one folder of videos per class, found none")
    names = {f"{split}.txt" for split in Split} | {"classes.txt", *placed.SPLIT_WORDS[Split.TRAIN]}
    if taken := sorted(name for name in names if (folder / name).exists()):
        raise DataError(f"{folder / taken[0]}: is there already, so the data set is split; see: vswin data layout")
    left_out: dict[str, list[str]] = defaultdict(list)
    classes: dict[str, list[str]] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith(".") or not entry.is_dir():
            left_out[_reason(entry, "beside the folders of classes")].append(entry.name)
        else:
            classes[entry.name] = list(_videos(Path(entry.path), folder, left_out))
    order = sorted((name for name, videos in classes.items() if videos), key=lambda name: normalize("NFC", name))
    left_out["folders without videos"] += [name for name in classes if not classes[name]]
    if len(order) < 2:
        raise DataError(f"{folder}: expected videos in the folders of two classes or more, got {order or 'none'}")
    groups = _groups([video for name in order for video in classes[name]], group_by, folder)
    held_out = _held_out({name: classes[name] for name in order}, groups, share=share, seed=seed, folder=folder)
    rows: dict[Split, list[tuple[str, int]]] = {Split.TRAIN: [], Split.VAL: []}
    for label, name in enumerate(order):
        for video in classes[name]:
            rows[Split.VAL if video in held_out else Split.TRAIN].append((video, label))
    _write(folder, rows, order)
    return ClassesSplit(
        videos={split: len(listed) for split, listed in rows.items()},
        groups=len(set(groups.values())),
        left_out={reason: found for reason, found in sorted(left_out.items()) if found},
    )


def _write(folder: Path, rows: Mapping[Split, Sequence[tuple[str, int]]], order: Sequence[str]) -> None:
    written: list[Path] = []
    try:
        for split, listed in rows.items():
            written.append(folder / f"{split}.txt")
            list_file.write(written[-1], rows=listed)
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in order), encoding="utf-8")
    except DataError:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def _videos(place: Path, folder: Path, left_out: Mapping[str, list[str]]) -> Iterator[str]:
    """The paths of the videos in ``place`` and below, relative to ``folder``; the rest goes to ``left_out``."""
    entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    for entry in entries:
        name = Path(entry.path).relative_to(folder).as_posix()
        if placed.is_video(entry):
            yield name
        elif entry.is_dir() and not entry.name.startswith("."):
            yield from _videos(Path(entry.path), folder, left_out)
        else:
            left_out[_reason(entry, "no suffix of a video")].append(name)


def _reason(entry: os.DirEntry[str], otherwise: str) -> str:
    suffix = entry.name.rpartition(".")[2].lower()
    if entry.name.startswith("."):
        return "hidden"
    if suffix in _ARCHIVES and entry.is_file():
        return "archives, to be unpacked"
    return otherwise


def _groups(videos: Sequence[str], pattern: str | None, folder: Path) -> dict[str, str]:
    """The group of every video; empty where there are none."""
    if pattern is None:
        found = {video: match[1] for video in videos if (match := _UCF.search(video))}
        return found if len(found) == len(videos) else {}
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise DataError(f"expected a regular expression for the groups, got {pattern!r} ({error})") from error
    groups: dict[str, str] = {}
    for video in videos:
        match = wanted.search(video)
        if match is None:
            raise DataError(f"{folder / video}: {pattern!r} matches nothing in {video!r}, so it belongs to no group")
        groups[video] = match[1] if wanted.groups else match[0]
    return groups


def _held_out(
    classes: Mapping[str, Sequence[str]], groups: Mapping[str, str], *, share: float, seed: int, folder: Path
) -> set[str]:
    """The videos to validate on."""
    if groups:
        return _held_out_groups(classes, groups, share=share, seed=seed, folder=folder)
    held_out: set[str] = set()
    for label, (name, videos) in enumerate(classes.items()):
        if len(videos) < 2:
            raise DataError(f"{folder / name}: expected a video to train on and one to test on, got {len(videos)}")
        number = min(len(videos) - 1, max(1, round(share * len(videos))))
        chosen = np.random.default_rng([seed, label]).permutation(len(videos))[:number]
        held_out |= {videos[index] for index in chosen}
    return held_out


def _held_out_groups(
    classes: Mapping[str, Sequence[str]], groups: Mapping[str, str], *, share: float, seed: int, folder: Path
) -> set[str]:
    """Whole groups, nearly ``share`` of the videos, some of every class and not all: the best of many draws."""
    members: dict[str, list[str]] = defaultdict(list)
    for video, group in groups.items():
        members[group].append(video)
    names = sorted(members)
    generator = np.random.default_rng([seed, len(names)])
    wanted, best, least = share * len(groups), set[str](), float("inf")
    for _ in range(_TRIES):
        chosen: set[str] = set()
        for index in generator.permutation(len(names)):
            if len(chosen) + len(members[names[index]]) / 2 <= wanted or not chosen:
                chosen |= set(members[names[index]])
        off = abs(len(chosen) - wanted)
        if off < least and all(0 < len(chosen & set(videos)) < len(videos) for videos in classes.values()):
            best, least = chosen, off
    if not best:
        few = min(classes, key=lambda name: len({groups[video] for video in classes[name]}))
        count = len({groups[video] for video in classes[few]})
        raise DataError(
            f"{folder / few}: {count} group{'s' * (count != 1)} there, and no choice of whole groups leaves every "
            "class something to train on and to test on; group by something finer, or make the lists by hand"
        )
    return best
