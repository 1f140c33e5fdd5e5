"""Inflation of image weights to a video model (section 3.4, Tables 8 and 9)."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from ...config import BiasInit, EmbeddingInit, Extent
from ..attention import WindowAttention
from ..choices import chosen
from ..families import VIDEO_SWIN, family_of
from ..patches import PatchEmbed3D
from .errors import WeightsError
from .formats import State
from .geometry import resized_positions
from .loading import LoadReport, assign, is_head, split
from .networks import canonical_state

# "a small negative value (e.g. -4.6)" (section 4.3): exp(-4.6) = 0.01
OTHER_FRAMES = -4.6

_BIAS_TABLE = "relative_position_bias_table"


def inflate(
    image_state: Mapping[str, Any],
    model: nn.Module,
    *,
    embedding: EmbeddingInit | str = EmbeddingInit.INFLATE,
    bias: BiasInit | str = BiasInit.DUPLICATE,
) -> LoadReport:
    """Start a video model from the weights of an image model.

    Video Swin starts from Swin (published or Hugging Face names): see :func:`inflate_embedding` and
    :func:`inflate_bias_table` for what depends on time; everything else is copied. TimeSformer starts from ViT: the
    temporal attention and its norm from the spatial ones, position embeddings of another grid by nearest neighbour
    (timesformer/models/helpers.py @a5ef29a7). The head, what *split* and *factorized* add, and TimeSformer's time
    embedding keep the values the model has.

    Args:
        image_state: tensors by name, as :func:`vswin.models.read_checkpoint` returns them.
        model: a classifier from :func:`vswin.create_model`, or a bare :class:`vswin.SwinTransformer3D`.
        embedding: how a patch of one frame becomes one of several (Table 8); Video Swin only.
        bias: what the bias between different frames is (Table 9); Video Swin only.

    Returns:
        What was copied, inflated, resized, left at random and left aside.

    Raises:
        ValueError: weights that are not an image model's, or of another size than the model. Nothing is loaded then.
    """
    embedding = chosen(EmbeddingInit, embedding, name="embedding")
    bias = chosen(BiasInit, bias, name="bias")
    source = "image checkpoint"
    written_by, state = canonical_state(image_state, source=source)
    family = family_of(model)
    if written_by.family.inflates_to is not family:
        hint = f"; load {family} weights with vswin.load_checkpoint" if written_by.family is family else ""
        raise WeightsError(
            f"expected image weights to start {family} from (Swin for Video Swin, ViT for TimeSformer), "
            f"got {written_by}{hint}"
        )
    state, unused = split(state, written_by.family)
    if family is VIDEO_SWIN:
        made, inflated, resized = _video_swin(state, model, embedding=embedding, bias=bias)
    else:
        made, inflated, resized = _timesformer(state, model)
    own = [name for name, _ in model.named_parameters()]
    random = [name for name in own if name not in made and _may_stay_random(name)]
    used = {name.removeprefix("backbone.") for name in made}
    unused += [name for name in state if name not in used and not name.endswith("relative_position_index")]
    loaded = assign(model, made, kept=random, source=source)
    return LoadReport(
        format=written_by,
        loaded=tuple(name for name in loaded if name not in inflated),
        inflated=tuple(inflated),
        resized=tuple(resized),
        random=tuple(random),
        unused=tuple(unused),
    )


def inflate_embedding(weight: Tensor, *, frames: int, init: EmbeddingInit) -> Tensor:
    """The kernel of an image patch embedding [C, 3, h, w] as one over ``frames`` frames, [C, 3, frames, h, w].

    ``inflate``: the same in each frame, divided by their number, so that a still video gives what the image gave
    (section 3.4). ``center``: in frame floor(frames / 2), zero elsewhere, as in ViViT (section 4.3; deviation 6).
    """
    match init:
        case EmbeddingInit.INFLATE:
            return repeat(weight, "o i h w -> o i t h w", t=frames) / frames
        case EmbeddingInit.CENTER:
            inflated = weight.new_zeros((*weight.shape[:2], frames, *weight.shape[2:]))
            inflated[:, :, frames // 2] = weight
            return inflated


def inflate_bias_table(table: Tensor, *, window: Extent, init: BiasInit) -> Tensor:
    """The bias table of square image windows [(2M-1)^2, heads] as one of ``window``, [(2P-1)(2H-1)(2W-1), heads].

    A table of another window is resized bicubically first, as the published code does
    (mmaction/models/backbones/swin_transformer.py @db018fb8). ``duplicate``: the same for every temporal offset
    (section 3.4). ``center``: only within a frame; -4.6 across frames (section 4.3; deviation 7).
    """
    side = round(table.shape[0] ** 0.5)
    offsets = rearrange(table, "(h w) n -> n h w", h=side)
    height, width = 2 * window.height - 1, 2 * window.width - 1
    if (side, side) != (height, width):
        offsets = F.interpolate(offsets[None], size=(height, width), mode="bicubic")[0]
    flat = rearrange(offsets, "n h w -> 1 (h w) n")
    match init:
        case BiasInit.DUPLICATE:
            inflated = flat.repeat(2 * window.time - 1, 1, 1)
        case BiasInit.CENTER:
            inflated = table.new_full((2 * window.time - 1, *flat.shape[1:]), OTHER_FRAMES)
            inflated[window.time - 1] = flat[0]
    return rearrange(inflated, "t o n -> (t o) n")


Made = tuple[dict[str, Tensor], list[str], list[str]]


def _video_swin(state: State, model: nn.Module, *, embedding: EmbeddingInit, bias: BiasInit) -> Made:
    """The model's tensors that image weights give, and which of them were inflated and resized."""
    prefix = "" if "patch_embed.proj.weight" in model.state_dict() else "backbone."
    modules = dict(model.named_modules())
    embed = modules[f"{prefix}patch_embed"]
    assert isinstance(embed, PatchEmbed3D)
    made: dict[str, Tensor] = {}
    inflated: list[str] = []
    resized: list[str] = []
    for image_name, value in state.items():
        name = f"{prefix}{image_name}"
        attention = modules.get(name.removesuffix(f".{_BIAS_TABLE}"))
        if is_head(image_name) or image_name.endswith("relative_position_index"):
            continue
        if image_name.startswith("patch_embed.norm.") and embed.norm is None:
            # The published class leaves this norm out by default.
            continue
        if image_name == "patch_embed.proj.weight":
            if value.ndim != 4:
                raise WeightsError(f"expected {image_name} of shape [C, 3, h, w], got {list(value.shape)}")
            made[name] = inflate_embedding(value, frames=embed.patch.time, init=embedding)
            inflated.append(name)
        elif isinstance(attention, WindowAttention) and name.endswith(_BIAS_TABLE):
            window = attention.window
            if value.ndim != 2 or not _is_square(value.shape[0]):
                raise WeightsError(
                    f"expected {image_name} of shape [(2 M - 1) ** 2, heads] for a window of M x M tokens, "
                    f"got {list(value.shape)}"
                )
            made[name] = inflate_bias_table(value, window=window, init=bias)
            inflated.append(name)
            if value.shape[0] != (2 * window.height - 1) * (2 * window.width - 1):
                resized.append(name)
        else:
            made[name] = value
    return made, inflated, resized


def _timesformer(state: State, model: nn.Module) -> Made:
    """The model's tensors that image weights give, and which of them were copied for time and resized."""
    own = model.state_dict()
    made: dict[str, Tensor] = {}
    inflated: list[str] = []
    resized: list[str] = []
    for name, value in state.items():
        if is_head(name):
            continue
        made[name] = value
        if name == "pos_embed" and (value.ndim != 3 or not _is_square(value.shape[1] - 1)):
            raise WeightsError(f"expected {name} of shape [1, 1 + n * n, C], got {list(value.shape)}")
        if name == "pos_embed" and value.shape[1:] != own[name].shape[1:] and value.shape[2] == own[name].shape[2]:
            made[name] = resized_positions(value, patches=own[name].shape[1] - 1)
            resized.append(name)
        for spatial, temporal in ((".attn.", ".temporal_attn."), (".norm1.", ".temporal_norm1.")):
            copy = name.replace(spatial, temporal)
            if copy != name and copy in own:
                made[copy] = value
                inflated.append(copy)
    return made, inflated, resized


def _is_square(cells: int) -> bool:
    return cells > 0 and isqrt(cells) ** 2 == cells


def _may_stay_random(name: str) -> bool:
    """True if an image model has no counterpart of this parameter."""
    added = ("temporal_layers.", ".temporal.", "time_embed", ".temporal_fc.")
    return is_head(name) or any(part in name for part in added)
