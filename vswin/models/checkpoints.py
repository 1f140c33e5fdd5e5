"""Weights from files, whoever wrote them, and into files.

A checkpoint is recognised by the names and shapes of its tensors, renamed to ours, compared with the model, and
only then loaded, all of it or nothing. What is peculiar about each format:

1. Published Video Swin (@db018fb8): ``backbone.`` and ``cls_head.fc_cls.`` under ``state_dict``; our own names.
2. mmaction2 1.x (@4d6c9347): as 1, but the final norm is ``norm3``; files carry training state besides tensors.
3. torchvision ``swin3d_*`` (0.28.0): stages and mergings alternate in ``features``; ``mlp.0`` and ``mlp.3``; no
   prefix for the backbone.
4. Published Swin for images (@f82860bf): under ``model``, with ``attn_mask`` buffers that we compute.
5. Hugging Face Swin: queries, keys and values in three layers; two generations of names.
6. Hugging Face TimeSformer: names of its own.
7. TimeSformer (@a5ef29a7): under ``model_state``, each name prefixed with ``model.``.
8. ViT (timm): our names for TimeSformer's spatial part; only a start for a video model, see :mod:`.inflate`.

``relative_position_index`` buffers follow from the window. They are compared with ours and never loaded: a file that
looks its biases up in another order must not pass.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .choices import chosen
from .classifier import VideoClassifier
from .errors import NoWeightsError, WeightsError
from .inert_pickle import read_inertly
from .perceiver import Perceiver
from .swin2d import SwinTransformer2D
from .swin3d import SwinTransformer3D
from .timesformer import TimeSformer

State = Mapping[str, Tensor]

# Where training frameworks put the weights among the rest of a checkpoint.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")
# What data-parallel training and the published TimeSformer put in front of every name.
_PREFIXES = ("module.", "model.")
_SHOWN = 3
# How deep a wrapper may lie in another; a mapping may even hold itself.
_DEEPEST = 4
_ZIP_START = b"PK\x03\x04"
# What torch.save began its files with before version 1.6 made them zip archives.
_LEGACY_START = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)


class Family(StrEnum):
    """Architectures whose weights fit each other."""

    VIDEO_SWIN = "Video Swin"
    IMAGE_SWIN = "Swin for images"
    TIMESFORMER = "TimeSformer"
    VIT = "ViT for images"
    PERCEIVER = "Perceiver"


class Format(StrEnum):
    """Who wrote a checkpoint; see the numbered list in :mod:`vswin.models.checkpoints`."""

    VIDEO_SWIN = "published Video Swin"
    MMACTION = "mmaction2 Video Swin"
    TORCHVISION = "torchvision Video Swin"
    IMAGE_SWIN = "published Swin for images"
    HF_SWIN = "Hugging Face Swin for images"
    TIMESFORMER = "TimeSformer"
    HF_TIMESFORMER = "Hugging Face TimeSformer"
    VIT = "ViT for images"
    PERCEIVER = "Perceiver of this package"

    @property
    def family(self) -> Family:
        """The architecture these weights are of."""
        return _FAMILIES[self]


_FAMILIES = {
    Format.VIDEO_SWIN: Family.VIDEO_SWIN,
    Format.MMACTION: Family.VIDEO_SWIN,
    Format.TORCHVISION: Family.VIDEO_SWIN,
    Format.IMAGE_SWIN: Family.IMAGE_SWIN,
    Format.HF_SWIN: Family.IMAGE_SWIN,
    Format.TIMESFORMER: Family.TIMESFORMER,
    Format.HF_TIMESFORMER: Family.TIMESFORMER,
    Format.VIT: Family.VIT,
    Format.PERCEIVER: Family.PERCEIVER,
}


class HeadLoading(StrEnum):
    """What becomes of the model's classification head: ``load`` it with the rest, or ``keep`` the model's own."""

    LOAD = "load"
    KEEP = "keep"


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of every tensor, by name: the model's names, except for ``unused``, which are the checkpoint's.

    Attributes:
        format: who wrote the checkpoint.
        loaded: copied as they are.
        inflated: made from image weights (see :func:`vswin.inflate`).
        resized: interpolated to another size, and then loaded or inflated.
        random: left as the model had them.
        unused: in the checkpoint, but no part of the model.
    """

    format: Format
    loaded: tuple[str, ...]
    inflated: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [
            f"{len(names)} {what}{_few(names) if what != 'loaded' else ''}"
            for what, names in (
                ("loaded", self.loaded),
                ("inflated", self.inflated),
                ("resized", self.resized),
                ("left at random", self.random),
                ("unused", self.unused),
            )
            if names
        ]
        return f"{self.format}: {', '.join(parts)}"


def load_checkpoint(
    model: nn.Module, path: str | os.PathLike[str], *, head: HeadLoading | str = HeadLoading.LOAD
) -> LoadReport:
    """Load a checkpoint file of any known format into a model of this package, completely or not at all.

    Args:
        model: a classifier from :func:`vswin.create_model`, or a bare :class:`vswin.SwinTransformer3D`, for which
            the file's head is left aside.
        path: of a PyTorch file (read without running code from it) or a safetensors file.
        head: ``keep`` to leave the model's head as it is, for fine-tuning on other classes.

    Returns:
        What was loaded, left at random and left aside.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unreadable, of unknown format, of another architecture, or of another size than the model.
    """
    source = f"checkpoint {os.fspath(path)}"
    return load_state(model, read_checkpoint(path), head=head, source=source)


def load_state(
    model: nn.Module, state: State, *, head: HeadLoading | str = HeadLoading.LOAD, source: str = "state dict"
) -> LoadReport:
    """As :func:`load_checkpoint`, for tensors already read; ``source`` names them in errors."""
    written_by, state = canonical_state(state, source=source)
    family = family_of(model)
    # A space-only TimeSformer and a ViT are the same tensors.
    if written_by is Format.VIT and family is Family.TIMESFORMER and "time_embed" not in dict(model.named_parameters()):
        written_by = Format.TIMESFORMER
    if written_by.family is not family:
        raise WeightsError(
            f"expected {family} weights, got {written_by} in the {source}; {_advice(written_by.family, family)}"
        )
    unused = []
    if isinstance(model, SwinTransformer3D):
        unused = [name for name in state if not name.startswith("backbone.")]
        state = {name.removeprefix("backbone."): value for name, value in state.items() if name not in unused}
    kept: list[str] = []
    if chosen(HeadLoading, head, name="head") is HeadLoading.KEEP:
        kept = [name for name, _ in model.named_parameters() if is_head(name)]
        unused += [name for name in state if is_head(name)]
        state = {name: value for name, value in state.items() if not is_head(name)}
    loaded = assign(model, state, kept=kept, source=source)
    return LoadReport(format=written_by, loaded=tuple(loaded), random=tuple(kept), unused=tuple(unused))


def save_weights(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a model's weights as safetensors, under the names :func:`load_checkpoint` reads.

    The file appears complete and on disk or not at all, with the permissions of any new file. It keeps the names of
    the ``classes`` for :func:`read_classes`, and any other texts for :func:`read_metadata`.
    """
    from safetensors.torch import save_file

    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    # safetensors makes files that only their owner can read
    partial.touch()
    permissions = partial.stat().st_mode
    save_file(state, partial, metadata={**(metadata or {}), "format": "pt", "classes": json.dumps(list(classes))})
    partial.chmod(permissions)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def read_classes(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of the classes, in the order of the logits, that :func:`save_weights` kept in a file.

    Empty for files of other origin, which do not name them. Raises FileNotFoundError, and ValueError for a damaged
    file.
    """
    return tuple(json.loads(read_metadata(path).get("classes", "[]")))


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts that a safetensors file keeps beside its tensors; empty for files of other kinds.

    Raises FileNotFoundError, and ValueError for a damaged file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise NoWeightsError(f"expected a checkpoint file, found none at {path}")
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged ({error}); download it again") from error


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The named tensors of a checkpoint file, on the CPU, under the names it gives them.

    PyTorch files are read with ``weights_only=True``; where that refuses, by :mod:`vswin.models.inert_pickle`. The
    format is told by how the file begins, whatever its name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: cut short, damaged, not a checkpoint, or without tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise NoWeightsError(f"expected a checkpoint file, found none at {path}")
    with path.open("rb") as stream:
        start = stream.read(len(_LEGACY_START))
    by_torch = start.startswith(_ZIP_START) or start == _LEGACY_START
    # Eight bytes for the length of a JSON object, then the object.
    safe = not by_torch and (start[8:9] == b"{" or path.suffix == ".safetensors")
    state = _tensors(_read_safetensors(path) if safe else _read_torch_file(path, start=start))
    if not state:
        raise WeightsError(
            f"expected named tensors in checkpoint {path}, got none; if it holds a whole model, save the model's "
            "state_dict() where it was written"
        )
    return state


def _read_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:
        raise WeightsError(
            f"{path} is cut short or no safetensors file ({_first_line(error)}); download it again"
        ) from (error)


def _read_torch_file(path: Path, *, start: bytes) -> Any:
    zipped = start.startswith(_ZIP_START)
    try:
        if zipped and not zipfile.is_zipfile(path):
            # torch.load would take it for its format of before version 1.6, and fail on something else.
            raise EOFError("its end is missing")
        # Given a stream, since torch.load goes by a file's name.
        with path.open("rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # What a damaged file raises depends on the byte.
        if isinstance(error, pickle.UnpicklingError) and zipped:
            return read_inertly(path)
        if isinstance(error, pickle.UnpicklingError) and start == _LEGACY_START:
            raise WeightsError(
                f"{path} is of PyTorch before 1.6 and holds objects besides tensors, or is damaged; save its "
                "state_dict() again where it was written, or download it again"
            ) from error
        # of a file that is no archive torch says how to run the code in it
        reason = f" ({_first_line(error)})" if zipped else ""
        raise WeightsError(f"{path} is cut short or no PyTorch checkpoint{reason}; download it again") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _tensors(content: Any, *, depth: int = 0) -> dict[str, Tensor]:
    """The mapping from names to tensors somewhere in a checkpoint; empty if there is none."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return {}
    for wrapper in _WRAPPERS:
        if found := _tensors(content.get(wrapper), depth=depth + 1):
            return found
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}


def canonical_state(state: Mapping[str, Any], *, source: str = "state dict") -> tuple[Format, dict[str, Tensor]]:
    """Who wrote a state dict, and its tensors under the names of our models.

    Video Swin: ``backbone.`` and ``cls_head.`` even if the file has no head. Raises ValueError for an unknown format.
    """
    tensors = _tensors(state)
    for prefix in _PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    written_by = _recognise(tensors)
    if written_by is None:
        raise WeightsError(
            f"expected weights of {', '.join(Format)}; the {source} is none of them, its tensors are "
            f"named{_few(tuple(tensors))}"
        )
    return written_by, _CONVERTERS[written_by](tensors)


def _recognise(state: State) -> Format | None:
    embedding = state.get("patch_embed.proj.weight")
    under_backbone = state.get("backbone.patch_embed.proj.weight")
    if under_backbone is not None and under_backbone.ndim == 4:
        # Detection and segmentation put image models there.
        return Format.IMAGE_SWIN if "backbone.layers.0.blocks.0.norm1.weight" in state else None
    if under_backbone is not None:
        return Format.MMACTION if "backbone.norm3.weight" in state else Format.VIDEO_SWIN
    if "timesformer.embeddings.cls_token" in state:
        return Format.HF_TIMESFORMER
    if "swin.embeddings.patch_embeddings.projection.weight" in state:
        return Format.HF_SWIN
    if "latents" in state and "repetitions.0.cross.attn.query.weight" in state:
        return Format.PERCEIVER
    if embedding is None:
        return None
    if "features.0.0.norm1.weight" in state:
        return Format.TORCHVISION if embedding.ndim == 5 else None
    if "layers.0.blocks.0.norm1.weight" in state:
        return Format.VIDEO_SWIN if embedding.ndim == 5 else Format.IMAGE_SWIN
    if "blocks.0.norm1.weight" in state and "cls_token" in state:
        return Format.TIMESFORMER if "time_embed" in state else Format.VIT
    return None


def _unchanged(state: State) -> dict[str, Tensor]:
    return dict(state)


def _video_swin(state: State) -> dict[str, Tensor]:
    if "backbone.patch_embed.proj.weight" in state:
        return dict(state)
    return {f"backbone.{name}": value for name, value in state.items()}


def _mmaction(state: State) -> dict[str, Tensor]:
    renamed = _renamed(state, [(r"^backbone\.norm3\.", "backbone.norm.")])
    return {name: value for name, value in renamed.items() if not name.startswith("data_preprocessor.")}


def _torchvision(state: State) -> dict[str, Tensor]:
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


def _image_swin(state: State) -> dict[str, Tensor]:
    return {name.removeprefix("backbone."): value for name, value in state.items() if not name.endswith("attn_mask")}


def _hf_swin(state: State) -> dict[str, Tensor]:
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


def _hf_timesformer(state: State) -> dict[str, Tensor]:
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


_CONVERTERS: dict[Format, Callable[[State], dict[str, Tensor]]] = {
    Format.VIDEO_SWIN: _video_swin,
    Format.MMACTION: _mmaction,
    Format.TORCHVISION: _torchvision,
    Format.IMAGE_SWIN: _image_swin,
    Format.HF_SWIN: _hf_swin,
    Format.TIMESFORMER: _unchanged,
    Format.HF_TIMESFORMER: _hf_timesformer,
    Format.VIT: _unchanged,
    Format.PERCEIVER: _unchanged,
}


def _renamed(state: State, rules: list[tuple[str, str | Callable[[re.Match[str]], str]]]) -> dict[str, Tensor]:
    """Every name after all the rules, in turn."""
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def family_of(model: nn.Module) -> Family:
    """The architecture of a model; ValueError if it is none of this package's."""
    match model:
        case SwinTransformer3D():
            return Family.VIDEO_SWIN
        case VideoClassifier() if isinstance(model.backbone, SwinTransformer3D):
            return Family.VIDEO_SWIN
        case SwinTransformer2D():
            return Family.IMAGE_SWIN
        case TimeSformer():
            return Family.TIMESFORMER
        case Perceiver():
            return Family.PERCEIVER
        case _:
            raise ValueError(f"expected a model from vswin.create_model, got {type(model).__name__}")


def is_head(name: str) -> bool:
    """Whether a parameter belongs to the classification head, or to the layer timm's ViT has before it."""
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
        f"{len(names)} {what}{_few(names)}"
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
    images = {Family.IMAGE_SWIN: Family.VIDEO_SWIN, Family.VIT: Family.TIMESFORMER}
    if images.get(given) is wanted:
        return "start a video model from image weights with vswin.inflate"
    return f"load them into a {given} model"


def _few(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f" ({shown}{more})"
