"""Cutting a token grid into windows, and which tokens of a window may see each other (section 3.2).

Layouts: a token grid is [B, T, H, W, C]; its windows are [B, windows, tokens, C]. Windows, and the tokens inside
one, are in row-major order over (time, height, width).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..config import Extent, Shift

# Added to the score of two tokens that must not see each other. Finite, as in the published code
# (mmaction/models/backbones/swin_transformer.py @db018fb8): exp(-100) vanishes and no row can become NaN.
MASKED = -100.0

NO_SHIFT = Extent(0, 0, 0)


def grid_of(x: Tensor) -> Extent:
    """The extent of a token grid [B, T, H, W, C]."""
    _, time, height, width, _ = x.shape
    return Extent(time, height, width)


def window_shift(window: Extent, shift: Shift) -> Extent:
    """Shift of the windows of every second block: half a window along the shifted axes (section 3.2)."""
    match shift:
        case Shift.FULL:
            return Extent(window.time // 2, window.height // 2, window.width // 2)
        case Shift.SPATIAL:
            return Extent(0, window.height // 2, window.width // 2)
        case Shift.NONE:
            return NO_SHIFT


def fit_window(grid: Extent, *, window: Extent, shift: Extent) -> tuple[Extent, Extent]:
    """The window and shift really used on ``grid``.

    Along an axis no longer than the window, the window becomes the axis and is not shifted: it sees everything
    there already. Each axis on its own, as in ``get_window_size`` of the published code @db018fb8.
    """
    fitted = [
        (size, 0) if size <= wanted else (wanted, moved)
        for size, wanted, moved in zip(grid, window, shift, strict=True)
    ]
    return Extent(*(size for size, _ in fitted)), Extent(*(moved for _, moved in fitted))


def padded_grid(grid: Extent, *, multiple: Extent) -> Extent:
    """``grid`` rounded up to whole windows (or patches)."""
    return Extent(*((size + unit - 1) // unit * unit for size, unit in zip(grid, multiple, strict=True)))


def pad_grid(x: Tensor, *, multiple: Extent) -> Tensor:
    """Zeros at the end of each axis of a token grid [B, T, H, W, C], up to whole windows."""
    grid = grid_of(x)
    padded = padded_grid(grid, multiple=multiple)
    if padded == grid:
        return x
    return F.pad(x, (0, 0, 0, padded.width - grid.width, 0, padded.height - grid.height, 0, padded.time - grid.time))


def crop_grid(x: Tensor, grid: Extent) -> Tensor:
    """The inverse of :func:`pad_grid`."""
    return x[:, : grid.time, : grid.height, : grid.width]


def cut_windows(x: Tensor, window: Extent) -> Tensor:
    """[B, T, H, W, C] -> [B, windows, tokens, C]; each axis must be a multiple of the window's."""
    return rearrange(
        x,
        "b (nt t) (nh h) (nw w) c -> b (nt nh nw) (t h w) c",
        t=window.time,
        h=window.height,
        w=window.width,
    )


def paste_windows(windows: Tensor, window: Extent, *, grid: Extent) -> Tensor:
    """The inverse of :func:`cut_windows` for a (padded) grid: [B, windows, tokens, C] -> [B, T, H, W, C]."""
    return rearrange(
        windows,
        "b (nt nh nw) (t h w) c -> b (nt t) (nh h) (nw w) c",
        t=window.time,
        h=window.height,
        w=window.width,
        nt=grid.time // window.time,
        nh=grid.height // window.height,
        nw=grid.width // window.width,
    )


def shift_grid(x: Tensor, shift: Extent) -> Tensor:
    """Move a token grid [B, T, H, W, C] cyclically towards its origin by ``shift`` tokens."""
    if shift == NO_SHIFT:
        return x
    return x.roll((-shift.time, -shift.height, -shift.width), dims=(1, 2, 3))


def unshift_grid(x: Tensor, shift: Extent) -> Tensor:
    """The inverse of :func:`shift_grid`."""
    return shift_grid(x, Extent(-shift.time, -shift.height, -shift.width))


def shift_mask(
    grid: Extent, *, window: Extent, shift: Extent, device: torch.device, dtype: torch.dtype
) -> Tensor | None:
    """Mask to add to attention scores in windows of a shifted grid: [windows, tokens, tokens], or None.

    After the cyclic shift the last window of an axis holds tokens from both ends of the video. Those were no
    neighbours, so a pair of them gets :data:`MASKED`, every other pair 0. ``grid`` is the padded grid; None means
    that nothing is shifted and nothing masked.
    """
    if shift == NO_SHIFT:
        return None
    # Along each axis only the tokens that wrapped around are told apart. They share windows with nothing but the
    # end of the axis, so two regions per axis say the same as the published code's three.
    wrapped = [torch.arange(size, device=device) >= size - moved for size, moved in zip(grid, shift, strict=True)]
    time, height, width = (axis.long() for axis in wrapped)
    regions = 4 * time[:, None, None] + 2 * height[:, None] + width
    windows = cut_windows(regions[None, ..., None], window)
    windows = rearrange(windows, "1 w n 1 -> w n")
    apart = windows[:, :, None] != windows[:, None, :]
    return torch.zeros(apart.shape, device=device, dtype=dtype).masked_fill(apart, MASKED)


def relative_position_index(window: Extent) -> Tensor:
    """Which row of the bias table belongs to a pair of tokens of one window: int64 [tokens, tokens].

    The table has one row per offset, (2P-1)(2M-1)(2M-1) of them, in row-major order over the offsets
    (time, height, width) from most negative to most positive; entry [i, j] is for query i and key j.
    """
    axes = [torch.arange(size) for size in window]
    positions = torch.cartesian_prod(*axes)
    offsets = positions[:, None, :] - positions[None, :, :] + torch.tensor(window) - 1
    time, height, width = offsets.unbind(-1)
    return (time * (2 * window.height - 1) + height) * (2 * window.width - 1) + width


def bias_rows(window: Extent) -> int:
    """Number of relative positions inside a window: rows of its bias table."""
    return Extent(2 * window.time - 1, 2 * window.height - 1, 2 * window.width - 1).volume
