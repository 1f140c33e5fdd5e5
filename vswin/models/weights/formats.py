"""Checkpoint formats: one object for each way of naming a model's tensors, with its recognition and its conversion.

``relative_position_index`` buffers follow from the window. They are compared with ours and never loaded: a file that
looks its biases up in another order must not pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import families
from ..families import Family
from .errors import UnknownFormatError, WeightsError

State = Mapping[str, Tensor]

# Where training frameworks put the weights among the rest of a checkpoint.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")
# What data-parallel training and the published TimeSformer put in front of every name.
_PREFIXES = ("module.", "model.")
# How deep a wrapper may lie in another; a mapping may even hold itself.
_DEEPEST = 4
_SHOWN = 3

_EMBEDDING = "patch_embed.proj.weight"
_FIRST_NORM = "layers.0.blocks.0.norm1.weight"


@dataclass(frozen=True)
class CheckpointFormat:
    """A way of naming tensors.

    Attributes:
        name: who writes it.
        family: the architecture these weights are of.
        recognises: tells it by the names and shapes of the tensors; no two formats recognise the same.
        convert: renames the tensors to those of our models.
    """

    name: str
    family: Family
    recognises: Callable[[State], bool]
    convert: Callable[[State], dict[str, Tensor]] = dict

    def __str__(self) -> str:
        return self.name


def canonical_state(
    state: Mapping[str, Any], *, source: str = "state dict", family: Family | None = None
) -> tuple[CheckpointFormat, dict[str, Tensor]]:
    """The format of a state dict, and its tensors under the names of our models.

    Video Swin: ``backbone.`` and ``cls_head.`` even if the file has no head. Weights of a ``family`` that only this
    package writes are recognised, too. Raises UnknownFormatError.
    """
    tensors = tensors_of(state)
    for prefix in _PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    known = FORMATS if family is None or not family.marks else (*FORMATS, _own_format(family))
    for written_by in known:
        if written_by.recognises(tensors):
            return written_by, written_by.convert(tensors)
    raise UnknownFormatError(
        f"expected weights of {', '.join(map(str, known))}; the {source} is none of them, its tensors are "
        f"named{few(tuple(tensors))}"
    )


def tensors_of(content: Any, *, depth: int = 0) -> dict[str, Tensor]:
    """The mapping from names to tensors somewhere in a checkpoint; empty if there is none."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return {}
    for wrapper in _WRAPPERS:
        if found := tensors_of(content.get(wrapper), depth=depth + 1):
            return found
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}


def few(names: tuple[str, ...]) -> str:
    """The first of ``names`` in brackets, for a message."""
    shown = ", ".join(names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f" ({shown}{more})"


def _own_format(family: Family) -> CheckpointFormat:
    return CheckpointFormat(
        f"{family} of this package", family, recognises=lambda state: all(mark in state for mark in family.marks)
    )


def _axes(state: State, name: str) -> int:
    """The number of axes of a tensor; 0 if there is none of this name."""
    return state[name].ndim if name in state else 0


def _renamed(state: State, rules: list[tuple[str, str | Callable[[re.Match[str]], str]]]) -> dict[str, Tensor]:
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
    return _axes(state, _EMBEDDING) == 5 and _FIRST_NORM in state


def _convert_video_swin(state: State) -> dict[str, Tensor]:
    if f"backbone.{_EMBEDDING}" in state:
        return dict(state)
    return {f"backbone.{name}": value for name, value in state.items()}


VIDEO_SWIN = CheckpointFormat(
    "published Video Swin", families.VIDEO_SWIN, recognises=_is_video_swin, convert=_convert_video_swin
)

# mmaction2 1.x @4d6c9347: the same, but the final norm is norm3; files carry training state besides tensors.


def _is_mmaction(state: State) -> bool:
    return _axes(state, f"backbone.{_EMBEDDING}") not in (0, 4) and "backbone.norm3.weight" in state


def _convert_mmaction(state: State) -> dict[str, Tensor]:
    renamed = _renamed(state, [(r"^backbone\.norm3\.", "backbone.norm.")])
    return {name: value for name, value in renamed.items() if not name.startswith("data_preprocessor.")}


MMACTION = CheckpointFormat(
    "mmaction2 Video Swin", families.VIDEO_SWIN, recognises=_is_mmaction, convert=_convert_mmaction
)

# torchvision swin3d_* (0.28.0): stages and mergings alternate in features; mlp.0 and mlp.3; no prefix for the
# backbone.


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
            (r"\.mlp\.0\.", ".mlp.fc1."),
            (r"\.mlp\.3\.", ".mlp.fc2."),
            (r"^(patch_embed|norm)\.", r"backbone.\1."),
            (r"^head\.", "cls_head.fc_cls."),
        ],
    )


TORCHVISION = CheckpointFormat(
    "torchvision Video Swin", families.VIDEO_SWIN, recognises=_is_torchvision, convert=_convert_torchvision
)

# ------------------------------------------------------------------------------------------- Swin for images

# Published weights @f82860bf: under model, with attn_mask buffers that we compute. Detection and segmentation put
# them under backbone.


def _is_image_swin(state: State) -> bool:
    under_backbone = _axes(state, f"backbone.{_EMBEDDING}") == 4 and f"backbone.{_FIRST_NORM}" in state
    return under_backbone or (_axes(state, _EMBEDDING) not in (0, 5) and _FIRST_NORM in state)


def _convert_image_swin(state: State) -> dict[str, Tensor]:
    return {name.removeprefix("backbone."): value for name, value in state.items() if not name.endswith("attn_mask")}


IMAGE_SWIN = CheckpointFormat(
    "published Swin for images", families.IMAGE_SWIN, recognises=_is_image_swin, convert=_convert_image_swin
)

# Hugging Face: queries, keys and values in three layers; two generations of names.


def _convert_hf_swin(state: State) -> dict[str, Tensor]:
    renamed = _renamed(
        state,
        [
            (r"^swin\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^swin\.embeddings\.norm\.", "patch_embed.norm."),
            (r"^swin\.layernorm\.", "norm."),
            (r"^swin\.encoder\.", ""),
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
    merged: dict[str, Tensor] = {}
    for name, value in renamed.items():
        if ".attn.q." in name:
            parts = [name.replace(".attn.q.", f".attn.{part}.") for part in "qkv"]
            absent = [part for part in parts if part not in renamed]
            if absent:
                raise WeightsError(
                    f"expected {' and '.join(parts)} together, got no {absent[0]}; is the file complete?"
                )
            merged[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat([renamed[part] for part in parts])
        elif ".attn.k." not in name and ".attn.v." not in name:
            merged[name] = value
    return merged


HF_SWIN = CheckpointFormat(
    "Hugging Face Swin for images",
    families.IMAGE_SWIN,
    recognises=lambda state: "swin.embeddings.patch_embeddings.projection.weight" in state,
    convert=_convert_hf_swin,
)

# ---------------------------------------------------------------------------------------- TimeSformer and ViT


def _is_vit(state: State) -> bool:
    return all(name in state for name in (_EMBEDDING, "blocks.0.norm1.weight", "cls_token"))


# @a5ef29a7: under model_state, each name prefixed with model.
TIMESFORMER = CheckpointFormat(
    "TimeSformer", families.TIMESFORMER, recognises=lambda state: _is_vit(state) and "time_embed" in state
)

# timm's ViT: our names for TimeSformer's spatial part; only a start for a video model, see vswin.inflate.
VIT = CheckpointFormat(
    "ViT for images", families.VIT, recognises=lambda state: _is_vit(state) and "time_embed" not in state
)


def _convert_hf_timesformer(state: State) -> dict[str, Tensor]:
    return _renamed(
        state,
        [
            (r"^timesformer\.embeddings\.cls_token$", "cls_token"),
            (r"^timesformer\.embeddings\.position_embeddings$", "pos_embed"),
            (r"^timesformer\.embeddings\.time_embeddings$", "time_embed"),
            (r"^timesformer\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^timesformer\.layernorm\.", "norm."),
            (r"^timesformer\.encoder\.layer\.", "blocks."),
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
    recognises=lambda state: "timesformer.embeddings.cls_token" in state,
    convert=_convert_hf_timesformer,
)

FORMATS = (VIDEO_SWIN, MMACTION, TORCHVISION, IMAGE_SWIN, HF_SWIN, TIMESFORMER, HF_TIMESFORMER, VIT)
