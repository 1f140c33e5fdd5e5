"""Hardware policy, decided once: nothing here changes what a run computes, so nothing here is part of a recipe."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Literal, Self

from ..registry.recipe import Scale


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """The way in which a run is computed; without arguments, on one core.

    ``device``: of every training process, as torch calls it. ``threads`` per process; None leaves the number to torch.
    ``keep_decoded``: every video is decoded once and kept in memory.
    ``workers``: processes that decode, per training process; with 0 it decodes itself. ``micro_batch``: clips in
    memory at once, per process; the rest of a batch is accumulated. ``views_at_once``: the same for tests.
    ``recompute``: blocks forget their activations and compute them again for the gradient.
    ``validate_epochs``: a single-view test every so many epochs. ``checkpoint_minutes``: the longest time between
    checkpoints. ``broken_videos``: the share of an epoch's videos that may be broken before training stops.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    threads: int | None = 1
    keep_decoded: bool = False
    workers: int = 0
    micro_batch: int | None = None
    views_at_once: int = 12
    recompute: bool = False
    validate_epochs: int = 5
    checkpoint_minutes: float = 10.0
    broken_videos: float = 0.01

    @property
    def on_gpu(self) -> bool:
        """True where a run needs a GPU."""
        return self.device == "cuda"

    @property
    def unit(self) -> str:
        """The piece of hardware that time is counted in: "GPU" or "core"."""
        return "GPU" if self.on_gpu else "core"

    def runs_at_once(self, *, gpus: int) -> int:
        """The number of runs that this machine computes at once, where it has ``gpus`` GPUs: one per GPU or core.

        One where a run takes all cores, and where it needs a GPU and there is none: it will say so.
        """
        if self.on_gpu:
            return max(1, gpus)
        return 1 if self.threads is None else max(1, _own_cores() // self.threads)

    def on_any_device(self, *, gpus: int) -> Self:
        """The same on a GPU, or else on all cores: for a single test, which nothing later has to equal to the bit."""
        return replace(self, device="cuda" if gpus else "cpu", threads=None)


def default_runtime(
    scale: Scale,
    *,
    workers: int | None = None,
    micro_batch: int | None = None,
    views_at_once: int | None = None,
    recompute: bool = False,
    cpu: bool = False,
    cores: int | None = None,
) -> Runtime:
    """The best way to compute ``scale`` on a machine with ``cores`` per process (default: this one).

    At scale paper a run has a GPU and up to eight workers per process; with ``cpu`` it has as many threads as torch
    takes instead. The miniature trains several runs at once, with one thread each: the bits are the same on any
    number of cores. Its videos are small enough to stay in memory decoded, so its processes decode them themselves.
    """
    given = Runtime(micro_batch=micro_batch, recompute=recompute)
    if scale is Scale.PAPER:
        return replace(
            given,
            device="cpu" if cpu else "cuda",
            threads=None,
            workers=min(8, cores or _own_cores()) if workers is None else workers,
            views_at_once=views_at_once or 12,
            checkpoint_minutes=10.0,
        )
    return replace(
        given,
        device="cpu",
        threads=1,
        keep_decoded=True,
        workers=workers or 0,
        views_at_once=views_at_once or 32,
        checkpoint_minutes=1.0,
    )


def _own_cores() -> int:
    return len(os.sched_getaffinity(0))
