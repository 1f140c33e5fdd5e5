"""Batches for training and for testing, and what happens where videos are broken."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .batch import TrainBatch, ViewBatch
from .broken import BrokenVideos
from .datasets import TestViews, TrainClips
from .pipeline import PATIENCE, Pipeline
from .sampler import Draw, TrainBatches

_log = logging.getLogger(__name__)


def train_loader(
    clips: TrainClips,
    *,
    batches: TrainBatches,
    workers: int = 0,
    limit: float = 0.01,
    warn: Callable[[str], None] = _log.warning,
    patience: float = PATIENCE,
) -> TrainLoader:
    """Batches in the order of ``batches``, whatever the number of workers.

    The global random state is not touched. With 0 workers the calling process decodes. ``warn`` is told once of every
    broken video. While iterating, TooManyBrokenError is raised once more than ``limit`` of an epoch's clips are broken,
    and WorkerError where a worker dies or needs more than ``patience`` seconds for a clip.
    """
    pipeline = Pipeline(clips, keys=batches, workers=workers, patience=patience)
    broken = BrokenVideos(
        draws_per_epoch=batches.steps_per_epoch * batches.batch_size // batches.world_size, limit=limit, warn=warn
    )
    return TrainLoader(pipeline, batches=batches, broken=broken)


def view_loader(
    views: TestViews,
    *,
    batch_size: int,
    videos: Sequence[int] | None = None,
    workers: int = 0,
    warn: Callable[[str], None] = _log.warning,
    patience: float = PATIENCE,
) -> ViewLoader:
    """Batches of the rows ``videos`` of the list, in that order; by default of all.

    ``workers``, ``warn`` and ``patience`` as in ``train_loader``; a broken video is black and never an error.
    """
    rows = range(len(views)) if videos is None else videos
    keys = [list(rows[start : start + batch_size]) for start in range(0, len(rows), batch_size)]
    return ViewLoader(Pipeline(views, keys=keys, workers=workers, patience=patience), warn=warn)


@dataclass(frozen=True)
class TrainLoader:
    """See ``train_loader``; its length is the number of batches."""

    pipeline: Pipeline[TrainBatch, Draw]
    batches: TrainBatches
    broken: BrokenVideos

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[TrainBatch]:
        for step, (batch, failures) in enumerate(self.pipeline, start=self.batches.step):
            self.broken.see(failures, epoch=step // self.batches.steps_per_epoch)
            yield batch


@dataclass(frozen=True)
class ViewLoader:
    """See ``view_loader``; its length is the number of batches."""

    pipeline: Pipeline[ViewBatch, int]
    warn: Callable[[str], None]

    def __len__(self) -> int:
        return len(self.pipeline)

    def __iter__(self) -> Iterator[ViewBatch]:
        for batch, failures in self.pipeline:
            for failure in failures:
                self.warn(f"broken video, counted as wrong: {failure.message}")
            yield batch
