"""Moving Digits: a small data set of real video files with a Kinetics-style layout, made on the spot.

``<data>/moving-digits/<task>/`` holds ``train.txt`` and ``val.txt`` (rows ``path label``), ``classes.txt``, the files
``train/00000.mp4`` ... and ``manifest.json``. Training and validation share no handwritten digit.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .annotations import DataError, Split, VideoList
from .drifting_digit import CLASSES, Floats, VideoStyle, render
from .encoding import write_video
from .exclusive import only_one
from .upkeep.parallel import Lost, outcomes
from .writing import writing

# Part of every manifest: raise it when the same parameters give other videos, and old data sets are made again.
GENERATOR_VERSION = 1

_FRAME_RATE = 8
_PER_JOB = 16
_SECONDS_PER_JOB = 3600.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """A data set to generate: ``name`` is its folder, ``train`` and ``val`` its numbers of videos."""

    name: str
    train: int
    val: int
    style: VideoStyle = field(default_factory=VideoStyle)


COLOUR_ORDER = Task(name="colour-order", train=768, val=384)
TINY = Task(name="tiny", train=24, val=12)
TASKS = (COLOUR_ORDER, TINY)


def generate(
    data: Path,
    *,
    task: Task,
    seed: int = 0,
    workers: int = 1,
    on_videos: Callable[[int], None] = lambda _: None,
) -> Path:
    """Make the data set ``data/moving-digits/<task.name>`` unless it is there and complete; return its folder.

    ``on_videos`` is told how many videos each finished piece of work added; it is not called where nothing is to do.
    The same task and seed give the same lists and the same decoded pixels for any number of ``workers`` (processes).
    The folder appears whole or not at all: the next call takes over the finished videos of an interrupted one with the
    same parameters, and a second one at the same time waits for the first. What stands there incomplete, or made
    otherwise, is replaced. Raises DataError for a process that died and where the disk is full.
    """
    parent = data / "moving-digits"
    folder = parent / task.name
    with writing(folder), only_one(parent / f".{task.name}.lock"):
        if is_complete(data, task=task, seed=seed):
            return folder
        part = parent / f".{task.name}.part"
        parameters = _parameters(task=task, seed=seed)
        if _read_json(part / "parameters.json") != parameters:
            _remove(part)
            part.mkdir()
            (part / "parameters.json").write_text(json.dumps(parameters, indent=2) + "\n")
        _write(part, task=task, seed=seed, workers=workers, on_videos=on_videos)
        _remove(folder)
        part.rename(folder)
        (folder / "parameters.json").unlink()
    return folder


def is_complete(data: Path, *, task: Task, seed: int = 0) -> bool:
    """Whether the data set is there, made with these parameters and this generator, every file with its size."""
    folder = data / "moving-digits" / task.name
    try:
        return _read_json(folder / "manifest.json") == _manifest(folder, task=task, seed=seed)
    except DataError:
        return False


def _write(folder: Path, *, task: Task, seed: int, workers: int, on_videos: Callable[[int], None]) -> None:
    glyphs = _glyphs()
    jobs: list[_Job] = []
    for split, count in ((Split.TRAIN, task.train), (Split.VAL, task.val)):
        (folder / split).mkdir(exist_ok=True)
        for unfinished in (folder / split).glob(".*"):
            unfinished.unlink()
        for first in range(0, count, _PER_JOB):
            numbers = range(first, min(first + _PER_JOB, count))
            jobs.append(_Job(folder, split, numbers, seed, task.style, glyphs[split]))
    if workers == 1:
        for job in jobs:
            on_videos(_run(job))
    else:
        with closing(outcomes(_run, jobs, workers=workers, seconds=_SECONDS_PER_JOB)) as done:
            for job, written in done:
                if isinstance(written, Lost):
                    raise DataError(f"{job.folder}: the process that made videos {written.why}; run the same again")
                on_videos(written)
    # Only now: what lists have been written for is whole.
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    for split, count in ((Split.TRAIN, task.train), (Split.VAL, task.val)):
        rows = (f"{split}/{number:05d}.mp4 {number % len(CLASSES)}\n" for number in range(count))
        (folder / f"{split}.txt").write_text("".join(rows))
    (folder / "manifest.json").write_text(json.dumps(_manifest(folder, task=task, seed=seed), indent=2) + "\n")


@dataclass(frozen=True)
class _Job:
    """A few videos of a split, for one process."""

    folder: Path
    split: Split
    numbers: range
    seed: int
    style: VideoStyle
    glyphs: Floats


def _run(job: _Job) -> int:
    """Make the videos that are not there. One that is there is whole: its name came last."""
    for number in job.numbers:
        path = job.folder / job.split / f"{number:05d}.mp4"
        if path.exists():
            continue
        generator = np.random.default_rng([job.seed, list(Split).index(job.split), number])
        glyph = job.glyphs[generator.integers(len(job.glyphs))]
        frames = render(glyph, label=number % len(CLASSES), style=job.style, generator=generator)
        # A process of a killed call may still be at work on the same video.
        part = path.with_name(f".{os.getpid()}-{path.name}")
        write_video(part, frames, frame_rate=_FRAME_RATE)
        with part.open("rb") as file:
            # The name must not reach the disk before the content.
            os.fsync(file.fileno())
        part.rename(path)
    return len(job.numbers)


def _glyphs() -> dict[Split, Floats]:
    """Handwritten digits from 0 to 1, [digits, 8, 8], the even ones of scikit-learn's for training."""
    from sklearn.datasets import load_digits

    images = load_digits().images / 16
    return {Split.TRAIN: images[0::2], Split.VAL: images[1::2]}


def _manifest(folder: Path, *, task: Task, seed: int) -> dict[str, Any]:
    """What the folder must say of itself; raises DataError where a file is missing."""
    lists = {split: VideoList.in_folder(folder, split=split) for split in Split}
    fingerprints = {split.value: videos.fingerprint for split, videos in lists.items()}
    return {**_parameters(task=task, seed=seed), "fingerprint": fingerprints}


def _parameters(*, task: Task, seed: int) -> dict[str, Any]:
    """What decides the pixels, as it reads when it comes back from a file, where a tuple is a list."""
    return dict(json.loads(json.dumps({"generator": GENERATOR_VERSION, "task": asdict(task), "seed": seed})))


def _read_json(path: Path) -> Any:
    """The content of a file; None where it is missing or was cut off."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _remove(folder: Path) -> None:
    """Out of the way in one step, so that an interrupted removal leaves nothing that looks complete."""
    if folder.exists():
        doomed = folder.with_name(f".{folder.name.strip('.')}.old-{os.getpid()}")
        folder.rename(doomed)
        shutil.rmtree(doomed)
