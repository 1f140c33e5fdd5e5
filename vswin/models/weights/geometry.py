"""Position biases and embeddings of another window, grid or number of frames.

Space is interpolated as the published codes do when they start from image models: bias tables bicubically
(mmaction/models/backbones/swin_transformer.py @db018fb8), position embeddings by nearest neighbour
(timesformer/models/helpers.py @a5ef29a7). Time is stretched: the longest distance within a window stays the longest,
no distance stays none, and what is between is interpolated linearly; time embeddings go by nearest neighbour as in
TimeSformer. The published codes do not resize video bias tables; this rule is ours.
"""

from __future__ import annotations

from math import isqrt

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...config import Extent
from ..attention import WindowAttention
from .formats import State

_TABLE = ".relative_position_bias_table"
_INDEX = ".relative_position_index"


def resized_to(model: nn.Module, state: State) -> tuple[dict[str, Tensor], list[str]]:
    """``state`` with everything that depends on window, grid or frames in the sizes that ``model`` has, and the names
    of what was resized. What cannot be told is left as it is.
    """
    own = model.state_dict()
    made = dict(state)
    for name, value in state.items():
        if name not in own or own[name].shape == value.shape or not value.is_floating_point():
            continue
        if name.endswith(_TABLE) and value.shape[1:] == own[name].shape[1:]:
            attention = model.get_submodule(name.removesuffix(_TABLE))
            there = None
            if isinstance(attention, WindowAttention):
                index = state.get(f"{name.removesuffix(_TABLE)}{_INDEX}")
                there = _window(value.shape[0], attention.window, tokens=None if index is None else index.shape[0])
            if there:
                assert isinstance(attention, WindowAttention)
                made[name] = resized_table(value, there, attention.window)
                # it belongs to the other window
                made.pop(f"{name.removesuffix(_TABLE)}{_INDEX}", None)
        elif (
            name == "pos_embed"
            and value.ndim == 3
            and value.shape[2] == own[name].shape[2]
            and isqrt(value.shape[1] - 1) ** 2 == value.shape[1] - 1
        ):
            made[name] = resized_positions(value, patches=own[name].shape[1] - 1)
        elif name == "time_embed" and value.ndim == 3 and value.shape[2] == own[name].shape[2]:
            made[name] = resized_times(value, frames=own[name].shape[1])
    return made, [name for name, value in made.items() if value is not state[name]]


def square_windows(rows: int, *, tokens: int | None) -> list[Extent]:
    """Every window P x M x M of which a bias table has ``rows`` = (2P-1)(2M-1)^2 rows, the widest first.

    ``tokens`` is the volume that an index beside the table tells; None without one.
    """
    found = []
    for side in range(isqrt(rows), 0, -1):
        times, rest = divmod(rows, (2 * side - 1) ** 2)
        if rest == 0 and times % 2:
            found.append(Extent((times + 1) // 2, side, side))
    return [window for window in found if tokens in (None, window.volume)]


def resized_table(table: Tensor, there: Extent, here: Extent) -> Tensor:
    """A bias table [(2P-1)(2H-1)(2W-1), heads] of the window ``there`` as one of the window ``here``."""
    times, rows, columns = (2 * side - 1 for side in there)
    offsets = rearrange(table, "(t h w) n -> t n h w", t=times, h=rows, w=columns)
    if there[1:] != here[1:]:
        size = (2 * here.height - 1, 2 * here.width - 1)
        offsets = F.interpolate(offsets, size=size, mode="bicubic")
    if there.time != here.time:
        lines = rearrange(offsets, "t n h w -> (n h w) 1 t")
        lines = F.interpolate(lines, size=2 * here.time - 1, mode="linear", align_corners=True)
        offsets = rearrange(lines, "(n h w) 1 t -> t n h w", n=offsets.shape[1], h=offsets.shape[2])
    return rearrange(offsets, "t n h w -> (t h w) n").contiguous()


def resized_positions(embedding: Tensor, *, patches: int) -> Tensor:
    """[1, 1 + n * n, C] -> [1, 1 + patches, C] for square grids; the class token comes first and stays."""
    cls, grid = embedding[:, :1], embedding[:, 1:]
    grid = rearrange(grid, "1 (h w) c -> 1 c h w", h=round(grid.shape[1] ** 0.5))
    side = round(patches**0.5)
    grid = F.interpolate(grid, size=(side, side), mode="nearest")
    return torch.cat([cls, rearrange(grid, "1 c h w -> 1 (h w) c")], dim=1)


def resized_times(embedding: Tensor, *, frames: int) -> Tensor:
    """[1, T, C] -> [1, frames, C]."""
    return rearrange(
        F.interpolate(rearrange(embedding, "1 t c -> 1 c t"), size=frames, mode="nearest"), "1 c t -> 1 t c"
    )


def _window(rows: int, here: Extent, *, tokens: int | None) -> Extent | None:
    """The window of a table of so many ``rows``: square, unless it has the sides of ``here``; None if it has none.

    ``tokens`` is the volume that an index beside the table tells. Without one, a table that several windows have is
    taken for that of the same height and width, or else of the same time, as ``here``.
    """
    times, rest = divmod(rows, (2 * here.height - 1) * (2 * here.width - 1))
    own_sides = [here._replace(time=(times + 1) // 2)] if rest == 0 and times % 2 else []
    found = [window for window in own_sides if tokens in (None, window.volume)]
    found += [window for window in square_windows(rows, tokens=tokens) if window not in found]
    same_space = [window for window in found if window[1:] == here[1:]]
    same_time = [window for window in found if window.time == here.time]
    best = same_space or same_time or (found if len(found) == 1 else [])
    return best[0] if best else None
