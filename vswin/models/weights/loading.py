"""Weights into a model: renamed to our names, compared with the model, and only then loaded, all of it or nothing."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from ..choices import chosen
from ..families import IMAGE_SWIN, TIMESFORMER, VIDEO_SWIN, VIT, Family, family_of
from .errors import WeightsError
from .formats import CheckpointFormat, State, few
from .geometry import resized_to
from .networks import WeightSet, canonical_state
from .reading import read_content

# Parts of each architecture: a tensor so named that the model lacks makes it another model. Whatever else a file has
# beside them, such as weights of a loss, the network computes nothing with.
_PARTS = {
    VIDEO_SWIN: r"backbone\.(patch_embed|layers|norm|temporal_layers|absolute_pos_embed)\b|cls_head\.fc_cls\.",
    IMAGE_SWIN: r"(patch_embed|layers|norm|absolute_pos_embed|head\.(weight|bias)$)\b",
    TIMESFORMER: r"(patch_embed|blocks|norm|fc_norm|cls_token|dist_token|pos_embed|time_embed|head\.(weight|bias)$)\b",
}
_PARTS[VIT] = _PARTS[TIMESFORMER]
# Masks that every model computes itself.
_COMPUTED = ("attn_mask",)


class Geometry(StrEnum):
    """Treatment of position biases and embeddings of another window, grid or number of frames: interpolate them
    (``resize``), or refuse them (``exact``).
    """

    RESIZE = "resize"
    EXACT = "exact"


class HeadLoading(StrEnum):
    """Treatment of the model's classification head: ``load`` it with the rest, or ``keep`` the model's own."""

    LOAD = "load"
    KEEP = "keep"


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """Fate of every tensor, by name: the model's names, except for ``unused``, which are the checkpoint's.

    Attributes:
        format: who wrote the checkpoint.
        loaded: copied as they are.
        inflated: made from image weights (see :func:`vswin.inflate`).
        resized: interpolated to another size, and then loaded or inflated.
        random: left as the model had them.
        unused: in the checkpoint, but no part of the model.
        notes: what else is in the file, a sentence each: other weights, training states, code that was not run.
    """

    format: CheckpointFormat
    loaded: tuple[str, ...]
    inflated: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [
            f"{len(names)} {what}{few(names) if what != 'loaded' else ''}"
            for what, names in (
                ("loaded", self.loaded),
                ("inflated", self.inflated),
                ("resized", self.resized),
                ("left at random", self.random),
                ("unused", self.unused),
            )
            if names
        ]
        return "; ".join([f"{self.format}: {', '.join(parts)}", *self.notes])


def load_checkpoint(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    head: HeadLoading | str = HeadLoading.LOAD,
    geometry: Geometry | str = Geometry.RESIZE,
    weights: WeightSet | str = WeightSet.AVERAGED,
) -> LoadReport:
    """Load a checkpoint file of any known format into a model of this package, completely or not at all.

    Args:
        model: a classifier from :func:`vswin.create_model`, or a bare :class:`vswin.SwinTransformer3D`, for which
            the file's head is left aside.
        path: of a PyTorch file (read without running code from it) or a safetensors file.
        head: ``keep`` to leave the model's head as it is, for fine-tuning on other classes.
        geometry: ``resize`` interpolates position biases and embeddings of another window, grid or number of frames
            (see :mod:`vswin.models.weights.geometry`) and warns; ``exact`` refuses them.
        weights: ``averaged`` or ``raw``, of a file that has both.

    Returns:
        A report of what was loaded, resized, left at random and left aside.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unreadable, of unknown format, of another architecture, or of another size than the model.
    """
    source = f"checkpoint {os.fspath(path)}"
    content = read_content(path, weights=weights)
    return load_state(model, content.tensors, head=head, geometry=geometry, source=source, notes=content.notes)


def load_state(
    model: nn.Module,
    state: Mapping[str, Any],
    *,
    head: HeadLoading | str = HeadLoading.LOAD,
    geometry: Geometry | str = Geometry.EXACT,
    source: str = "state dict",
    notes: tuple[str, ...] = (),
) -> LoadReport:
    """As :func:`load_checkpoint`, for tensors already read; ``source`` names them in errors, ``notes`` are reported."""
    family = family_of(model)
    written_by, tensors = canonical_state(state, source=source, family=family)
    # A space-only TimeSformer and a ViT are the same tensors.
    is_vit = family is TIMESFORMER and "time_embed" not in dict(model.named_parameters())
    if written_by.family is not family and not (is_vit and written_by.family is VIT):
        raise WeightsError(
            f"expected {family} weights, got {written_by} in the {source}; {_advice(written_by.family, family)}"
        )
    tensors, unused = split(tensors, family)
    if family is VIDEO_SWIN and not hasattr(model, "backbone"):
        unused += [name for name in tensors if not name.startswith("backbone.")]
        tensors = {name.removeprefix("backbone."): value for name, value in tensors.items() if name not in unused}
    kept: list[str] = []
    if chosen(HeadLoading, head, name="head") is HeadLoading.KEEP:
        kept = [name for name, _ in model.named_parameters() if is_head(name)]
        unused += [name for name in tensors if is_head(name)]
        tensors = {name: value for name, value in tensors.items() if not is_head(name)}
    resized: list[str] = []
    if chosen(Geometry, geometry, name="geometry") is Geometry.RESIZE:
        tensors, resized = resized_to(model, tensors)
    loaded = assign(model, tensors, kept=kept, source=source)
    if resized:
        warnings.warn(
            f"{len(resized)} tensors of the {source} were interpolated to the model's window, grid or frames"
            f"{few(tuple(resized))}; its numbers are not those of the checkpoint",
            stacklevel=3,
        )
    return LoadReport(
        format=written_by,
        loaded=tuple(name for name in loaded if name not in resized),
        resized=tuple(resized),
        random=tuple(kept),
        unused=tuple(unused),
        notes=notes,
    )


def split(tensors: State, family: Family) -> tuple[dict[str, Tensor], list[str]]:
    """Those of ``tensors`` that a network of ``family`` has, and the names of the others."""
    if family not in _PARTS:
        return dict(tensors), []
    part = re.compile(_PARTS[family])
    mine = {name: value for name, value in tensors.items() if part.match(name) and not name.endswith(_COMPUTED)}
    return mine, [name for name in tensors if name not in mine]


def is_head(name: str) -> bool:
    """True if a parameter belongs to the classification head, or to the layer timm's ViT has before it."""
    return name.startswith(("cls_head.", "head.", "pre_logits."))


def assign(model: nn.Module, state: State, *, kept: list[str], source: str) -> list[str]:
    """Load ``state`` into ``model``, except for the ``kept`` names, or raise ValueError and change nothing.

    Returns the names loaded. Index buffers are compared, never loaded, and need not be there.
    """
    own = model.state_dict()
    if any(value.is_meta for value in own.values()):
        raise ValueError(
            "expected a model with memory for its weights, got one on the meta device; build it on a real device"
        )
    indices = {name: value for name, value in state.items() if name.endswith("relative_position_index")}
    state = {name: value for name, value in state.items() if name not in indices}
    needed = [name for name in own if name not in kept and not name.endswith("relative_position_index")]
    missing = tuple(name for name in needed if name not in state)
    unknown = tuple(name for name in state if name not in own)
    unequal = tuple(
        f"{name} is {list(state[name].shape)} where the model has {list(own[name].shape)}"
        for name in needed
        if name in state and state[name].shape != own[name].shape
    )
    faults = [
        f"{len(names)} {what}{few(names)}"
        for what, names in (
            ("tensors of another size", unequal),
            ("tensors missing", missing),
            ("tensors the model does not have", unknown),
        )
        if names
    ]
    if faults:
        raise WeightsError(
            f"the {source} does not fit the model: {'; '.join(faults)}. {_remedy(missing, unknown, unequal)}"
        )
    for name, value in {**state, **indices}.items():
        dense = value.layout is torch.strided and not value.is_meta
        if not dense or (name in state and not value.is_floating_point()):
            raise WeightsError(
                f"expected dense floating-point weights in the {source}, got {name} as {value.dtype}, "
                f"{value.layout} on {value.device}; convert it before loading"
            )
    for name, index in indices.items():
        if name in own and not torch.equal(index.flatten().cpu(), own[name].flatten().cpu()):
            raise WeightsError(
                f"the {source} looks its biases up in another order: {name} differs; it cannot be loaded"
            )
    model.load_state_dict({**own, **state})
    return needed


def _remedy(missing: tuple[str, ...], unknown: tuple[str, ...], unequal: tuple[str, ...]) -> str:
    faults = (*missing, *unknown, *unequal)
    if all(is_head(fault) for fault in faults):
        return "Build the model with the checkpoint's num_classes, or keep the model's head with head='keep'."
    if all("relative_position_bias_table" in fault for fault in faults):
        return "Build the model with the checkpoint's window."
    return "Build the model with the checkpoint's size, window, patch and attention."


def _advice(given: Family, wanted: Family) -> str:
    if given.inflates_to is wanted:
        return "start a video model from image weights with vswin.inflate"
    return f"load them into a {given} model"
