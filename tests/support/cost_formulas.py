"""Parameters and FLOPs by closed formulas, from the sizes that the papers give and not from the models' code."""

from __future__ import annotations

from math import ceil

from experiments.registry.cost import Input, Totals, training_clip
from experiments.registry.recipe import Recipe
from vswin.config import Attention, Extent, SpaceTime, Swin3DConfig, TimeSformerConfig


def formula(recipe: Recipe) -> Totals | None:
    """Cost of a training clip of ``recipe``; None for models whose paper gives no sizes."""
    match recipe.model:
        case Swin3DConfig():
            return swin_cost(recipe.model, training_clip(recipe))
        case TimeSformerConfig():
            return timesformer_cost(recipe.model)
        case _:
            return None


def swin_cost(model: Swin3DConfig, size: Input) -> Totals:
    """Parameters, FLOPs and multiply-accumulates of a Video Swin Transformer.

    Layers and sizes: sections 3.1 to 3.3 and 4.3 of the paper. Convention: see :mod:`vswin.models.cost`.
    """
    window, attention = model.window, model.attention
    own = window if attention is Attention.JOINT else Extent(1, window.height, window.width)
    bias_rows = Extent(2 * own.time - 1, 2 * own.height - 1, 2 * own.width - 1).volume
    grid = Extent(
        *(ceil(pixels / patch) for pixels, patch in zip((size.length, size.side, size.side), model.patch, strict=True))
    )
    width = model.embed_dim
    hidden = int(width * model.mlp_ratio)

    # patch embedding and its norm
    inputs = 3 * model.patch.volume
    params = inputs * width + width + 2 * width
    macs = grid.volume * inputs * width
    normed = grid.volume * width

    for stage, (depth, heads) in enumerate(zip(model.depths, model.num_heads, strict=True)):
        width = model.embed_dim * 2**stage
        hidden = int(width * model.mlp_ratio)
        used = Extent(*map(min, own, grid))
        # attention works on whole windows
        whole = Extent(*(ceil(length / unit) * unit for length, unit in zip(grid, used, strict=True)))
        mlp = 2 * width * hidden + hidden + width
        params += depth * (4 * width**2 + 4 * width + heads * bias_rows + mlp + 4 * width)
        macs += depth * whole.volume * (4 * width**2 + 2 * used.volume * width)
        macs += depth * grid.volume * 2 * width * hidden
        normed += depth * grid.volume * 2 * width
        if attention is Attention.FACTORIZED:
            # a norm, attention along time and its weight in every block
            params += depth * (4 * width**2 + 4 * width + heads * (2 * window.time - 1) + 2 * width + 1)
            macs += depth * grid.volume * (4 * width**2 + 2 * grid.time * width)
            normed += depth * grid.volume * width
        if stage < len(model.depths) - 1:
            grid = Extent(grid.time, ceil(grid.height / 2), ceil(grid.width / 2))
            params += 8 * width**2 + 8 * width
            macs += grid.volume * 8 * width**2
            normed += grid.volume * 4 * width
    if attention is Attention.SPLIT:
        # two transformer layers along time on top
        mlp = 2 * width * hidden + hidden + width
        params += 2 * (4 * width**2 + 4 * width + model.num_heads[-1] * (2 * window.time - 1) + mlp + 4 * width)
        macs += 2 * grid.volume * (4 * width**2 + 2 * grid.time * width + 2 * width * hidden)
        normed += 2 * grid.volume * 2 * width

    # the last norm and the head
    params += 2 * width + width * model.num_classes + model.num_classes
    macs += width * model.num_classes
    normed += grid.volume * width
    return Totals(params, macs + 2 * normed, macs)


def timesformer_cost(model: TimeSformerConfig) -> Totals:
    """The same of a TimeSformer: section 3 of its paper, class token and bias terms included."""
    width, frames = model.embed_dim, model.frames
    hidden = int(width * model.mlp_ratio)
    patches = (model.image_size // model.patch) ** 2
    divided, space = model.attention is SpaceTime.DIVIDED, model.attention is SpaceTime.SPACE
    # tokens that attend within frames (each has a class token then) or all together, and how many each of them sees
    attending = frames * (patches + 1) if divided or space else frames * patches + 1
    seen = patches + 1 if divided or space else frames * patches + 1
    tokens = frames * (patches + 1) if space else frames * patches + 1

    inputs = 3 * model.patch**2
    params = inputs * width + width + width * (1 + 1 + patches) + (0 if space else width * frames)
    macs = frames * patches * inputs * width
    params += model.depth * (4 * width**2 + 4 * width + 2 * width * hidden + hidden + width + 4 * width)
    macs += model.depth * (attending * (4 * width**2 + 2 * seen * width) + tokens * 2 * width * hidden)
    normed = model.depth * (attending + tokens) * width
    if divided:
        # a norm, attention along time and a linear layer after it
        params += model.depth * (2 * width + 4 * width**2 + 4 * width + width**2 + width)
        macs += model.depth * frames * patches * (5 * width**2 + 2 * frames * width)
        normed += model.depth * frames * patches * width
    params += 2 * width + width * model.num_classes + model.num_classes
    macs += width * model.num_classes
    normed += width
    return Totals(params, macs + 2 * normed, macs)
