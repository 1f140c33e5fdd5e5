"""The miniature: a recipe of the paper scaled down to two CPU cores, keeping what its table isolates.

A function of the recipe, so every variant that makes sense on one small data set exists at every scale from one
definition. Every model is trained from scratch: there is no image model of this size yet.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from vswin.config import (
    ClipConfig,
    Cropping,
    DataConfig,
    Extent,
    InitConfig,
    OptimConfig,
    Optimizer,
    PerceiverConfig,
    Protocol,
    Swin3DConfig,
    TimeSformerConfig,
    VideoModelConfig,
)

from .recipe import Recipe

MOVING_DIGITS_CLASSES = 6
EPOCHS = 14
SIDE = 24
# Chosen on the training loss of one seed, so that a model that starts from nothing learns in so few steps.
_RATE = {Optimizer.ADAMW: 10, Optimizer.SGD: 20}


def mini(recipe: Recipe) -> Recipe:
    """About a minute of one core."""
    optim = recipe.optim
    return Recipe(
        model=_model(recipe.model),
        init=InitConfig(),
        data=DataConfig(
            dataset="moving-digits/colour-order",
            clip=_clip(recipe),
            # less is cut away than from larger videos, by either way of cropping
            short_side=(SIDE, SIDE if recipe.data.cropping is Cropping.RESIZED else SIDE + 3),
            cropping=recipe.data.cropping,
            crop=SIDE,
            area=(0.8, 1.0),
        ),
        # every rate is the paper's times the same factor: ratios between variants stay
        optim=replace(
            optim,
            lr=_RATE[optim.optimizer] * optim.lr,
            # published recipes without one fine-tune an image model; from scratch SGD learns nothing without
            warmup_epochs=max(optim.warmup_epochs, 2.5),
            batch_size=16,
            epochs=EPOCHS,
            milestones=_scaled(optim, epochs=EPOCHS),
        ),
        protocol=Protocol(clips=2, crops=1, short_side=SIDE, crop=SIDE),
    )


def tiny(recipe: Recipe) -> Recipe:
    """Under five seconds, start-up included: for tests only."""
    small = mini(recipe)
    return replace(
        small,
        model=_tiny_model(small.model),
        data=replace(small.data, dataset="moving-digits/tiny"),
        optim=replace(
            small.optim,
            batch_size=8,
            epochs=10,
            warmup_epochs=1.0,
            milestones=_scaled(recipe.optim, epochs=10),
        ),
    )


def _scaled(optim: OptimConfig, *, epochs: int) -> tuple[int, ...]:
    """The milestones of ``optim`` in a training of ``epochs`` epochs."""
    return tuple(round(epochs * milestone / optim.epochs) for milestone in optim.milestones)


def _model(model: VideoModelConfig) -> VideoModelConfig:
    """A model of ten to twenty million FLOPs a clip."""
    match model:
        case Swin3DConfig():
            return replace(
                model,
                embed_dim=24,
                depths=(2, 2),
                num_heads=(2, 4),
                window=_window(model.window),
                drop_path=0.0,
                head_dropout=0.0,
                num_classes=MOVING_DIGITS_CLASSES,
            )
        case TimeSformerConfig():
            return replace(
                model,
                embed_dim=64,
                depth=2,
                num_heads=4,
                patch=6,
                image_size=SIDE,
                drop_path=0.0,
                num_classes=MOVING_DIGITS_CLASSES,
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
                num_classes=MOVING_DIGITS_CLASSES,
            )
        case _:
            assert_never(model)


def _tiny_model(model: VideoModelConfig) -> VideoModelConfig:
    match model:
        case Swin3DConfig():
            return replace(model, embed_dim=8, num_heads=(1, 2))
        case TimeSformerConfig():
            return replace(model, embed_dim=8, depth=1, patch=8)
        case PerceiverConfig():
            return replace(model, depth=1, num_latents=4, latent_dim=8)
        case _:
            assert_never(model)


def _window(window: Extent) -> Extent:
    # the clip has half the paper's tokens in time, and stage 1 has 6x6 tokens where the paper's has 56x56
    return Extent(max(1, window.time // 2), window.height // 2, window.width // 2)


def _clip(recipe: Recipe) -> ClipConfig:
    match recipe.model:
        case Swin3DConfig():
            # half the frames, and so half the tokens in time
            return ClipConfig(length=recipe.data.clip.length // 2, interval=1)
        case TimeSformerConfig():
            # eight frames from one end of the video to the other, as TimeSformer's 8 x 32 of about 300
            return ClipConfig(length=recipe.data.clip.length, interval=2)
        case PerceiverConfig():
            # as long as Swin's clip, but of every second frame: every pixel is a token
            return ClipConfig(length=recipe.data.clip.length // 4, interval=2)
        case _:
            assert_never(recipe.model)
