"""Batches of decoded clips as loaders deliver them: in uint8, four times smaller than as a model takes them.

One item of a data set has the same fields without the leading B.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class TrainBatch(NamedTuple):
    """One clip per video. ``model_input`` of ``transforms`` makes it what a model takes.

    ``clips``: uint8 [B, T, C, H, W], the colours of a pixel together in memory. ``labels``: int64 [B]. ``erased``:
    int64 [B, 4], the box (left, top, width, height) that random erasing sets to zero on every frame after
    normalisation; a width of 0 erases nothing. ``videos``: int64 [B], which rows of the list the clips are of.
    ``replaced``: int64 [B], how many broken videos were drawn before that one.
    """

    clips: Tensor
    labels: Tensor
    erased: Tensor
    videos: Tensor
    replaced: Tensor


class ViewBatch(NamedTuple):
    """Every test view of each video.

    ``views``: uint8 [B, V, T, C, H, W]. ``labels``: int64 [B]. ``videos``: int64 [B], rows of the list. ``broken``:
    bool [B], videos that cannot be read, whose views are black and whose answer counts as wrong.
    """

    views: Tensor
    labels: Tensor
    videos: Tensor
    broken: Tensor
