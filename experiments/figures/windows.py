"""Windows, masks, bias tables and attention, drawn with the functions that the models compute with."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Self

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from einops import rearrange
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vswin.config import Extent, Shift
from vswin.data import moving_digits
from vswin.data.annotations import Split, VideoList
from vswin.data.datasets import TestViews
from vswin.data.transforms import normalise
from vswin.models import Form, build, load_checkpoint, set_form
from vswin.models.attention import WindowAttention
from vswin.models.blocks import SwinBlock
from vswin.models.stages import Stage
from vswin.models.windows import (
    NO_SHIFT,
    bias_rows,
    cut_windows,
    fit_window,
    grid_of,
    padded_grid,
    paste_windows,
    relative_position_index,
    shift_grid,
    shift_mask,
    unshift_grid,
    window_shift,
)

from ..registry.recipe import Recipe


def neighbourhoods(grid: Extent, *, window: Extent, shift: Extent) -> NDArray[np.int64]:
    """Which tokens may see each other: those of equal number, [T, H, W]. ``grid`` is of whole windows."""
    tokens = torch.arange(grid.volume).reshape(1, *grid, 1)
    windows = cut_windows(shift_grid(tokens, shift), window)
    mask = shift_mask(grid, window=window, shift=shift, device=torch.device("cpu"), dtype=torch.float32)
    apart = torch.zeros(windows.shape[1], window.volume, window.volume) if mask is None else mask
    # a neighbourhood is named after the first token that is seen
    first = (apart == 0).float().argmax(dim=-1)
    names = windows[0, :, :, 0].gather(1, first)
    pasted = unshift_grid(paste_windows(names[None, ..., None], window, grid=grid), shift)[0, ..., 0]
    _, numbers = np.unique(pasted.numpy(), return_inverse=True)
    return np.asarray(numbers, dtype=np.int64).reshape(grid)


def table_of_windows(grid: Extent, *, window: Extent) -> pd.DataFrame:
    """Numbers of neighbourhoods and of pairs of tokens that each kind of shift makes on ``grid``."""
    rows = []
    for kind in Shift:
        fitted, moved = fit_window(grid, window=window, shift=window_shift(window, kind))
        _, sizes = np.unique(neighbourhoods(grid, window=fitted, shift=moved), return_counts=True)
        rows.append(
            {
                "shift": kind.value,
                "moved by": str(moved),
                "neighbourhoods": len(sizes),
                "smallest": sizes.min(),
                "largest": sizes.max(),
                "pairs that see each other": int((sizes**2).sum()),
            }
        )
    return pd.DataFrame(rows).set_index("shift")


def draw_windows(grid: Extent, *, window: Extent) -> Figure:
    """The windows of two successive blocks in 3D: tokens of one colour that touch see each other, and no others."""
    fitted, moved = fit_window(grid, window=window, shift=window_shift(window, Shift.FULL))
    figure, axes = plt.subplots(1, 2, figsize=(10, 5), subplot_kw={"projection": "3d"})
    for axis, shift, title in zip(
        axes, (NO_SHIFT, moved), ("first block: regular windows", f"second block: moved by {moved}"), strict=True
    ):
        numbers = neighbourhoods(grid, window=fitted, shift=shift)
        palette = sns.color_palette("colorblind", 10)
        colours = np.array([palette[number % 10] for number in range(numbers.max() + 1)])[numbers]
        # time runs to the right, height upwards
        axis.voxels(
            np.ones(grid, dtype=bool).transpose(0, 2, 1)[:, :, ::-1],
            facecolors=colours.transpose(0, 2, 1, 3)[:, :, ::-1],
            edgecolor=(1, 1, 1, 0.4),
            linewidth=0.3,
        )
        axis.set(xlabel="time", ylabel="width", zlabel="height", title=title, box_aspect=grid)
        axis.set(xticks=[], yticks=[], zticks=[])
        axis.view_init(elev=22, azim=-58)
    figure.subplots_adjust(left=0, right=0.97, bottom=0.02, top=0.92, wspace=0.05)
    return figure


def draw_masks(grid: Extent, *, window: Extent) -> Figure:
    """The mask of every kind of window of the shifted grid: dark pairs of tokens must not see each other."""
    fitted, moved = fit_window(grid, window=window, shift=window_shift(window, Shift.FULL))
    mask = shift_mask(grid, window=fitted, shift=moved, device=torch.device("cpu"), dtype=torch.float32)
    assert mask is not None, "nothing is masked where nothing is shifted"
    kinds, counts = torch.unique((mask < 0).int(), dim=0, return_counts=True)
    columns = min(4, len(kinds))
    lines = -(-len(kinds) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(2.6 * columns, 2.8 * lines), squeeze=False)
    for axis in axes.flat[len(kinds) :]:
        axis.axis("off")
    for axis, kind, count in zip(axes.flat, kinds, counts, strict=False):
        axis.imshow(kind, cmap="Greys", vmin=0, vmax=1.6, interpolation="nearest")
        apart = kind.float().mean()
        axis.set_title(f"{count} window{'s' * (count > 1)}, {apart:.0%} masked", fontsize=9)
        axis.set(xticks=[], yticks=[])
    figure.supxlabel("key")
    figure.supylabel("query")
    figure.tight_layout()
    return figure


# ---------------------------------------------------------------------------------------------------- a trained model
@dataclass(frozen=True)
class Looked:
    """Attention of one block for one clip: ``weights`` [T, H, W, T, H, W], query first, mean over heads; zero where a
    token must not look. ``name`` is the block's.
    """

    name: str
    weights: NDArray[np.float32]


def trained_model(recipe: Recipe, weights: Path) -> nn.Module:
    """The model of ``recipe`` with ``weights``, computing as published, so that attention can be read off."""
    model = build(recipe.model).eval()
    load_checkpoint(model, weights)
    set_form(model, Form.REFERENCE)
    return model


def generated_clip(recipe: Recipe, *, video: int = 0) -> tuple[Tensor, str]:
    """The first test clip of a video that is made on the spot: uint8 [3, T, H, W], and its class."""
    [task] = [item for item in moving_digits.TASKS if recipe.data.dataset == f"moving-digits/{item.name}"]
    sizes = {item.name: 24 for item in fields(task) if item.name in {"train", "val", "test"}}
    with tempfile.TemporaryDirectory(prefix="vswin-notebook-") as folder:
        videos = VideoList.in_folder(
            moving_digits.generate(Path(folder), task=replace(task, **sizes)),  # type: ignore[arg-type]
            split=Split.VAL,
        )
        views = TestViews(videos, config=recipe.data, protocol=recipe.protocol)[video]
    return rearrange(views.views[0], "t c h w -> c t h w"), videos.classes[int(views.labels)]


class _Reader:
    """Reads attention off a model that computes as published, by hooks; a context."""

    def __init__(self, model: nn.Module) -> None:
        self.found: list[Looked] = []
        self._grid = Extent(1, 1, 1)
        self._hooks: list[RemovableHandle] = []
        for name, stage in model.named_modules():
            if isinstance(stage, Stage):
                self._hooks.append(stage.register_forward_pre_hook(self._enter))
                for number, block in enumerate(stage.blocks):
                    if isinstance(block, SwinBlock):
                        where = f"stage {name.rpartition('.')[2]} block {number}"
                        hook = partial(self._read, where, stage, block)
                        self._hooks.append(block.attn.register_forward_pre_hook(hook))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _enter(self, stage: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        self._grid = grid_of(arguments[0])

    def _read(
        self,
        name: str,
        stage: Stage,
        block: SwinBlock,
        attention: WindowAttention,
        arguments: tuple[Tensor, Extent, Tensor | None],
    ) -> None:
        windows, window, mask = arguments
        query, key, _ = rearrange(
            attention.qkv(windows), "b w n (three h d) -> three b w h n d", three=3, h=attention.num_heads
        )
        scores = (query * attention.scale) @ key.mT + attention.bias(window)
        if mask is not None:
            scores = scores + mask[:, None]
        weights = scores.softmax(dim=-1).mean(dim=2)[0]
        _, shift = fit_window(self._grid, window=stage.window, shift=stage.shift if block.shifted else NO_SHIFT)
        grid = padded_grid(self._grid, multiple=window)
        names = cut_windows(shift_grid(torch.arange(grid.volume).reshape(1, *grid, 1), shift), window)[0, :, :, 0]
        whole = torch.zeros(grid.volume, grid.volume)
        whole[names[:, :, None], names[:, None, :]] = weights
        inside = [slice(size) for size in self._grid]
        self.found.append(Looked(name, whole.reshape(*grid, *grid)[(*inside, *inside)].numpy()))


def attention_of(model: nn.Module, clip: Tensor) -> tuple[list[Looked], NDArray[np.float32]]:
    """Attention of every block of windows in ``model`` for one ``clip`` uint8 [3, T, H, W], and the classes' scores."""
    with _Reader(model) as reader, torch.inference_mode():
        scores = model(normalise(rearrange(clip, "c t h w -> 1 t c h w"))).softmax(dim=-1)[0].numpy()
    return reader.found, scores


def brightest_token(clip: Tensor, grid: Extent) -> Extent:
    """The token of ``grid`` whose colour differs most from the clip's mean over time: where something happens."""
    frames = clip.float()
    change = (frames - frames.mean(dim=1, keepdim=True)).abs().amax(dim=0)
    per_token = nn.functional.adaptive_avg_pool3d(change[None], (grid.time, grid.height, grid.width))[0]
    return Extent(*(int(place) for place in np.unravel_index(int(per_token.argmax()), tuple(grid))))


def draw_attention(clip: Tensor, blocks: Sequence[Looked], *, query: Extent) -> Figure:
    """Frames of ``clip`` above, below for each block where the token ``query`` (of the first block's grid) looks.

    A column is a token in time; the cross marks the query, grey is out of its reach. Blocks on a
    coarser grid are asked at the same place.
    """
    grid = Extent(*blocks[0].weights.shape[:3])
    every = clip.shape[1] // grid.time
    figure, axes = plt.subplots(
        1 + len(blocks), grid.time, figsize=(1.15 * grid.time, 1.25 * (1 + len(blocks))), squeeze=False
    )
    for time in range(grid.time):
        axes[0, time].imshow(rearrange(clip[:, time * every], "c h w -> h w c"), interpolation="nearest")
        axes[0, time].set_title(f"t = {time}", fontsize=9)
    for line, block in zip(axes[1:], blocks, strict=True):
        size = Extent(*block.weights.shape[:3])
        asked = Extent(*(place * here // there for place, here, there in zip(query, size, grid, strict=True)))
        seen = block.weights[tuple(asked)]
        for time in range(size.time):
            # grey is what the query may not look at
            looked = np.ma.masked_equal(seen[time], 0)
            line[time].imshow(looked, cmap="viridis", vmin=0, vmax=seen.max(), interpolation="nearest")
            line[time].set_facecolor("0.85")
        line[asked.time].plot(asked.width, asked.height, "x", color="white", markersize=8, markeredgewidth=2)
        line[0].set_ylabel(f"{block.name}\nup to {seen.max():.2f}", fontsize=8)
    axes[0, 0].set_ylabel("clip", fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.tight_layout()
    return figure


def draw_bias(model: nn.Module, *, layer: int = 0) -> Figure:
    """The learned relative position bias of one block: a map over offsets in space, per head and offset in time."""
    attention = [module for module in model.modules() if isinstance(module, WindowAttention)][layer]
    time, height, width = (2 * size - 1 for size in attention.window)
    table = rearrange(
        attention.relative_position_bias_table.detach(), "(t h w) k -> k t h w", t=time, h=height, w=width
    ).numpy()
    limit = np.abs(table).max()
    figure, axes = plt.subplots(len(table), time, figsize=(1.2 * time + 1, 1.25 * len(table) + 0.4), squeeze=False)
    for head, line in enumerate(axes):
        for offset, axis in enumerate(line):
            image = axis.imshow(table[head, offset], cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if head == 0:
                axis.set_title(f"{offset - time // 2:+d}" if offset != time // 2 else "0", fontsize=9)
        line[0].set_ylabel(f"head {head}", fontsize=9)
    figure.supxlabel("offset in time, query minus key; inside a map: offsets in space", fontsize=9)
    figure.colorbar(image, ax=axes, shrink=0.8, label="bias")
    return figure


def draw_index(window: Extent) -> Figure:
    """Which row of the bias table a pair of tokens looks up; pairs at equal offsets share a row."""
    figure, axis = plt.subplots(figsize=(4.6, 4))
    image = axis.imshow(relative_position_index(window), cmap="viridis", interpolation="nearest")
    axis.set(xlabel="key", ylabel="query", title=f"window {window}: {bias_rows(window)} offsets")
    figure.colorbar(image, ax=axis, label="row of the bias table")
    figure.tight_layout()
    return figure
