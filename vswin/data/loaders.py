"""From data sets to batches of tensors, in this process or in worker processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.data import DataLoader

from .batch import TrainBatch, ViewBatch
from .datasets import TestViews, TrainClips
from .sampler import TrainBatches


def train_loader(clips: TrainClips, *, batches: TrainBatches, workers: int = 0) -> DataLoader[TrainBatch]:
    """Batches in the order of ``batches``, whatever the number of workers.

    The global random state is not touched. With 0 workers the calling process decodes.
    """
    return DataLoader(clips, batch_sampler=batches, num_workers=workers, generator=_own_generator())


def view_loader(
    views: TestViews, *, batch_size: int, videos: Sequence[int] | None = None, workers: int = 0
) -> DataLoader[ViewBatch]:
    """Batches of the rows ``videos`` of the list, in that order; by default of all."""
    return DataLoader(
        views,
        batch_size=batch_size,
        sampler=range(len(views)) if videos is None else videos,
        num_workers=workers,
        generator=_own_generator(),
    )


def _own_generator() -> torch.Generator:
    # A loader draws a seed for its workers; ours use no such seed, and the draw must not disturb the caller's.
    return torch.Generator()
