"""The miniature: a recipe of the paper scaled down to two CPU cores, keeping what its table isolates.

A function of the recipe, so every variant exists at every scale from one definition. Data sets become Moving Digits of
the same kind (see vswin/data/moving_digits.py), published weights become models trained here (see stand_ins.py), sizes
and lengths shrink, and what a table may vary, such as drop path or the ratio of rates, stays as it is.

The ablations of the paper are on Kinetics-400, so here they are on the task that stands for it, in which half of the
label's doubt beyond the digit is the order of two events: a model must have both to be right, and without a sense of
time it is right about half of the time at best. That is more than real Kinetics asks for, on purpose: a miniature of a
data set on which single frames nearly suffice would see nothing of temporal modelling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar, assert_never

from vswin.config import (
    ClipConfig,
    Cropping,
    DataConfig,
    Extent,
    Init,
    InitConfig,
    ModelConfig,
    OptimConfig,
    Optimizer,
    PerceiverConfig,
    Precision,
    Protocol,
    Split,
    Swin2DConfig,
    Swin3DConfig,
    TimeSformerConfig,
    VideoInitConfig,
)
from vswin.errors import UsageError

from .recipe import Recipe, Scale
from .recipes import KINETICS_400, KINETICS_600, SOMETHING
from .stand_ins import IMAGENET_1K, IMAGENET_22K, SOURCES, weights_of

Key = TypeVar("Key")
Value = TypeVar("Value")


class ScalingError(UsageError, ValueError):
    """A recipe that cannot be scaled down; the message names the field, its value and the way out."""


def at_scale(recipe: Recipe, scale: Scale) -> Recipe:
    """``recipe``, given at scale ``paper``, at ``scale``; raises ScalingError where it cannot be scaled down."""
    match scale:
        case Scale.PAPER:
            return recipe
        case Scale.MINI:
            return mini(recipe)
        case Scale.TINY:
            return tiny(recipe)
        case _:
            assert_never(scale)


def obstacle(recipe: Recipe, scale: Scale) -> str:
    """The reason why ``recipe`` does not exist at ``scale``; empty if it does."""
    try:
        at_scale(recipe, scale)
    except ScalingError as error:
        return str(error)
    return ""


def _scaled(known: Mapping[Key, Value], value: Key, *, field: str) -> Value:
    """The counterpart of a field's ``value``."""
    if value not in known:
        raise ScalingError(
            f"{field} = {value!r} has no counterpart in the miniature; take one of "
            f"{', '.join(repr(item) for item in known)}, or run it at scale paper"
        )
    return known[value]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Factors on the paper's learning rates: of image models, and of video models by their optimiser."""

    image: float
    adamw: float
    sgd: float


# Chosen once, each on one baseline and its validation videos: see choose.py and results/mini/choice.json.
RATES = Rates(image=2, adamw=20, sgd=2.5)

# What two cores have time for.
EPOCHS = 12
IMAGE_EPOCHS = 32

SIDE = 24
# What stands for the paper's pixels: larger stays larger, though not by as much.
_SIDES = {224: SIDE, 384: 32, 448: 36}
# The first stage keeps windows of half its height and width, to be shifted.
_WINDOWS = {7: 3, 12: 4}
# What stands for a data set, and its number of classes.
_DATASETS = {
    KINETICS_400: ("kinetics400", 12),
    KINETICS_600: ("kinetics600", 18),
    SOMETHING: ("something", 6),
    IMAGENET_1K: ("stills-small", 10),
    IMAGENET_22K: ("stills-large", 40),
}
_TINY_DATASETS = {
    KINETICS_400: ("tiny", 6),
    KINETICS_600: ("tiny", 6),
    SOMETHING: ("tiny", 6),
    IMAGENET_1K: ("tiny-stills", 10),
    IMAGENET_22K: ("tiny-stills-large", 20),
}
# By the paper's width: the width and the heads of the first stage.
_WIDTHS = {96: (24, 2), 128: (32, 2), 192: (40, 4)}
_TINY_WIDTHS = {96: 8, 128: 12, 192: 16}
# By TimeSformer's frames.
_FRAMES = {1: 1, 8: 8, 16: 16, 64: 16, 96: 16}


def mini(recipe: Recipe, *, rates: Rates = RATES) -> Recipe:
    """About a minute of one core. ``rates`` are those of this recipe, not of what it starts from."""
    is_image = recipe.data.clip.length == 1
    dataset, num_classes = _scaled(_DATASETS, recipe.data.dataset, field="data.dataset")
    crop = _scaled(_SIDES, recipe.data.crop, field="data.crop")
    return Recipe(
        model=_model(recipe.model, num_classes=num_classes),
        init=_init(recipe.init, scaled=mini),
        data=DataConfig(
            dataset=f"moving-digits/{dataset}",
            clip=_clip(recipe),
            # less is cut away than from larger videos, by either way of cropping
            short_side=(crop, crop if recipe.data.cropping is Cropping.RESIZED else crop * 9 // 8),
            cropping=recipe.data.cropping,
            crop=crop,
            area=(0.8, 1.0),
            # a digit in a mirror is no digit; what RandAugment flips is a question of table deviations
            flip=0.0,
            rand_augment=recipe.data.rand_augment and replace(recipe.data.rand_augment, operations=1),
            erasing=recipe.data.erasing,
        ),
        optim=_optim(
            recipe.optim,
            # every rate is the paper's times the same factor: ratios between variants stay
            rate=rates.image if is_image else rates.sgd if recipe.optim.optimizer is Optimizer.SGD else rates.adamw,
            batch_size=32 if is_image else 8,
            epochs=IMAGE_EPOCHS if is_image else EPOCHS,
        ),
        protocol=_protocol(recipe.protocol, crop=crop),
    )


def tiny(recipe: Recipe) -> Recipe:
    """Under five seconds, start-up included: for tests only."""
    small = mini(recipe)
    dataset, num_classes = _scaled(_TINY_DATASETS, recipe.data.dataset, field="data.dataset")
    return replace(
        small,
        model=_tiny_model(small.model, paper=recipe.model, num_classes=num_classes),
        init=_init(recipe.init, scaled=tiny),
        data=replace(small.data, dataset=f"moving-digits/{dataset}"),
        optim=_optim(recipe.optim, rate=10, batch_size=8, epochs=10),
    )


def _optim(optim: OptimConfig, *, rate: float, batch_size: int, epochs: int) -> OptimConfig:
    """``optim`` squeezed into ``epochs``: what happens in the course of a training happens at the same share of it."""
    share = epochs / optim.epochs
    return replace(
        optim,
        lr=rate * optim.lr,
        batch_size=batch_size,
        epochs=epochs,
        milestones=tuple(round(milestone * share) for milestone in optim.milestones),
        warmup_epochs=optim.warmup_epochs * share,
        # steps are not cut here
        accumulation=1,
        # what is sooner done in fp16 is not, on a CPU
        precision=Precision.FP32,
    )


def _init(init: Init, *, scaled: Callable[[Recipe], Recipe]) -> Init:
    match init:
        case InitConfig(image=name):
            return replace(init, image=name and _weights(name, field="init.image", scaled=scaled))
        case VideoInitConfig(video=name):
            return replace(init, video=_weights(name, field="init.video", scaled=scaled))


def _weights(name: str, *, field: str, scaled: Callable[[Recipe], Recipe]) -> str:
    _scaled(SOURCES, name, field=field)
    return weights_of(name, scaled=scaled)


def _protocol(protocol: Protocol, *, crop: int) -> Protocol:
    # half as many clips of half as long videos; they are square, and hardly larger than the crop
    return Protocol(clips=max(1, protocol.clips // 2), crops=1, short_side=crop, crop=crop, split=Split.TEST)


def _model(model: ModelConfig, *, num_classes: int) -> ModelConfig:
    """A model of ten to a few hundred million FLOPs a clip."""
    match model:
        case Swin3DConfig():
            width, heads = _scaled(_WIDTHS, model.embed_dim, field="model.embed_dim")
            return replace(
                model,
                embed_dim=width,
                depths=_depths(model.depths),
                num_heads=(heads, 2 * heads),
                # the clip has half the paper's tokens in time, and the first stage 6x6 for 56x56 in space
                window=Extent(
                    max(1, model.window.time // 2),
                    _scaled(_WINDOWS, model.window.height, field="model.window.height"),
                    _scaled(_WINDOWS, model.window.width, field="model.window.width"),
                ),
                head_dropout=0.0,
                num_classes=num_classes,
            )
        case Swin2DConfig():
            width, heads = _scaled(_WIDTHS, model.embed_dim, field="model.embed_dim")
            return replace(
                model,
                embed_dim=width,
                depths=_depths(model.depths),
                num_heads=(heads, 2 * heads),
                window=_scaled(_WINDOWS, model.window, field="model.window"),
                num_classes=num_classes,
            )
        case TimeSformerConfig():
            return replace(
                model,
                embed_dim=64,
                depth=2,
                num_heads=4,
                patch=6,
                frames=_scaled(_FRAMES, model.frames, field="model.frames"),
                image_size=_scaled(_SIDES, model.image_size, field="model.image_size"),
                num_classes=num_classes,
            )
        case PerceiverConfig():
            return replace(
                model,
                depth=2,
                num_latents=16,
                latent_dim=32,
                cross_head_dim=8,
                latent_heads=2,
                latent_head_dim=16,
                num_classes=num_classes,
            )
        case _:
            assert_never(model)


def _tiny_model(model: ModelConfig, *, paper: ModelConfig, num_classes: int) -> ModelConfig:
    match model:
        case Swin3DConfig() | Swin2DConfig():
            assert isinstance(paper, Swin3DConfig | Swin2DConfig)
            width = _scaled(_TINY_WIDTHS, paper.embed_dim, field="model.embed_dim")
            return replace(model, embed_dim=width, num_heads=(1, 2), num_classes=num_classes)
        case TimeSformerConfig():
            return replace(model, embed_dim=8, depth=1, patch=8, num_classes=num_classes)
        case PerceiverConfig():
            return replace(model, depth=1, num_latents=4, latent_dim=8, num_classes=num_classes)
        case _:
            assert_never(model)


def _depths(depths: tuple[int, ...]) -> tuple[int, int]:
    # Swin-S, B and L have three times Swin-T's third stage
    return (2, 2 if sum(depths) <= 12 else 4)


def _clip(recipe: Recipe) -> ClipConfig:
    clip = recipe.data.clip
    match recipe.model:
        case Swin3DConfig():
            # half the frames, and so half the tokens in time
            return ClipConfig(length=clip.length // 2, interval=1, sampling=clip.sampling)
        case Swin2DConfig():
            return ClipConfig(length=1, interval=1)
        case TimeSformerConfig():
            # from one end of the video to the other, as TimeSformer's 8 x 32 of about 300
            frames = _scaled(_FRAMES, clip.length, field="data.clip.length")
            return ClipConfig(length=frames, interval=16 // frames if frames > 1 else 1, sampling=clip.sampling)
        case PerceiverConfig():
            # as long as Swin's clip, but of every second frame: every pixel is a token
            return ClipConfig(length=clip.length // 4, interval=2)
        case _:
            assert_never(recipe.model)
