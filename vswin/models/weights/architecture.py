"""The configuration of a model from its weights: the inverse of :func:`vswin.models.build`."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from math import isqrt

from torch import Tensor

from ...config import Attention, Extent, SpaceTime, Swin3DConfig, TimeSformerConfig, VideoModelConfig
from ..families import TIMESFORMER, VIDEO_SWIN, VIT
from .errors import UnknownFormatError, WeightsError
from .formats import State
from .geometry import square_windows
from .networks import canonical_state

# Channels of an attention head of every published ViT.
_VIT_HEAD = 64
# Windows of more tokens in time than this are not thought of: 128 frames of two a token.
_MOST_TIMES = 64
# The last linear layer of classifiers: of Video Swin, and of all others.
_HEADS = ("cls_head.fc_cls.weight", "head.weight")


def architecture_of(state: State, *, window: Extent | None = None, source: str = "state dict") -> VideoModelConfig:
    """The configuration of the video model that ``state`` holds the weights of, in any format that can be loaded.

    Names and shapes tell widths, depths, heads, patch, window, attention and the number of classes. What they do not
    tell is as in the configuration's defaults: shifted windows, and rates of dropping, which a test does not use; of
    TimeSformer the heads, 64 channels each. Without a classification head the number of classes is the default.

    Args:
        state: tensors by name.
        window: of a Video Swin, where bias tables fit several and no index buffer tells which.
        source: names the tensors in errors.

    Raises:
        ValueError: a model for images, or one whose shapes do not tell its configuration.
    """
    try:
        written_by, state = canonical_state(state, source=source)
    except UnknownFormatError as error:
        raise WeightsError(f"{error}; if a model of this package has them, name the model") from error
    if written_by.family is VIDEO_SWIN:
        return _video_swin(state, window=window, source=source)
    if written_by.family is TIMESFORMER:
        return _timesformer(state)
    same = "; for a TimeSformer that attends in space only, name the model" if written_by.family is VIT else ""
    raise WeightsError(
        f"expected weights of a video model, got {written_by} in the {source}; vswin.inflate starts a video model "
        f"from them, which then has to be trained{same}"
    )


def count_classes(state: State) -> int | None:
    """The number of classes that the head in ``state`` tells apart; None without one."""
    with suppress(UnknownFormatError):
        _, state = canonical_state(state)
    return next((_classes(state, head) for head in _HEADS if head in state), None)


def _video_swin(state: State, *, window: Extent | None, source: str) -> Swin3DConfig:
    embedding = state["backbone.patch_embed.proj.weight"]
    depths = _depths(state)
    tables = [
        state.get(f"backbone.layers.{stage}.blocks.0.attn.relative_position_bias_table") for stage in range(len(depths))
    ]
    if not depths or any(table is None or table.ndim != 2 for table in tables):
        raise WeightsError(f"expected a bias table in every stage of the {source}, got none in some; is it complete?")
    first = next(table for table in tables if table is not None)
    index = state.get("backbone.layers.0.blocks.0.attn.relative_position_index")
    window = _window(
        first.shape[0], wanted=window, tokens=None if index is None else isqrt(index.numel()), source=source
    )
    attention, temporal = _temporal(state)
    if temporal is not None:
        window = window._replace(time=(temporal.shape[0] + 1) // 2)
    hidden = state.get("backbone.layers.0.blocks.0.mlp.fc1.weight")
    config = Swin3DConfig(
        embed_dim=embedding.shape[0],
        depths=depths,
        num_heads=tuple(table.shape[1] for table in tables if table is not None),
        patch=Extent.of(embedding.shape[2:]),
        window=window,
        attention=attention,
        mlp_ratio=4.0 if hidden is None else hidden.shape[0] / hidden.shape[1],
        patch_norm="backbone.patch_embed.norm.weight" in state,
        qkv_bias="backbone.layers.0.blocks.0.attn.qkv.bias" in state,
    )
    return replace(config, num_classes=_classes(state, "cls_head.fc_cls.weight") or config.num_classes)


def _depths(state: State) -> tuple[int, ...]:
    """The number of blocks of every stage."""
    found: dict[int, int] = {}
    for name in state:
        if place := re.match(r"backbone\.layers\.(\d+)\.blocks\.(\d+)\.", name):
            stage, block = int(place[1]), int(place[2])
            found[stage] = max(found.get(stage, 0), block + 1)
    return tuple(found[stage] for stage in range(len(found)) if stage in found)


def _window(rows: int, *, wanted: Extent | None, tokens: int | None, source: str) -> Extent:
    """The window of which a bias table has ``rows`` = (2P-1)(2M-1)^2 rows, and an index ``tokens`` = P M^2.

    Without an index, of windows of up to 64 tokens in time and more than one token a side; one of ``wanted`` sides is
    taken as it is.
    """
    found = square_windows(rows, tokens=tokens)
    if wanted is not None and (2 * wanted.time - 1) * (2 * wanted.height - 1) * (2 * wanted.width - 1) == rows:
        return wanted
    if wanted is not None:
        raise WeightsError(f"expected bias tables of a window of {wanted}, got {rows} rows in the {source}")
    likely = [window for window in found if window.time <= _MOST_TIMES and window.height > 1] or found[:1]
    if not likely:
        raise WeightsError(
            f"expected a bias table of (2P-1)(2M-1)^2 rows for a window of P x M x M tokens, got {rows} rows in the "
            f"{source}; name the model or its window"
        )
    if len(likely) > 1:
        raise WeightsError(
            f"the bias tables of the {source}, of {rows} rows, fit windows of {' and '.join(map(str, likely))} tokens, "
            "and no index buffer tells which; name the model or its window"
        )
    return likely[0]


def _temporal(state: State) -> tuple[Attention, Tensor | None]:
    """The design of attention, and where it is not joint a bias table over 2P-1 offsets in time."""
    for attention, place in (
        (Attention.SPLIT, "temporal_layers.0"),
        (Attention.FACTORIZED, "layers.0.blocks.0.temporal"),
    ):
        table = state.get(f"backbone.{place}.attn.relative_position_bias_table")
        if table is not None:
            return attention, table
    return Attention.JOINT, None


def _timesformer(state: State) -> TimeSformerConfig:
    embedding, time = state["patch_embed.proj.weight"], state.get("time_embed")
    dim, patch = embedding.shape[0], embedding.shape[-1]
    if any(".temporal_attn." in name for name in state):
        attention = SpaceTime.DIVIDED
    else:
        attention = SpaceTime.SPACE if time is None else SpaceTime.JOINT
    blocks = [int(place[1]) for name in state if (place := re.match(r"blocks\.(\d+)\.", name))]
    config = TimeSformerConfig(
        attention=attention,
        embed_dim=dim,
        depth=max(blocks) + 1,
        num_heads=max(1, dim // _VIT_HEAD),
        patch=patch,
        image_size=patch * isqrt(state["pos_embed"].shape[1] - 1),
    )
    return replace(
        config,
        frames=config.frames if time is None else time.shape[1],
        num_classes=_classes(state, "head.weight") or config.num_classes,
    )


def _classes(state: State, head: str) -> int | None:
    return state[head].shape[0] if head in state else None
