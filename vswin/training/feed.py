"""The batches of one training, and the names of what is in them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from vswin.config import DataConfig, Pixels
from vswin.data.annotations import VideoList
from vswin.data.batch import TrainBatch
from vswin.data.datasets import TrainClips
from vswin.data.loaders import train_loader
from vswin.data.sampler import TrainBatches

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Settings of the loader; none of them changes a batch.

    ``workers``: processes that decode; with 0 the training process decodes itself. ``keep_decoded``: decode a video
    once and keep it in memory. ``broken_videos``: the share of an epoch's videos that may be broken before
    TooManyBrokenError ends the training. ``warn`` is told of every broken video, once.
    """

    workers: int = 0
    keep_decoded: bool = False
    broken_videos: float = 0.01
    warn: Callable[[str], None] = _log.warning


@dataclass(frozen=True, kw_only=True)
class Feed:
    """Everything that a training reads.

    ``batches(step)`` yields this rank's share of every batch, from step ``step`` (0 is the first) to the end of the
    last epoch. ``classes`` are the names of the classes in the order of the labels, ``names`` those of the videos in
    the order of the list; each is empty where there are none. ``pixels``: as the model is shown them.
    """

    batches: Callable[[int], Iterable[TrainBatch]]
    steps_per_epoch: int
    classes: Sequence[str] = ()
    names: Sequence[str] = ()
    pixels: Pixels = Pixels()

    @classmethod
    def of_videos(cls, videos: VideoList, *, order: TrainBatches, config: DataConfig, loading: Loading) -> Self:
        """Clips of ``videos``, in the batches that ``order`` draws."""
        clips = TrainClips(videos, config=config, seed=order.seed, keep_decoded=loading.keep_decoded)
        return cls(
            batches=lambda step: train_loader(
                clips,
                batches=order.starting_at(step),
                workers=loading.workers,
                limit=loading.broken_videos,
                warn=loading.warn,
            ),
            steps_per_epoch=order.steps_per_epoch,
            classes=videos.classes,
            names=videos.names,
            pixels=config.pixels,
        )

    def describe(self, rows: Tensor) -> str:
        """The videos of ``rows`` (int64 [B]) for a message: their names, or else ``videos 3, 1, 4``."""
        if self.names:
            return ", ".join(self.names[row] for row in rows.tolist())
        return f"videos {', '.join(map(str, rows.tolist()))}"
