"""The miniature: a recipe of the paper scaled down to two CPU cores, keeping what its table isolates.

A function of the recipe, so every variant exists at every scale from one definition.
"""

from __future__ import annotations

from dataclasses import replace

from vswin.config import ClipConfig, DataConfig, Extent, InitConfig, Protocol

from .recipe import Recipe

MOVING_DIGITS_CLASSES = 6


def mini(recipe: Recipe) -> Recipe:
    """About a minute of one core."""
    model, optim = recipe.model, recipe.optim
    return Recipe(
        model=replace(
            model,
            embed_dim=24,
            depths=(2, 2),
            num_heads=(2, 4),
            window=_window(model.window),
            drop_path=0.0,
            head_dropout=0.0,
            num_classes=MOVING_DIGITS_CLASSES,
        ),
        init=InitConfig(),
        data=DataConfig(
            dataset="moving-digits/colour-order",
            clip=ClipConfig(length=16, interval=1),
            short_side=(24, 24),
            crop=24,
            area=(0.8, 1.0),
        ),
        # every rate is the paper's times the same factor: ratios between variants stay
        optim=replace(optim, lr=10 * optim.lr, batch_size=16, epochs=14),
        protocol=Protocol(clips=2, crops=1, short_side=24, crop=24),
    )


def tiny(recipe: Recipe) -> Recipe:
    """Under five seconds, start-up included: for tests only."""
    small = mini(recipe)
    return replace(
        small,
        model=replace(small.model, embed_dim=8, num_heads=(1, 2)),
        data=replace(small.data, dataset="moving-digits/tiny"),
        optim=replace(small.optim, batch_size=8, epochs=10, warmup_epochs=1.0),
    )


def _window(window: Extent) -> Extent:
    # the clip has half the paper's tokens in time, and stage 1 has 6x6 tokens where the paper's has 56x56
    return Extent(max(1, window.time // 2), window.height // 2, window.width // 2)
