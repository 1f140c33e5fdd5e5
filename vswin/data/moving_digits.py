"""Moving Digits: a small data set of real video files with a Kinetics-style layout, made on the spot.

``<data>/moving-digits/<task>/`` holds ``train.txt`` and ``val.txt`` (rows ``path label``), ``classes.txt``, the files
``train/00000.mp4`` ... and ``manifest.json``. Training and validation share no handwritten digit.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from .annotations import DataError, Split, VideoList
from .drifting_digit import CLASSES, Floats, VideoStyle, render
from .encoding import write_video

# Part of every manifest: raise it when the same parameters give other videos, and old data sets are made again.
GENERATOR_VERSION = 1

_FRAME_RATE = 8
_PER_JOB = 16


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
    The folder appears whole or not at all: an interrupted generation is started again by the next, and a second one
    at the same time waits for the first. What stands there incomplete, or made otherwise, is replaced.
    """
    parent = data / "moving-digits"
    folder = parent / task.name
    parent.mkdir(parents=True, exist_ok=True)
    with _only_one(parent / f".{task.name}.lock"):
        if is_complete(data, task=task, seed=seed):
            return folder
        part = parent / f".{task.name}.part"
        _remove(part)
        _write(part, task=task, seed=seed, workers=workers, on_videos=on_videos)
        _remove(folder)
        part.rename(folder)
    return folder


def is_complete(data: Path, *, task: Task, seed: int = 0) -> bool:
    """Whether the data set is there, made with these parameters and this generator, every file with its size."""
    folder = data / "moving-digits" / task.name
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        return bool(manifest == _manifest(folder, task=task, seed=seed))
    except (OSError, ValueError, DataError):
        return False


def _write(folder: Path, *, task: Task, seed: int, workers: int, on_videos: Callable[[int], None]) -> None:
    glyphs = _glyphs()
    jobs: list[_Job] = []
    folder.mkdir()
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    for split, count in ((Split.TRAIN, task.train), (Split.VAL, task.val)):
        (folder / split).mkdir()
        names = [f"{split}/{number:05d}.mp4" for number in range(count)]
        (folder / f"{split}.txt").write_text("".join(f"{name} {i % len(CLASSES)}\n" for i, name in enumerate(names)))
        for first in range(0, count, _PER_JOB):
            numbers = range(first, min(first + _PER_JOB, count))
            jobs.append(_Job(folder, split, numbers, seed, task.style, glyphs[split]))
    if workers == 1:
        for job in jobs:
            on_videos(_run(job))
    else:
        # Fresh processes: a copy of one that runs threads, as torch does, may hang.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for written in pool.map(_run, jobs):
                on_videos(written)
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
    for number in job.numbers:
        generator = np.random.default_rng([job.seed, list(Split).index(job.split), number])
        glyph = job.glyphs[generator.integers(len(job.glyphs))]
        frames = render(glyph, label=number % len(CLASSES), style=job.style, generator=generator)
        write_video(job.folder / job.split / f"{number:05d}.mp4", frames, frame_rate=_FRAME_RATE)
    return len(job.numbers)


def _glyphs() -> dict[Split, Floats]:
    """Handwritten digits from 0 to 1, [digits, 8, 8], the even ones of scikit-learn's for training."""
    from sklearn.datasets import load_digits

    images = load_digits().images / 16
    return {Split.TRAIN: images[0::2], Split.VAL: images[1::2]}


def _manifest(folder: Path, *, task: Task, seed: int) -> dict[str, Any]:
    """What the folder must say of itself; raises DataError where a file is missing."""
    lists = {split: VideoList.in_folder(folder, split=split) for split in Split}
    manifest = {
        "generator": GENERATOR_VERSION,
        "task": asdict(task),
        "seed": seed,
        "fingerprint": {split: videos.fingerprint for split, videos in lists.items()},
    }
    # As it reads when it comes back from the file, where a tuple is a list.
    return dict(json.loads(json.dumps(manifest)))


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Waits until no other process is inside; a killed one is not inside any more."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove(folder: Path) -> None:
    """Out of the way in one step, so that an interrupted removal leaves nothing that looks complete."""
    if folder.exists():
        doomed = folder.with_name(f".{folder.name.strip('.')}.old-{os.getpid()}")
        folder.rename(doomed)
        shutil.rmtree(doomed)
