"""Transforms of whole clips: every frame of a clip is treated alike, with one random draw per clip.

Clips are uint8 tensors [T, C, H, W] until, on the device, ``model_input`` makes a batch of them float32
[B, C, T, H, W], what models take. Random choices come from an explicit numpy generator, never from global state.
Source: the released configs @db018fb8 (section 4.1 of the paper).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import default_collate

from vswin.config import Antialias, ChannelOrder, Pixels

from .batch import TrainBatch
from .clips import Box, random_resized_crop, short_side_size

_PUBLISHED = Pixels()


def resize(clip: Tensor, *, height: int, width: int, antialias: Antialias = Antialias.OFF) -> Tensor:
    """Bilinear resize of uint8 [T, C, H, W] to uint8 [T, C, height, width]."""
    if clip.shape[-2:] == (height, width):
        return clip
    on = antialias is Antialias.ON
    return F.interpolate(clip, size=(height, width), mode="bilinear", align_corners=False, antialias=on)


def resize_short_side(clip: Tensor, *, short_side: int, antialias: Antialias = Antialias.OFF) -> Tensor:
    """Bilinear resize of uint8 [T, C, H, W] to a shorter side of ``short_side`` pixels, its aspect kept."""
    height, width = short_side_size(clip.shape[-2], clip.shape[-1], short_side=short_side)
    return resize(clip, height=height, width=width, antialias=antialias)


def cut(clip: Tensor, *, box: Box) -> Tensor:
    """The pixels of ``box``: a view of [T, C, box.height, box.width]."""
    return clip[..., box.top : box.top + box.height, box.left : box.left + box.width]


def cut_random_resized(
    clip: Tensor,
    *,
    crop: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
    generator: np.random.Generator,
    antialias: Antialias = Antialias.OFF,
) -> Tensor:
    """One random box of the clip, see ``clips.random_resized_crop``, resized to uint8 [T, C, crop, crop]."""
    box = random_resized_crop(clip.shape[-2], clip.shape[-1], area=area, aspect=aspect, generator=generator)
    return resize(cut(clip, box=box), height=crop, width=crop, antialias=antialias)


def flip_randomly(clip: Tensor, *, probability: float, generator: np.random.Generator) -> Tensor:
    """The clip mirrored left to right with ``probability``; one number is drawn whatever it is."""
    return clip.flip(-1) if generator.random() < probability else clip


def normalise(clips: Tensor, pixels: Pixels = _PUBLISHED) -> Tensor:
    """RGB, uint8 [..., T, C, H, W] with values from 0 to 255, to float32 [..., C, T, H, W] as ``pixels`` says."""
    mean, std = (_per_channel(values, device=clips.device) for values in (pixels.mean, pixels.std))
    if pixels.order is ChannelOrder.BGR:
        clips = clips.flip(-3)
    return clips.transpose(-4, -3).to(torch.float32, memory_format=torch.contiguous_format).sub_(mean).div_(std)


def _per_channel(values: tuple[float, ...], *, device: torch.device) -> Tensor:
    # Filled on the device: a copy of a list of numbers would wait for everything queued there.
    return torch.cat([torch.full((1, 1, 1, 1), value, device=device) for value in values])


def stack(clips: Sequence[Tensor]) -> Tensor:
    """Tensors [..., C, H, W] of one size along a new first axis, the colours of a pixel together in memory.

    Decoded and resized frames lie so; to lay them out otherwise costs as much as to resize them.
    """
    return default_collate([clip.movedim(-3, -1) for clip in clips]).movedim(-1, -3)


def model_input(batch: TrainBatch, *, device: torch.device, pixels: Pixels = _PUBLISHED) -> Tensor:
    """The clips of ``batch`` on ``device``, normalised and erased: float32 [B, C, T, H, W], what models take."""
    clips = normalise(batch.clips.to(device, non_blocking=True), pixels)
    # Asked on the CPU, where loaders leave the boxes: the device is not waited for.
    if batch.erased[:, 2:].any():
        clips.masked_fill_(_inside(batch.erased.to(device, non_blocking=True), clips), 0)
    return clips


def _inside(boxes: Tensor, clips: Tensor) -> Tensor:
    """Which pixels of ``clips`` [B, C, T, H, W] lie in their box of ``boxes`` [B, 4]: bool [B, 1, 1, H, W]."""
    left, top, width, height = boxes.view(-1, 4, 1, 1).unbind(dim=1)
    rows = torch.arange(clips.shape[-2], device=clips.device).view(1, -1, 1)
    columns = torch.arange(clips.shape[-1], device=clips.device)
    inside = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    return inside[:, None, None]
