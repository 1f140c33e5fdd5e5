"""Checkpoint formats: one object for each way of naming a model's tensors, with its recognition and its conversion.

``relative_position_index`` buffers follow from the window. They are compared with ours and never loaded: a file that
looks its biases up in another order must not pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import families
from ..families import Family
from .errors import WeightsError

State = Mapping[str, Tensor]
# A pattern in a name, and what it becomes.
Rule = tuple[str, str | Callable[[re.Match[str]], str]]

_SHOWN = 3

_EMBEDDING = "patch_embed.proj.weight"
_FIRST_NORM = "layers.0.blocks.0.norm1.weight"
_WITH_BACKBONE = (f"backbone.{_EMBEDDING}", _EMBEDDING)


@dataclass(frozen=True)
class CheckpointFormat:
    """A way of naming tensors.

    Attributes:
        name: who writes it.
        family: the architecture these weights are of.
        anchors: names of tensors, of which every network written so has one; what stands in front of it in a
            checkpoint stands in front of all.
        recognises: tells it by the names and shapes of the tensors; no two formats recognise the same.
        convert: renames the tensors to those of our models.
    """

    name: str
    family: Family
    anchors: tuple[str, ...]
    recognises: Callable[[State], bool]
    convert: Callable[[State], dict[str, Tensor]] = dict

    def __str__(self) -> str:
        return self.name


def few(names: tuple[str, ...]) -> str:
    """The first of ``names`` in brackets, for a message."""
    shown = ", ".join(names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f" ({shown}{more})"


def _axes(state: State, name: str) -> int:
    """The number of axes of a tensor; 0 if there is none of this name."""
    return state[name].ndim if name in state else 0


def _renamed(state: State, rules: Iterable[Rule]) -> dict[str, Tensor]:
    """Every name after all the rules, in turn."""
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


# ------------------------------------------------------------------------------------------------ Video Swin

# Published weights @db018fb8: backbone. and cls_head.fc_cls. under state_dict; our own names.


def _is_video_swin(state: State) -> bool:
    if f"backbone.{_EMBEDDING}" in state:
        return _axes(state, f"backbone.{_EMBEDDING}") != 4 and "backbone.norm3.weight" not in state
    return _axes(state, _EMBEDDING) == 5 and _FIRST_NORM in state and "norm3.weight" not in state


def _convert_video_swin(state: State) -> dict[str, Tensor]:
    if f"backbone.{_EMBEDDING}" in state:
        return dict(state)
    return {name if name.startswith("cls_head.") else f"backbone.{name}": value for name, value in state.items()}


VIDEO_SWIN = CheckpointFormat(
    "published Video Swin",
    families.VIDEO_SWIN,
    anchors=_WITH_BACKBONE,
    recognises=_is_video_swin,
    convert=_convert_video_swin,
)

# mmaction2 1.x @4d6c9347: the same, but the final norm is norm3; files carry training state besides tensors.


def _is_mmaction(state: State) -> bool:
    within = _axes(state, f"backbone.{_EMBEDDING}") not in (0, 4) and "backbone.norm3.weight" in state
    return within or (_axes(state, _EMBEDDING) == 5 and _FIRST_NORM in state and "norm3.weight" in state)


def _convert_mmaction(state: State) -> dict[str, Tensor]:
    return _renamed(_convert_video_swin(state), [(r"^backbone\.norm3\.", "backbone.norm.")])


MMACTION = CheckpointFormat(
    "mmaction2 Video Swin",
    families.VIDEO_SWIN,
    anchors=_WITH_BACKBONE,
    recognises=_is_mmaction,
    convert=_convert_mmaction,
)

# torchvision swin3d_* (0.28.0): stages and mergings alternate in features; mlp.0 and mlp.3; no prefix for the
# backbone.


_TORCHVISION_MLP = ((r"\.mlp\.0\.", ".mlp.fc1."), (r"\.mlp\.3\.", ".mlp.fc2."))


def _is_torchvision(state: State) -> bool:
    return _axes(state, _EMBEDDING) == 5 and "features.0.0.norm1.weight" in state


def _convert_torchvision(state: State) -> dict[str, Tensor]:
    def block(match: re.Match[str]) -> str:
        return f"backbone.layers.{int(match[1]) // 2}.blocks.{match[2]}."

    def merging(match: re.Match[str]) -> str:
        return f"backbone.layers.{int(match[1]) // 2}.downsample."

    return _renamed(
        state,
        [
            (r"^features\.(\d+)\.(\d+)\.", block),
            (r"^features\.(\d+)\.(?=norm|reduction)", merging),
            *_TORCHVISION_MLP,
            (r"^(patch_embed|norm)\.", r"backbone.\1."),
            (r"^head\.", "cls_head.fc_cls."),
        ],
    )


TORCHVISION = CheckpointFormat(
    "torchvision Video Swin",
    families.VIDEO_SWIN,
    anchors=(_EMBEDDING,),
    recognises=_is_torchvision,
    convert=_convert_torchvision,
)

# ------------------------------------------------------------------------------------------- Swin for images

# Published weights @f82860bf: under model, with attn_mask buffers that we compute. Detection and segmentation put
# them under backbone.


def _is_image_swin(state: State) -> bool:
    return _names_image_swin(state) and not _merges_first(state)


def _names_image_swin(state: State) -> bool:
    under_backbone = _axes(state, f"backbone.{_EMBEDDING}") == 4 and f"backbone.{_FIRST_NORM}" in state
    return under_backbone or (_axes(state, _EMBEDDING) not in (0, 5) and _FIRST_NORM in state)


def _convert_image_swin(state: State) -> dict[str, Tensor]:
    return {name.removeprefix("backbone."): value for name, value in state.items()}


IMAGE_SWIN = CheckpointFormat(
    "published Swin for images",
    families.IMAGE_SWIN,
    anchors=_WITH_BACKBONE,
    recognises=_is_image_swin,
    convert=_convert_image_swin,
)

# timm from 0.9 on (before, the published names): a stage begins with the merging that ended the one before it, and the
# head is a linear layer in a module.


def _merges_first(state: State) -> bool:
    return any(
        f"{prefix}layers.1.downsample.reduction.weight" in state
        and f"{prefix}layers.0.downsample.reduction.weight" not in state
        for prefix in ("", "backbone.")
    )


def _convert_timm_swin(state: State) -> dict[str, Tensor]:
    def before(match: re.Match[str]) -> str:
        return f"layers.{int(match[1]) - 1}.downsample."

    rules: list[Rule] = [(r"^layers\.(\d+)\.downsample\.", before), (r"^head\.fc\.", "head.")]
    return _renamed(_convert_image_swin(state), rules)


TIMM_SWIN = CheckpointFormat(
    "timm Swin for images",
    families.IMAGE_SWIN,
    anchors=_WITH_BACKBONE,
    recognises=lambda state: _names_image_swin(state) and _merges_first(state),
    convert=_convert_timm_swin,
)

# torchvision swin_* (0.28.0): the embedding is the first of the features, convolution and norm.


def _convert_torchvision_image(state: State) -> dict[str, Tensor]:
    def block(match: re.Match[str]) -> str:
        return f"layers.{int(match[1]) // 2}.blocks.{match[2]}."

    def merging(match: re.Match[str]) -> str:
        return f"layers.{int(match[1]) // 2 - 1}.downsample."

    return _renamed(
        state,
        [
            (r"^features\.0\.0\.", "patch_embed.proj."),
            (r"^features\.0\.2\.", "patch_embed.norm."),
            (r"^features\.(\d+)\.(\d+)\.", block),
            (r"^features\.(\d+)\.(?=norm|reduction)", merging),
            *_TORCHVISION_MLP,
        ],
    )


TORCHVISION_IMAGE = CheckpointFormat(
    "torchvision Swin for images",
    families.IMAGE_SWIN,
    anchors=("features.0.0.weight",),
    recognises=lambda state: _axes(state, "features.0.0.weight") == 4 and "features.1.0.norm1.weight" in state,
    convert=_convert_torchvision_image,
)

# Hugging Face: queries, keys and values in three layers; two generations of names. A classifier or a masked model has
# the network under swin.

_HF_EMBEDDING = "embeddings.patch_embeddings.projection.weight"


def _convert_hf_swin(state: State) -> dict[str, Tensor]:
    renamed = _renamed(
        state,
        [
            (r"^swin\.", ""),
            (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^embeddings\.norm\.", "patch_embed.norm."),
            (r"^layernorm\.", "norm."),
            (r"^encoder\.", ""),
            (r"\.layernorm_before\.", ".norm1."),
            (r"\.layernorm_after\.", ".norm2."),
            (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
            (r"\.attention\.(?:self\.|relative_position_bias\.)?(?=relative_position)", ".attn."),
            (r"\.attention\.(?:self\.query|q_proj)\.", ".attn.q."),
            (r"\.attention\.(?:self\.key|k_proj)\.", ".attn.k."),
            (r"\.attention\.(?:self\.value|v_proj)\.", ".attn.v."),
            (r"\.intermediate\.dense\.", ".mlp.fc1."),
            (r"\.output\.dense\.", ".mlp.fc2."),
            (r"^classifier\.", "head."),
        ],
    )
    return _with_qkv(renamed)


def _with_qkv(state: State) -> dict[str, Tensor]:
    """``state`` with queries, keys and values in one tensor."""
    merged: dict[str, Tensor] = {}
    for name, value in state.items():
        if ".attn.q." in name:
            parts = [name.replace(".attn.q.", f".attn.{part}.") for part in "qkv"]
            absent = [part for part in parts if part not in state]
            if absent:
                raise WeightsError(
                    f"expected {' and '.join(parts)} together, got no {absent[0]}; is the file complete?"
                )
            merged[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat([state[part] for part in parts])
        elif ".attn.k." not in name and ".attn.v." not in name:
            merged[name] = value
    return merged


HF_SWIN = CheckpointFormat(
    "Hugging Face Swin for images",
    families.IMAGE_SWIN,
    anchors=(f"swin.{_HF_EMBEDDING}", _HF_EMBEDDING),
    recognises=lambda state: any(
        f"{prefix}{_HF_EMBEDDING}" in state
        and any(name.startswith(f"{prefix}encoder.layers.0.blocks.0.") for name in state)
        for prefix in ("swin.", "")
    ),
    convert=_convert_hf_swin,
)

# ---------------------------------------------------------------------------------------- TimeSformer and ViT


def _is_vit(state: State) -> bool:
    return all(name in state for name in (_EMBEDDING, "blocks.0.norm1.weight", "cls_token"))


# @a5ef29a7: under model_state, each name prefixed with model.
TIMESFORMER = CheckpointFormat(
    "TimeSformer",
    families.TIMESFORMER,
    anchors=(_EMBEDDING,),
    recognises=lambda state: _is_vit(state) and "time_embed" in state,
)

# timm's ViT: our names for TimeSformer's spatial part; only a start for a video model, see vswin.inflate.
VIT = CheckpointFormat(
    "ViT for images",
    families.VIT,
    anchors=(_EMBEDDING,),
    recognises=lambda state: _is_vit(state) and "time_embed" not in state,
)

# mmaction2 1.x @4d6c9347: attention by PyTorch's multi-head module, which has the projections in one tensor, too;
# within a block time comes first.


def _convert_mmaction_timesformer(state: State) -> dict[str, Tensor]:
    divided = any(".attentions.0.temporal_fc." in name for name in state)
    time, space = (r"\.attentions\.0", r"\.attentions\.1" if divided else r"\.attentions\.0")
    temporal = [
        (rf"{time}\.norm\.", ".temporal_norm1."),
        (rf"{time}\.attn\.in_proj_", ".temporal_attn.qkv."),
        (rf"{time}\.attn\.out_proj\.", ".temporal_attn.proj."),
        (rf"{time}\.temporal_fc\.", ".temporal_fc."),
    ]
    return _renamed(
        state,
        [
            (r"^backbone\.", ""),
            (r"^cls_head\.fc_cls\.", "head."),
            (r"^patch_embed\.projection\.", "patch_embed.proj."),
            (r"^transformer_layers\.layers\.", "blocks."),
            *(temporal if divided else []),
            (rf"{space}\.norm\.", ".norm1."),
            (rf"{space}\.attn\.in_proj_", ".attn.qkv."),
            (rf"{space}\.attn\.out_proj\.", ".attn.proj."),
            (r"\.ffns\.0\.norm\.", ".norm2."),
            (r"\.norms\.0\.", ".norm2."),
            (r"\.ffns\.0\.layers\.0\.0\.", ".mlp.fc1."),
            (r"\.ffns\.0\.layers\.1\.", ".mlp.fc2."),
        ],
    )


MMACTION_TIMESFORMER = CheckpointFormat(
    "mmaction2 TimeSformer",
    families.TIMESFORMER,
    anchors=("backbone.patch_embed.projection.weight", "patch_embed.projection.weight"),
    recognises=lambda state: any(
        f"{prefix}transformer_layers.layers.0.attentions.0.attn.in_proj_weight" in state for prefix in ("backbone.", "")
    ),
    convert=_convert_mmaction_timesformer,
)

# Hugging Face's ViT has three projections, as its Swin.


def _convert_hf_vit(state: State) -> dict[str, Tensor]:
    return _with_qkv(
        _renamed(
            state,
            [
                (r"^vit\.", ""),
                (r"^embeddings\.cls_token$", "cls_token"),
                (r"^embeddings\.position_embeddings$", "pos_embed"),
                (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
                (r"^layernorm\.", "norm."),
                (r"^encoder\.layer\.|^layers\.", "blocks."),
                (r"\.layernorm_before\.", ".norm1."),
                (r"\.layernorm_after\.", ".norm2."),
                (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
                (r"\.attention\.(?:attention\.query|q_proj)\.", ".attn.q."),
                (r"\.attention\.(?:attention\.key|k_proj)\.", ".attn.k."),
                (r"\.attention\.(?:attention\.value|v_proj)\.", ".attn.v."),
                (r"\.intermediate\.dense\.", ".mlp.fc1."),
                (r"\.output\.dense\.", ".mlp.fc2."),
                (r"^classifier\.", "head."),
            ],
        )
    )


def _is_hf_vit(state: State) -> bool:
    # a TimeSformer has the projections in one
    return any(
        f"{prefix}{_HF_EMBEDDING}" in state
        and f"{prefix}embeddings.cls_token" in state
        and f"{prefix}embeddings.time_embeddings" not in state
        and not any(name.startswith(f"{prefix}encoder.layer.0.attention.attention.qkv.") for name in state)
        for prefix in ("vit.", "")
    )


HF_VIT = CheckpointFormat(
    "Hugging Face ViT for images",
    families.VIT,
    anchors=(f"vit.{_HF_EMBEDDING}", _HF_EMBEDDING),
    recognises=_is_hf_vit,
    convert=_convert_hf_vit,
)


def _convert_hf_timesformer(state: State) -> dict[str, Tensor]:
    return _renamed(
        state,
        [
            (r"^timesformer\.", ""),
            (r"^embeddings\.cls_token$", "cls_token"),
            (r"^embeddings\.position_embeddings$", "pos_embed"),
            (r"^embeddings\.time_embeddings$", "time_embed"),
            (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^layernorm\.", "norm."),
            (r"^encoder\.layer\.", "blocks."),
            (r"\.layernorm_before\.", ".norm1."),
            (r"\.layernorm_after\.", ".norm2."),
            (r"\.temporal_layernorm\.", ".temporal_norm1."),
            (r"\.temporal_dense\.", ".temporal_fc."),
            (r"\.temporal_attention\.attention\.qkv\.", ".temporal_attn.qkv."),
            (r"\.temporal_attention\.output\.dense\.", ".temporal_attn.proj."),
            (r"\.attention\.attention\.qkv\.", ".attn.qkv."),
            (r"\.attention\.output\.dense\.", ".attn.proj."),
            (r"\.intermediate\.dense\.", ".mlp.fc1."),
            (r"\.output\.dense\.", ".mlp.fc2."),
            (r"^classifier\.", "head."),
        ],
    )


HF_TIMESFORMER = CheckpointFormat(
    "Hugging Face TimeSformer",
    families.TIMESFORMER,
    anchors=(f"timesformer.{_HF_EMBEDDING}", _HF_EMBEDDING),
    recognises=lambda state: any(
        f"{prefix}encoder.layer.0.attention.attention.qkv.weight" in state for prefix in ("timesformer.", "")
    ),
    convert=_convert_hf_timesformer,
)

FORMATS = (
    VIDEO_SWIN,
    MMACTION,
    TORCHVISION,
    IMAGE_SWIN,
    TIMM_SWIN,
    TORCHVISION_IMAGE,
    HF_SWIN,
    TIMESFORMER,
    MMACTION_TIMESFORMER,
    HF_TIMESFORMER,
    VIT,
    HF_VIT,
)
