"""From a file of weights to a model ready for videos: its architecture, classes and views."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vswin.config import (
    MODELS,
    ClipConfig,
    ModelConfig,
    Protocol,
    Swin2DConfig,
    Swin3DConfig,
    TimeSformerConfig,
    VideoModelConfig,
)
from vswin.errors import ExplainedError

from .catalogue import find_variant, tables
from .errors import UnknownNameError
from .recipe import Recipe, Scale

if TYPE_CHECKING:
    from torch import Tensor, nn


class InferenceError(ExplainedError, RuntimeError):
    """An option that does not fit the checkpoint; the message says what would."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A model with its weights. ``classes`` names its outputs, in their order; ``origin`` says where the rest is from:
    the clips and views it is shown.
    """

    model: nn.Module
    classes: tuple[str, ...]
    clip: ClipConfig
    protocol: Protocol
    origin: str


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """Everything about a model in use that weights do not hold."""

    config: VideoModelConfig
    clip: ClipConfig
    protocol: Protocol
    origin: str


def make_ready(
    checkpoint: Path, *, model: str | None, labels: Path | None, views: str | None, clip: str | None, head: bool = True
) -> Ready:
    """Load ``checkpoint``: a file of any format that vswin reads, or the directory of a run.

    The architecture comes from ``model`` (the name of a model or a variant), else from the recipe that a run leaves in
    its weights, else from the shapes in them. ``labels`` is a file of class names, one per line; ``views`` (``4x3``)
    and ``clip`` (``32x2``) replace those of the recipe or the paper. ``head=False`` accepts a file without a head.

    Raises InferenceError, UnknownNameError for ``model``, vswin's WeightsError for a file that cannot be loaded.
    """
    from vswin.models import HeadLoading, build, load_state, read_checkpoint, read_classes

    file = _weights_of(checkpoint)
    state = read_checkpoint(file)
    source = f"checkpoint {file}"
    shown = _shown(file, state, model=model, source=source)
    outputs = shown.config.num_classes
    protocol = shown.protocol if views is None else _with_views(shown.protocol, views)
    seen = shown.clip if clip is None else _clip(clip)
    if isinstance(shown.config, TimeSformerConfig) and seen.length != shown.config.frames:
        raise InferenceError(f"expected clips of {shown.config.frames} frames, which the model is made for, got {clip}")
    classes = read_classes(file) if labels is None else _labels(labels, number=outputs)
    network = build(shown.config)
    load_state(network, state, head=HeadLoading.LOAD if head else HeadLoading.KEEP, source=source)
    return Ready(
        model=network,
        classes=classes or tuple(map(str, range(outputs))),
        clip=seen,
        protocol=protocol,
        origin=shown.origin,
    )


def describe(clip: ClipConfig, protocol: Protocol) -> str:
    """``4x3 views of 32x2 frames at 224 pixels``."""
    frames = f"{clip.length}x{clip.interval}" if clip.sampling == "dense" else f"{clip.length} evenly spread"
    return f"{protocol.views} views of {frames} frames at {protocol.crop} pixels"


def _weights_of(checkpoint: Path) -> Path:
    """The file of weights, given it or the directory of a run."""
    if not checkpoint.is_dir():
        return checkpoint
    weights = checkpoint / "weights.safetensors"
    if not weights.exists():
        raise InferenceError(
            f"expected a finished run with weights.safetensors in {checkpoint}, got none; vswin status says how runs "
            "stand"
        )
    return weights


def _shown(file: Path, state: Mapping[str, Tensor], *, model: str | None, source: str) -> _Shown:
    from vswin.models import architecture_of, count_classes, read_metadata

    if model is None:
        if recipe := read_metadata(file).get("recipe"):
            return _of_recipe(json.loads(recipe), origin="its own recipe")
        config = architecture_of(state, source=source)
    elif "/" in model:
        found = find_variant(model)
        return _of_variant(found.at(Scale.PAPER), num_classes=count_classes(state), origin=model)
    else:
        config = _named(model, num_classes=count_classes(state))
    return _like_a_variant(config)


def _named(name: str, *, num_classes: int | None) -> VideoModelConfig:
    known: dict[str, ModelConfig] = dict(MODELS)
    if name not in known:
        raise UnknownNameError("model", name, known)
    config = known[name]
    if isinstance(config, Swin2DConfig):
        raise InferenceError(f"{name} is a model for images; vswin.inflate starts a video model from it")
    return replace(config, num_classes=num_classes or config.num_classes)


def _like_a_variant(config: VideoModelConfig) -> _Shown:
    """Clips and views of the paper's first row with this model, on the same number of classes if there is one."""
    name = _name(config)
    recipes = {
        variant.id: variant.at(Scale.PAPER)
        for table in tables().values()
        for variant in table.at(Scale.PAPER)
        if _same_model(variant.at(Scale.PAPER).model, config)
    }
    exact = {id_: recipe for id_, recipe in recipes.items() if recipe.model.num_classes == config.num_classes}
    for id_, recipe in (exact or recipes).items():
        shown = _of_variant(recipe, num_classes=config.num_classes, origin=f"{name}, as {id_}")
        return replace(shown, config=config)
    clip, protocol = ClipConfig(), Protocol()
    if isinstance(config, TimeSformerConfig):
        clip = ClipConfig(length=config.frames, interval=256 // config.frames)
        protocol = Protocol(clips=1, short_side=config.image_size, crop=config.image_size)
    return _Shown(config=config, clip=clip, protocol=protocol, origin=name)


def _same_model(one: ModelConfig, other: ModelConfig) -> bool:
    """True if two models differ at most in what their weights do not tell, and in their classes."""
    return _told(one) == _told(other)


def _told(config: ModelConfig) -> ModelConfig:
    match config:
        case Swin3DConfig():
            plain = Swin3DConfig(embed_dim=1, depths=(1,), num_heads=(1,))
            return replace(config, num_classes=1, drop_path=0.0, head_dropout=0.0, clamped_bias=plain.clamped_bias)
        case _:
            return replace(config, num_classes=1)


def _name(config: VideoModelConfig) -> str:
    """``swin_b, window 16x7x7, 174 classes``."""
    name = next(
        (
            name
            for name, known in MODELS.items()
            if not isinstance(known, Swin2DConfig) and _sizes(known) == _sizes(config)
        ),
        f"a {config.family}",
    )
    more = [f"window {config.window}, {config.attention} attention"] if isinstance(config, Swin3DConfig) else []
    return ", ".join([name, *more, f"{config.num_classes} classes"])


def _sizes(config: VideoModelConfig) -> tuple[Any, ...]:
    return type(config), *(getattr(config, name) for name in config.sizes)


def _of_variant(recipe: Recipe, *, num_classes: int | None, origin: str) -> _Shown:
    # upstream image models have recipes, too, but no video to show them
    assert not isinstance(recipe.model, Swin2DConfig)
    model = replace(recipe.model, num_classes=num_classes or recipe.model.num_classes)
    return _Shown(config=model, clip=recipe.data.clip, protocol=recipe.protocol, origin=origin)


def _of_recipe(content: Mapping[str, Any], *, origin: str) -> _Shown:
    """The recipe that a run left in its weights; later versions of recipes may have other fields elsewhere in it."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return _Shown(
            config=TypeAdapter(VideoModelConfig).validate_python(content["model"]),
            clip=TypeAdapter(ClipConfig).validate_python(content["data"]["clip"]),
            protocol=TypeAdapter(Protocol).validate_python(content["protocol"]),
            origin=origin,
        )
    except (KeyError, ValueError, ValidationError) as error:
        raise InferenceError(
            f"the recipe in the weights is of another version of vswin ({error}); name the model with --model"
        ) from error


def _with_views(protocol: Protocol, views: str) -> Protocol:
    clips, crops = _pair(views, option="--views", example="4x3, clips in time x crops in space")
    return replace(protocol, clips=clips, crops=crops)


def _clip(text: str) -> ClipConfig:
    length, interval = _pair(text, option="--clip", example="32x2, frames x the interval between them")
    return ClipConfig(length=length, interval=interval)


def _pair(text: str, *, option: str, example: str) -> tuple[int, int]:
    first, _, second = text.partition("x")
    if not (first.isdecimal() and second.isdecimal() and int(first) and int(second)):
        raise InferenceError(f"expected {option} like {example}; got {text!r}")
    return int(first), int(second)


def _labels(path: Path, *, number: int) -> tuple[str, ...]:
    if not path.is_file():
        raise InferenceError(f"expected a file of class names, one per line, found none at {path}")
    names = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    while names and not names[-1]:
        names = names[:-1]
    if len(names) != number:
        raise InferenceError(
            f"expected {number} class names in {path}, one per line in the model's order, got {len(names)}"
        )
    return names
