"""Moving Digits: a small data set of real video files with a Kinetics-style layout, made on the spot.

``<data>/moving-digits/<task>/`` holds ``train.txt``, ``val.txt`` and ``test.txt`` (rows ``path label``),
``classes.txt``, the files ``train/00000.mp4`` ... and ``manifest.json``. No two splits share a handwritten digit.

Two video tasks stand for two kinds of data. ``kinetics400`` (and ``kinetics600``, which has half as many classes more)
is about what is seen: the class is the digit, and whether it changes its colours seldom or often. Without a sense of
time a network tells the digit and guesses the rest. ``something`` is about what comes first: any digit, in one colour
and then in another, and the class is which two in which order. Without a sense of time a network tells the two and
guesses the order.

Still images (videos of one frame) stand for what image models are trained on: ``stills-small`` has the ten digits for
classes, ``stills-large`` has more images and finer classes, digits by colour.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .annotations import DataError, Split, VideoList
from .drifting_digit import Colour, Floats, VideoClass, VideoStyle, render
from .exclusive import only_one
from .writing import writing

# Part of every manifest: raise it when the same parameters give other videos, and old data sets are made again.
GENERATOR_VERSION = 3

# The random numbers of a split. While tasks were designed test videos were those of 2, and some were looked at; those
# of 3 were made when the design was done.
_STREAMS = {Split.TRAIN: 0, Split.VAL: 1, Split.TEST: 3}

_FRAME_RATE = 8
_PER_JOB = 16
_SECONDS_PER_JOB = 3600.0


def paces(*changes: tuple[int, int]) -> tuple[VideoClass, ...]:
    """Any digit; a class for each of ``changes``, how often the colour changes (least, most)."""
    return tuple(VideoClass(name=f"{least}-to-{most}-changes", changes=(least, most)) for least, most in changes)


def digits_and_paces(digits: int, *changes: tuple[int, int]) -> tuple[VideoClass, ...]:
    """So many digits, each at every one of ``paces``."""
    return tuple(
        replace(pace, name=f"{digit}-{pace.name}", digit=digit)
        for digit, pace in product(range(digits), paces(*changes))
    )


def orders(*colours: Colour) -> tuple[VideoClass, ...]:
    """Any digit; a class for each two of ``colours``, by which of them comes first."""
    return tuple(
        VideoClass(name=f"{one.name}-then-{two.name}".lower(), colours=(one, two), changes=(1, 1), in_order=True)
        for one, two in permutations(colours, 2)
    )


def still_digits(*colours: Colour) -> tuple[VideoClass, ...]:
    """The ten digits in each of ``colours``; the class says which."""
    return tuple(
        VideoClass(name=f"{digit}-{colour.name.lower()}", digit=digit, colours=(colour,), changes=(0, 0))
        for digit, colour in product(range(10), colours)
    )


SELDOM_OR_OFTEN = ((1, 2), (6, 7))


@dataclass(frozen=True, kw_only=True)
class Task:
    """A data set to generate: ``name`` is its folder, ``train``, ``val`` and ``test`` its numbers of videos."""

    name: str
    train: int
    val: int
    test: int
    classes: tuple[VideoClass, ...] = field(default_factory=lambda: digits_and_paces(3, *SELDOM_OR_OFTEN))
    style: VideoStyle = field(default_factory=VideoStyle)

    @property
    def videos(self) -> dict[Split, int]:
        """The number of videos in each split."""
        return {Split.TRAIN: self.train, Split.VAL: self.val, Split.TEST: self.test}


_NOISY = VideoStyle(noise=0.12)
_STILL = VideoStyle(frames=1, beats=1)

KINETICS_400 = Task(
    name="kinetics400", train=768, val=192, test=384, classes=digits_and_paces(6, *SELDOM_OR_OFTEN), style=_NOISY
)
KINETICS_600 = Task(
    name="kinetics600", train=1152, val=288, test=576, classes=digits_and_paces(9, *SELDOM_OR_OFTEN), style=_NOISY
)
SOMETHING = Task(
    name="something",
    train=768,
    val=192,
    test=384,
    classes=orders(Colour.RED, Colour.GREEN, Colour.BLUE),
    # Two segments of uniform sampling a beat, with a frame between any two: neighbours share it.
    style=replace(_NOISY, frames=33, rests=True),
)
STILLS_SMALL = Task(
    name="stills-small", train=2400, val=200, test=400, classes=still_digits(Colour.NEUTRAL), style=_STILL
)
STILLS_LARGE = Task(name="stills-large", train=4800, val=400, test=800, classes=still_digits(*Colour), style=_STILL)
TINY = Task(name="tiny", train=24, val=12, test=12)
TINY_STILLS = Task(name="tiny-stills", train=20, val=10, test=10, classes=still_digits(Colour.NEUTRAL), style=_STILL)
TINY_STILLS_LARGE = Task(
    name="tiny-stills-large",
    train=20,
    val=20,
    test=20,
    classes=still_digits(Colour.RED, Colour.NEUTRAL),
    style=_STILL,
)
MINI_TASKS = (KINETICS_400, KINETICS_600, SOMETHING, STILLS_SMALL, STILLS_LARGE)
TINY_TASKS = (TINY, TINY_STILLS, TINY_STILLS_LARGE)
TASKS = (*MINI_TASKS, *TINY_TASKS)


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
    """True if the data set is there, made with these parameters and this generator, every file with its size."""
    folder = data / "moving-digits" / task.name
    try:
        return _read_json(folder / "manifest.json") == _manifest(folder, task=task, seed=seed)
    except DataError:
        return False


def is_outdated(data: Path, *, dataset: str) -> bool:
    """True if ``data/dataset`` is one of ``TASKS`` and was generated by other code, and so has other videos."""
    made = _read_json(data / dataset / "manifest.json")
    [*known] = [task for task in TASKS if dataset == f"moving-digits/{task.name}"]
    if not known or not isinstance(made, dict):
        return False
    return any(made.get(name) != value for name, value in _parameters(task=known[0], seed=made.get("seed")).items())


def _write(folder: Path, *, task: Task, seed: int, workers: int, on_videos: Callable[[int], None]) -> None:
    # it starts processes, which those who only look at data sets need not pay for
    from .upkeep.parallel import Lost, outcomes

    glyphs = _glyphs()
    jobs: list[_Job] = []
    for split, count in task.videos.items():
        (folder / split).mkdir(exist_ok=True)
        for unfinished in (folder / split).glob(".*"):
            unfinished.unlink()
        for first in range(0, count, _PER_JOB):
            numbers = range(first, min(first + _PER_JOB, count))
            jobs.append(_Job(folder, split, numbers, seed, task, glyphs[split]))
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
    (folder / "classes.txt").write_text("".join(f"{each.name}\n" for each in task.classes))
    for split, count in task.videos.items():
        rows = (f"{split}/{number:05d}.mp4 {number % len(task.classes)}\n" for number in range(count))
        (folder / f"{split}.txt").write_text("".join(rows))
    (folder / "manifest.json").write_text(json.dumps(_manifest(folder, task=task, seed=seed), indent=2) + "\n")


@dataclass(frozen=True)
class _Job:
    """A few videos of a split, for one process."""

    folder: Path
    split: Split
    numbers: range
    seed: int
    task: Task
    glyphs: _Glyphs


def _run(job: _Job) -> int:
    """Make the videos that are not there. One that is there is whole: its name came last."""
    # PyAV, which whoever asks whether a data set is up to date need not wait for
    from .encoding import write_video

    for number in job.numbers:
        path = job.folder / job.split / f"{number:05d}.mp4"
        if path.exists():
            continue
        generator = np.random.default_rng([job.seed, _STREAMS[job.split], number])
        wanted = job.task.classes[number % len(job.task.classes)]
        glyph = job.glyphs.pick(wanted.digit, generator=generator)
        frames = render(glyph, shown=wanted, style=job.task.style, generator=generator)
        # A process of a killed call may still be at work on the same video.
        part = path.with_name(f".{os.getpid()}-{path.name}")
        write_video(part, frames, frame_rate=_FRAME_RATE)
        with part.open("rb") as file:
            # The name must not reach the disk before the content.
            os.fsync(file.fileno())
        part.rename(path)
    return len(job.numbers)


@dataclass(frozen=True)
class _Glyphs:
    """Handwritten digits from 0 to 1, [digits, 8, 8], and which digits they are."""

    images: Floats
    digits: NDArray[np.int64]

    def pick(self, digit: int | None, *, generator: np.random.Generator) -> Floats:
        """One of them, [8, 8]; any where ``digit`` is None."""
        images = self.images if digit is None else self.images[self.digits == digit]
        return images[generator.integers(len(images))]


def _glyphs() -> dict[Split, _Glyphs]:
    """Half of scikit-learn's handwritten digits for training, a quarter each for validation and test."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images, digits = found.images / 16, found.target.astype(np.int64)
    parts = {Split.TRAIN: slice(0, None, 2), Split.VAL: slice(1, None, 4), Split.TEST: slice(3, None, 4)}
    return {split: _Glyphs(images[part], digits[part]) for split, part in parts.items()}


def _manifest(folder: Path, *, task: Task, seed: int) -> dict[str, Any]:
    """The description that the folder must have; raises DataError where a file is missing."""
    lists = {split: VideoList.in_folder(folder, split=split) for split in Split}
    fingerprints = {split.value: videos.fingerprint for split, videos in lists.items()}
    return {**_parameters(task=task, seed=seed), "fingerprint": fingerprints}


def _parameters(*, task: Task, seed: int | None) -> dict[str, Any]:
    """Everything that decides the pixels, as it comes back from a file, where a tuple is a list."""
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
