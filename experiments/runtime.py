"""How a run is computed: nothing here changes what it computes, so nothing here is part of a recipe."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .recipe import Scale


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """``workers``: processes that decode, per training process; with 0 it decodes itself. ``micro_batch``: clips in
    memory at once, per process; the rest of a batch is accumulated. ``views_at_once``: the same for tests.
    ``cpu``: whether scale paper is computed without a GPU, by as many threads as torch takes.
    ``recompute``: whether blocks forget their activations and compute them again for the gradient.
    ``validate_epochs``: a single-view test every so many epochs. ``checkpoint_minutes``: the longest time between
    checkpoints. ``broken_videos``: the share of an epoch's videos that may be broken before training stops.
    """

    workers: int = 0
    micro_batch: int | None = None
    views_at_once: int = 12
    recompute: bool = False
    cpu: bool = False
    validate_epochs: int = 5
    checkpoint_minutes: float = 10.0
    broken_videos: float = 0.01


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
    """What suits ``scale`` on a machine with ``cores`` per process (default: this one), except for what is given.

    At scale paper up to eight workers per process. The miniature trains several runs at once, one core each, and
    keeps its decoded videos in memory, so its processes decode themselves.
    """
    if workers is None:
        workers = min(8, cores or len(os.sched_getaffinity(0))) if scale is Scale.PAPER else 0
    return Runtime(
        workers=workers,
        micro_batch=micro_batch,
        recompute=recompute,
        cpu=cpu,
        views_at_once=views_at_once or (12 if scale is Scale.PAPER else 32),
        checkpoint_minutes=10.0 if scale is Scale.PAPER else 1.0,
    )
