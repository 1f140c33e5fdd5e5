"""Is a data set whole: every listed video opened and decoded in places, labels and duplicates looked at."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from ..annotations import VideoList
from ..formats.rows import Listing, Split
from .inspect_video import Defect, Flaw, Inspected, digest, inspect
from .parallel import Lost, outcomes

# Frames of a clip of the paper: 32, two apart. Shorter videos are looped.
MIN_FRAMES = 64

_FIRST_BYTES = 1 << 16

_YOUTUBE = re.compile(r"([\w-]{11})_\d{6}_\d{6}")


class Kind(StrEnum):
    """Kinds of findings; the value is for people."""

    ROW = "wrong row"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    CUT_OFF = "cut off, or damaged inside"
    CRASH = "crashes or hangs the decoder"
    LABEL = "label disagrees with class folder"
    DUPLICATE = "duplicate in its split"
    LEAK = "in training and validation"
    SHORT = "short, will be looped"
    SAME_SOURCE = "cut from the same video as another"

    @property
    def is_error(self) -> bool:
        """True where something is wrong; the others are notes."""
        return self not in (Kind.SHORT, Kind.SAME_SOURCE)


_KINDS = {Flaw.MISSING: Kind.MISSING, Flaw.UNREADABLE: Kind.UNREADABLE, Flaw.CUT_OFF: Kind.CUT_OFF}


@dataclass(frozen=True)
class Finding:
    """Something found about the video ``name`` of a split; of a wrong row, ``name`` is empty."""

    kind: Kind
    split: Split
    name: str
    detail: str


@dataclass(frozen=True)
class Report:
    """Findings of a check. ``good`` are the rows without an error, in their order."""

    videos: Mapping[Split, VideoList]
    findings: tuple[Finding, ...]
    frames: int
    bytes: int

    @property
    def is_good(self) -> bool:
        """True where nothing is wrong."""
        return not any(finding.kind.is_error for finding in self.findings)

    def counts(self) -> dict[Kind, int]:
        """The number of findings of each kind; kinds without any are left out."""
        counted = Counter(finding.kind for finding in self.findings)
        return {kind: counted[kind] for kind in Kind if counted[kind]}

    def good(self, split: Split) -> list[int]:
        """Indices of the videos of ``split`` without an error.

        Of duplicates the first is good; of a video in both splits the one for validation.
        """
        bad = {finding.name for finding in self.findings if finding.split is split and finding.kind.is_error}
        return [index for index, name in enumerate(self.videos[split].names) if name not in bad]

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {
            "good": self.is_good,
            "videos": {split.value: len(videos) for split, videos in self.videos.items()},
            "good_videos": {split.value: len(self.good(split)) for split in self.videos},
            "format": {split.value: videos.format.value for split, videos in self.videos.items()},
            "classes": list(next(iter(self.videos.values())).classes),
            "frames": self.frames,
            "bytes": self.bytes,
            "counts": {kind.name.lower(): count for kind, count in self.counts().items()},
            "findings": [
                {
                    "kind": finding.kind.name.lower(),
                    "error": finding.kind.is_error,
                    "split": finding.split.value,
                    "name": finding.name,
                    "detail": finding.detail,
                }
                for finding in self.findings
            ],
        }


def check(
    listings: Mapping[Split, Listing],
    *,
    workers: int,
    min_frames: int = MIN_FRAMES,
    seconds: float = 120.0,
    on_videos: Callable[[int], None] = lambda _: None,
) -> Report:
    """Look at every video of ``listings`` in ``workers`` processes.

    Opened, counted and decoded at its first, middle and last frame; a process that dies or takes longer than
    ``seconds`` costs its video only. Files of one size are compared by their content. ``on_videos`` is told of videos
    as they are done.
    """
    videos = {split: VideoList.of_good_rows(listing) for split, listing in listings.items()}
    keys = [_Key(split, index) for split, found in videos.items() for index in range(len(found))]
    findings = [
        Finding(Kind.ROW, split, "", problem) for split, listing in listings.items() for problem in listing.problems
    ]
    whole: dict[_Key, Inspected] = {}
    tasks = (_CheckTask(videos[key.split].path(key.position), key) for key in keys)
    for task, outcome in outcomes(_inspect, tasks, workers=workers, seconds=seconds):
        key, name = task.key, _name(videos, task.key)
        match outcome:
            case Inspected():
                whole[key] = outcome
                if outcome.num_frames < min_frames:
                    detail = f"{outcome.num_frames} frames of {min_frames}"
                    findings.append(Finding(Kind.SHORT, key.split, name, detail))
            case Defect():
                findings.append(Finding(_KINDS[outcome.flaw], key.split, name, outcome.detail))
            case Lost():
                findings.append(Finding(Kind.CRASH, key.split, name, f"the process that decoded it {outcome.why}"))
        on_videos(1)
    whole = {key: whole[key] for key in keys if key in whole}
    for split, found in videos.items():
        findings += _wrong_labels(split, found)
    findings += _duplicates(videos, whole, workers=workers, seconds=seconds)
    order = {kind: position for position, kind in enumerate(Kind)}
    place = {(split, name): index for split, found in videos.items() for index, name in enumerate(found.names)}
    findings.sort(key=lambda finding: (order[finding.kind], finding.split, place.get((finding.split, finding.name), 0)))
    return Report(
        videos,
        tuple(findings),
        frames=sum(found.num_frames for found in whole.values()),
        bytes=sum(found.bytes for found in whole.values()),
    )


class _Key(NamedTuple):
    """A video of a split."""

    split: Split
    position: int


class _CheckTask(NamedTuple):
    """Work on one file, in another process."""

    path: Path
    key: _Key


def _inspect(task: _CheckTask) -> Inspected | Defect:
    return inspect(task.path)


def _first_bytes(task: _CheckTask) -> bytes | None:
    return _digest(task.path, limit=_FIRST_BYTES)


def _all_bytes(task: _CheckTask) -> bytes | None:
    return _digest(task.path, limit=None)


def _digest(path: Path, *, limit: int | None) -> bytes | None:
    """None for a video that could be inspected and cannot be read any more."""
    try:
        return digest(path, limit=limit)
    except OSError:
        return None


def _wrong_labels(split: Split, videos: VideoList) -> Iterator[Finding]:
    """Videos in a folder that is called like another class than theirs."""
    folders = [_plain(PurePath(name).parent.name) for name in videos.names]
    if videos.classes:
        label_of = {_plain(name): label for label, name in enumerate(videos.classes)}
    else:
        label_of = _labels_by_folder(folders, videos.labels)
    for name, label, folder in zip(videos.names, videos.labels, folders, strict=True):
        expected = label_of.get(folder, label)
        if expected != label:
            said, meant = (
                (f"{videos.classes[number]!r}" if videos.classes else str(number)) for number in (label, expected)
            )
            yield Finding(Kind.LABEL, split, name, f"listed as {said}, its folder says {meant}")


def _labels_by_folder(folders: Sequence[str], labels: Sequence[int]) -> dict[str, int]:
    """The label of most videos in each folder, where that tells every folder from every other."""
    votes: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for folder, label in zip(folders, labels, strict=True):
        votes[folder][label] += 1
    label_of = {folder: counted.most_common(1)[0][0] for folder, counted in votes.items()}
    clear = all(counted[label_of[folder]] > counted.total() / 2 for folder, counted in votes.items())
    one_to_one = len(set(label_of.values())) == len(label_of)
    return label_of if clear and one_to_one else {}


def _plain(name: str) -> str:
    """Class names as folders have them: with underscores for blanks, without quotes and brackets."""
    return re.sub(r"[\s_]+", " ", re.sub(r"[\"'()\[\],]", "", name)).strip().casefold()


def _duplicates(
    videos: Mapping[Split, VideoList], whole: Mapping[_Key, Inspected], *, workers: int, seconds: float
) -> Iterator[Finding]:
    """Videos of the same content, then those cut from the same YouTube video.

    Only files of one size are read, and to the end only those that begin alike.
    """

    def alike(work: Callable[[_CheckTask], bytes | None], groups: Iterable[Sequence[_Key]]) -> Iterator[Sequence[_Key]]:
        group_of = {key: number for number, group in enumerate(groups) for key in group}
        tasks = (_CheckTask(videos[key.split].path(key.position), key) for key in group_of)
        found = {task.key: digest for task, digest in outcomes(work, tasks, workers=workers, seconds=seconds)}
        # In the order of the lists again; a file that cannot be read any more is like no other.
        read = [key for key in group_of if isinstance(found[key], bytes)]
        return _groups(read, lambda key: (group_of[key], found[key]))

    groups = _groups(whole, lambda key: whole[key].bytes)
    reported: set[_Key] = set()
    for group in alike(_all_bytes, alike(_first_bytes, groups)):
        first = next((key for key in group if key.split is Split.VAL), group[0])
        for key in group:
            if key != first:
                reported.add(key)
                yield _same(videos, key, first, kind=Kind.DUPLICATE, what="the same content as")
    sources = {key: found[1] for key in whole if (found := _YOUTUBE.fullmatch(PurePath(_name(videos, key)).stem))}
    for group in _groups(sources, lambda key: sources[key]):
        first = next((key for key in group if key.split is Split.VAL), group[0])
        for key in group:
            if key != first and key not in reported:
                yield _same(videos, key, first, kind=Kind.SAME_SOURCE, what="of the same YouTube video as")


def _same(videos: Mapping[Split, VideoList], key: _Key, first: _Key, *, kind: Kind, what: str) -> Finding:
    """``key`` is the same as ``first``, which is graver where one is for training and one for validation."""
    labels = {videos[one.split].labels[one.position] for one in (key, first)}
    other = ", with another label" if len(labels) > 1 else ""
    if key.split is not first.split:
        kind = Kind.LEAK
    return Finding(kind, key.split, _name(videos, key), f"{what} {_name(videos, first)} of {first.split}{other}")


def _name(videos: Mapping[Split, VideoList], key: _Key) -> str:
    return videos[key.split].names[key.position]


def _groups(keys: Iterable[_Key], what: Callable[[_Key], Hashable]) -> Iterator[Sequence[_Key]]:
    """The keys of which ``what`` gives the same as of another."""
    by: defaultdict[Hashable, list[_Key]] = defaultdict(list)
    for key in keys:
        by[what(key)].append(key)
    return (group for group in by.values() if len(group) > 1)
