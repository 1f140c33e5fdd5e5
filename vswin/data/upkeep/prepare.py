"""A data set of small videos from one of large videos, made in one go or in several."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import IO, Any, NamedTuple

from ..annotations import VideoList
from ..exclusive import only_one
from ..formats import list_file
from ..formats.rows import DataError, Split
from ..video import VideoError, probe
from ..writing import writing
from .parallel import Lost, outcomes
from .reencode import ENCODER, reencode

# Part of every manifest: raise it when the same parameters give other videos.
_VERSION = 1


@dataclass(frozen=True)
class Broken:
    """A video that could not be prepared, and why."""

    split: Split
    source: Path
    why: str


@dataclass(frozen=True)
class Prepared:
    """The data set that was made, without those that are ``broken``; ``new`` videos were encoded this time."""

    folder: Path
    videos: Mapping[Split, int]
    new: int
    broken: tuple[Broken, ...]


def prepare(
    videos: Mapping[Split, VideoList],
    *,
    data: Path,
    name: str,
    short_side: int = 256,
    workers: int,
    seconds: float = 1800.0,
    on_videos: Callable[[int], None] = lambda _: None,
) -> Prepared:
    """Re-encode ``videos`` into the data set ``data/name``, with lists and ``classes.txt``, in ``workers`` processes.

    ``short_side`` is in pixels and even. What an earlier call with the same parameters has done is not done again; the
    folder appears when all videos were tried, and a later call adds what was broken then. ``broken.txt`` in it names
    the videos that are left out; one that takes longer than ``seconds`` is. ``on_videos`` is told of videos as they are
    done. Raises DataError where ``data/name`` was made otherwise, and where it cannot be written.
    """
    if short_side < 16 or short_side % 2:
        raise DataError(f"expected a short side that is even and at least 16 pixels, got {short_side}; choose another")
    folder = data / name
    with writing(folder), only_one(folder.with_name(f".{folder.name}.lock")):
        # Until it is whole, a new data set is out of sight. One that is in sight stays whole, whatever is added.
        work = folder if folder.exists() else folder.with_name(f".{folder.name}.part")
        _same_parameters(work, _parameters(videos, short_side=short_side))
        for part in work.rglob(".*.part"):
            part.unlink()
        tasks = _tasks(videos, work)
        new, broken = _encode(tasks, work, short_side=short_side, workers=workers, seconds=seconds, on_videos=on_videos)
        counts = _write_lists(work, videos, tasks, broken)
        if work != folder:
            work.rename(folder)
    return Prepared(folder, counts, new, tuple(broken.values()))


class _ReencodeTask(NamedTuple):
    """A video to encode; ``target`` is relative to the new data set's folder."""

    split: Split
    source: Path
    target: str
    label: int


class _Work(NamedTuple):
    """Everything that another process needs to encode a video."""

    task: _ReencodeTask
    folder: Path
    short_side: int


@dataclass(frozen=True)
class _Done:
    """An encoded video: the size of its source, its number of frames and its own size, in bytes."""

    target: str
    source_bytes: int
    num_frames: int
    bytes: int


def _encode(
    tasks: list[_ReencodeTask],
    work: Path,
    *,
    short_side: int,
    workers: int,
    seconds: float,
    on_videos: Callable[[int], None],
) -> tuple[int, dict[_ReencodeTask, Broken]]:
    """Encode what is not done yet; the number of new videos, and the broken ones in the order of ``tasks``."""
    todo, broken, new = [], {}, 0
    with (work / "done.jsonl").open("a+") as journal:
        done = _read_journal(journal)
        for task in tasks:
            if _is_done(task, work, done):
                on_videos(1)
            else:
                todo.append(_Work(task, work, short_side))
        for item, outcome in outcomes(_encode_one, todo, workers=workers, seconds=seconds):
            if isinstance(outcome, _Done):
                journal.write(json.dumps(asdict(outcome)) + "\n")
                journal.flush()
                new += 1
            else:
                why = f"the process that encoded it {outcome.why}" if isinstance(outcome, Lost) else outcome
                broken[item.task] = Broken(item.task.split, item.task.source, why)
            on_videos(1)
    return new, {task: broken[task] for task in tasks if task in broken}


def _encode_one(work: _Work) -> _Done | str:
    """Encode a video and count its frames before and after; what is wrong with it, otherwise."""
    source, target = work.task.source, work.folder / work.task.target
    # A process of a killed call may still be at work on the same video.
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        before = probe(source).num_frames
        decoded = reencode(source, part, short_side=work.short_side).num_frames
        after = probe(part).num_frames
    except VideoError as error:
        part.unlink(missing_ok=True)
        return str(error).removeprefix(f"{source}: ")
    if not before == decoded == after:
        part.unlink()
        return f"expected as many frames as it announces, {before}, got {decoded} decoded and {after} encoded"
    with part.open("rb") as file:
        # The name must not reach the disk before the content.
        os.fsync(file.fileno())
    part.replace(target)
    return _Done(work.task.target, source.stat().st_size, after, target.stat().st_size)


def _read_journal(journal: IO[str]) -> dict[str, _Done]:
    """Finished entries by target. A last line that was cut off is removed, a damaged one counts as none."""
    journal.seek(0)
    text = journal.read()
    whole = text[: text.rfind("\n") + 1]
    journal.truncate(len(whole.encode()))
    done = {}
    for line in whole.splitlines():
        try:
            entry = _Done(**json.loads(line))
        except (TypeError, ValueError):
            continue  # left by a machine that lost its power; the video is made again
        done[entry.target] = entry
    return done


def _is_done(task: _ReencodeTask, work: Path, done: Mapping[str, _Done]) -> bool:
    entry = done.get(task.target)
    try:
        return (
            entry is not None
            and entry.source_bytes == task.source.stat().st_size
            and entry.bytes == (work / task.target).stat().st_size
        )
    except OSError:
        return False


def _tasks(videos: Mapping[Split, VideoList], work: Path) -> list[_ReencodeTask]:
    tasks = []
    for split, found in videos.items():
        sources = [found.path(index) for index in range(len(found))]
        for source, target, label in zip(sources, _targets(split, found), found.labels, strict=True):
            tasks.append(_ReencodeTask(split, source, target, label))
    return tasks


def _targets(split: Split, videos: VideoList) -> list[str]:
    """Names in the new data set: ``train/`` and what the list says, as far as it leads below one folder.

    Where two names differ in their suffix only, they keep it before the new one.
    """
    names = [PurePath(name) for name in videos.names]
    if any(name.is_absolute() or ".." in name.parts for name in names):
        paths = [Path(os.path.normpath(videos.folder / name)) for name in names]
        top = Path(os.path.commonpath([path.parent for path in paths]))
        names = [path.relative_to(top) for path in paths]
    if all(name.parts[0] == split and len(name.parts) > 1 for name in names):
        names = [PurePath(*name.parts[1:]) for name in names]
    alike = Counter(name.with_suffix("") for name in names)
    targets = [
        str(PurePath(split, name.with_suffix(".mp4") if alike[name.with_suffix("")] == 1 else f"{name}.mp4"))
        for name in names
    ]
    twice = [target for target, count in Counter(targets).items() if count > 1]
    if twice:
        raise DataError(
            f"{videos.source}: expected names that stay apart, got several for {twice[0]}; rename the files"
        )
    return targets


def _write_lists(
    work: Path, videos: Mapping[Split, VideoList], tasks: list[_ReencodeTask], broken: Mapping[_ReencodeTask, Broken]
) -> dict[Split, int]:
    counts = {}
    classes = next(iter(videos.values())).classes
    if classes:
        _replace(work / "classes.txt", "".join(f"{name}\n" for name in classes))
    for split in videos:
        rows = [(task.target, task.label) for task in tasks if task.split is split and task not in broken]
        list_file.write(work / f".{split}.txt.part", rows=rows)
        (work / f".{split}.txt.part").replace(work / f"{split}.txt")
        counts[split] = len(rows)
    if broken:
        _replace(work / "broken.txt", "".join(f"{item.source}: {item.why}\n" for item in broken.values()))
    else:
        (work / "broken.txt").unlink(missing_ok=True)
    return counts


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    part.replace(path)


def _parameters(videos: Mapping[Split, VideoList], *, short_side: int) -> dict[str, Any]:
    """Everything that decides the pixels, the names and the labels of the new data set."""
    return {
        "version": _VERSION,
        "short_side": short_side,
        "encoder": ENCODER,
        "source": {split.value: str(found.source) for split, found in videos.items()},
    }


def _same_parameters(work: Path, parameters: Mapping[str, Any]) -> None:
    manifest = work / "manifest.json"
    if not work.exists():
        work.mkdir()
        _replace(manifest, json.dumps(parameters, indent=2) + "\n")
        return
    try:
        there = json.loads(manifest.read_text())
    except (OSError, ValueError):
        there = {}
    if there != parameters:
        differ = sorted(key for key in {*there, *parameters} if there.get(key) != parameters.get(key))
        raise DataError(
            f"{work}: expected a data set prepared with these parameters, got others ({', '.join(differ)}); "
            "choose another name, or remove it"
        )
