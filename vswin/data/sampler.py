"""Which videos make which training batch: a function of (seed, step) alone, so there is nothing to save or restore."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np


class Draw(NamedTuple):
    """One training sample: video number ``video`` of the list as it looks in ``epoch``."""

    epoch: int
    video: int


@dataclass(frozen=True, kw_only=True)
class TrainBatches:
    """Batches of draws from ``step`` (0 is the first) to the end of the last epoch, one permutation per epoch.

    ``batch_size`` counts over all ranks; each rank gets every ``world_size``-th draw of a batch, so the union over
    ranks is the same for any world size. What does not fill a batch at the end of an epoch is dropped. ValueError
    where there are fewer videos than a batch holds or ``batch_size`` does not divide by ``world_size``.
    """

    num_videos: int
    batch_size: int
    epochs: int
    seed: int
    step: int = 0
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= self.num_videos:
            raise ValueError(
                f"expected a batch size from 1 to {self.num_videos}, the number of training videos, "
                f"got {self.batch_size}; use smaller batches or more videos"
            )
        if self.batch_size % self.world_size != 0:
            raise ValueError(
                f"expected a batch size divisible by the world size {self.world_size}, got {self.batch_size}"
            )
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"expected a rank from 0 to {self.world_size - 1}, got {self.rank}")

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return self.num_videos // self.batch_size

    def starting_at(self, step: int) -> Self:
        """The same batches, from ``step`` on."""
        return replace(self, step=step)

    def __len__(self) -> int:
        return max(self.epochs * self.steps_per_epoch - self.step, 0)

    def __iter__(self) -> Iterator[list[Draw]]:
        first_epoch, first_batch = divmod(self.step, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            order = self._order(epoch)
            for batch in range(first_batch if epoch == first_epoch else 0, self.steps_per_epoch):
                members = order[batch * self.batch_size : (batch + 1) * self.batch_size]
                yield [Draw(epoch, int(video)) for video in members[self.rank :: self.world_size]]

    def _order(self, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        # Samples are seeded with (seed, epoch, video); the number of videos is no video, so the streams stay apart.
        return np.random.default_rng([self.seed, epoch, self.num_videos]).permutation(self.num_videos)
