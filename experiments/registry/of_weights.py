"""From a file of weights to a model ready for videos: its architecture, classes and views."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vswin.config import (
    MODELS,
    ChannelOrder,
    ClipConfig,
    Extent,
    ModelConfig,
    Pixels,
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

    from vswin.models.weights.pixels import Folder


class InferenceError(ExplainedError, RuntimeError):
    """An option that does not fit the checkpoint; the message says what would."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A model with its weights. ``classes`` names its outputs, in their order; ``origin`` says where the rest is from:
    the clips and views it is shown. ``notes``: what else is worth knowing of the file, a sentence each.
    """

    model: nn.Module
    classes: tuple[str, ...]
    clip: ClipConfig
    protocol: Protocol
    pixels: Pixels
    origin: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """Everything about a model in use that weights do not hold; ``pixels`` are None where nothing says them."""

    config: VideoModelConfig
    clip: ClipConfig
    protocol: Protocol
    origin: str
    pixels: Pixels | None = None


@dataclass(frozen=True, kw_only=True)
class Said:
    """All that a user says about a checkpoint, in place of what it tells itself; None where nothing is said.

    ``model``: the name of a model or a variant. ``labels``: a file of class names, one per line. ``views`` (``4x3``)
    and ``clip`` (``32x2``) replace those of the recipe or the paper, ``window`` (``8x7x7``) tells what no index buffer
    does. ``mean`` and ``std``: one number or three, of pixels from 0 to 255 or from 0 to 1; ``bgr``: in OpenCV's order.
    ``weights``: averaged or raw, where a file has both. ``head``: False accepts a file without one.
    """

    model: str | None = None
    labels: Path | None = None
    views: str | None = None
    clip: str | None = None
    window: str | None = None
    mean: str | None = None
    std: str | None = None
    bgr: bool = False
    weights: str = "averaged"
    head: bool = True


def make_ready(checkpoint: Path, said: Said) -> Ready:
    """Load ``checkpoint``: a file of any format that vswin reads, the directory of a run, or a Hugging Face folder.

    The architecture comes from the model that is ``said``, else from the recipe that a run leaves in its weights, else
    from the shapes in them.

    Raises InferenceError, UnknownNameError for a model, vswin's WeightsError for a file that cannot be loaded.
    """
    from vswin.models import HeadLoading, build, load_state, read_classes, read_content, read_folder

    file = _weights_of(checkpoint)
    content = read_content(file, weights=said.weights)
    state = content.tensors
    beside = read_folder(file.parent)
    source = f"checkpoint {file}"
    shown = _shown(file, state, said, source=source)
    outputs = shown.config.num_classes
    protocol = shown.protocol if said.views is None else _with_views(shown.protocol, said.views)
    seen = shown.clip if said.clip is None else _clip(said.clip)
    if isinstance(shown.config, TimeSformerConfig) and seen.length != shown.config.frames:
        raise InferenceError(
            f"expected clips of {shown.config.frames} frames, which the model is made for, got {said.clip}"
        )
    classes = read_classes(file) if said.labels is None else _labels(said.labels, number=outputs)
    if not classes and len(beside.classes) == outputs:
        classes = beside.classes
    network = build(shown.config)
    report = load_state(network, state, head=HeadLoading.LOAD if said.head else HeadLoading.KEEP, source=source)
    pixels, who = _pixels(said, shown, beside, state)
    notes = [f"pixels {_written(pixels)} ({who})"] if pixels != Pixels() else []
    if unused := [name for name in report.unused if said.head or not name.startswith(("cls_head.", "head."))]:
        notes.append(f"no part of the network, and left aside: {', '.join(unused)}")
    return Ready(
        model=network,
        classes=classes or tuple(map(str, range(outputs))),
        clip=seen,
        protocol=protocol,
        pixels=pixels,
        origin=shown.origin,
        notes=(*notes, *content.notes),
    )


def describe(clip: ClipConfig, protocol: Protocol) -> str:
    """``4x3 views of 32x2 frames at 224 pixels``."""
    frames = f"{clip.length}x{clip.interval}" if clip.sampling == "dense" else f"{clip.length} evenly spread"
    return f"{protocol.views} views of {frames} frames at {protocol.crop} pixels"


def _pixels(said: Said, shown: _Shown, beside: Folder, state: Mapping[str, Tensor]) -> tuple[Pixels, str]:
    """The pixels that the model is shown, and who says so."""
    from vswin.models import pixels_of

    if shown.pixels is not None:
        pixels, who = shown.pixels, "its own recipe"
    elif beside.pixels is not None:
        pixels, who = beside.pixels, "preprocessor_config.json"
    else:
        pixels, who = pixels_of(state)
    if not (said.mean or said.std or said.bgr):
        return pixels, who
    scale = 255.0 if said.mean and max(_numbers(said.mean, option="--mean")) <= 1 else 1.0
    order = ChannelOrder.BGR if said.bgr else pixels.order
    mean, std = (
        own if text is None else _numbers(text, option=option, scale=scale)
        for text, own, option in ((said.mean, pixels.mean, "--mean"), (said.std, pixels.std, "--std"))
    )
    if min(std) <= 0:
        raise InferenceError(f"expected --std above 0, got {said.std!r}")
    if said.std and not said.mean and max(std) <= 1:
        raise InferenceError("expected --mean beside --std, which tells if pixels are from 0 to 1 or to 255")
    return Pixels(mean=mean, std=std, order=order), "as you say"


def _numbers(text: str, *, option: str, scale: float = 1.0) -> tuple[float, float, float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
        raise InferenceError(f"expected {option} like 0.45 or 123.675,116.28,103.53; got {text!r}")
    first, second, third = (values * 3)[:3] if len(values) == 1 else values
    return first * scale, second * scale, third * scale


def _written(pixels: Pixels) -> str:
    mean, std = (
        f"{values[0]:g}" if len(set(values)) == 1 else ",".join(f"{value:g}" for value in values)
        for values in (pixels.mean, pixels.std)
    )
    return f"less {mean} over {std}{', blue first' if pixels.order is ChannelOrder.BGR else ''}"


def _weights_of(checkpoint: Path) -> Path:
    """The file of weights, given it, the directory of a run, or a Hugging Face folder."""
    if not checkpoint.is_dir():
        return checkpoint
    names = ("weights.safetensors", "model.safetensors", "pytorch_model.bin")
    found = next((checkpoint / name for name in names if (checkpoint / name).exists()), None)
    if found is None:
        parts = sorted(path.name for path in checkpoint.glob("*.index.json"))
        raise InferenceError(
            f"expected weights in one file in {checkpoint}, got {parts[0]}; save the model again with a larger "
            "max_shard_size"
            if parts
            else f"expected a finished run with weights.safetensors in {checkpoint}, or a Hugging Face folder with "
            "model.safetensors, got neither; vswin status says how runs stand"
        )
    return found


def _shown(file: Path, state: Mapping[str, Tensor], said: Said, *, source: str) -> _Shown:
    from vswin.models import architecture_of, count_classes, read_metadata

    model = said.model
    if model is None:
        if recipe := read_metadata(file).get("recipe"):
            return _of_recipe(json.loads(recipe), origin="its own recipe")
        window = None if said.window is None else _window(said.window)
        config = architecture_of(state, window=window, source=source)
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
            pixels=TypeAdapter(Pixels).validate_python(content["data"].get("pixels", {})),
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


def _window(text: str) -> Extent:
    sides = text.split("x")
    if len(sides) != 3 or not all(side.isdecimal() and int(side) for side in sides):
        raise InferenceError(f"expected --window like 8x7x7, tokens in time x height x width; got {text!r}")
    return Extent(*map(int, sides))


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
