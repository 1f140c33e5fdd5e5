"""The models that training starts from, trained here: what stands at scale mini for each published file of weights.

An upstream run is an ordinary run of a row of the table ``upstream``, with seed 0, shared by everything that starts
from it. The name of its weights, ``upstream/image-t-small@SIGNATURE``, says what exactly was trained: whatever changes
in an upstream recipe changes the signature of all that depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from vswin.config import (
    SWIN2D_B,
    SWIN2D_L,
    SWIN2D_S,
    SWIN2D_T,
    TIMESFORMER_SPACE,
    ClipConfig,
    DataConfig,
    Extent,
    Init,
    InitConfig,
    ModelConfig,
    OptimConfig,
    Protocol,
    Swin2DConfig,
    VideoInitConfig,
)

from .recipe import Recipe, changed
from .recipes import SWIN_B_K400_22K

TABLE_ID = "upstream"
IMAGENET_1K, IMAGENET_22K = "imagenet-1k", "imagenet-22k"
# The seed of an upstream run, whatever seeds its dependants have.
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model that stands for a published file: a row of the table ``upstream``.

    ``recipe`` is in the paper's sizes, to be scaled down like any other; nothing runs it as it is.
    """

    name: str
    label: str
    recipe: Recipe

    @property
    def id(self) -> str:
        """``upstream/image-t-small``."""
        return f"{TABLE_ID}/{self.name}"


def _image(model: ModelConfig, dataset: str, **data: Any) -> Recipe:
    # Swin's own recipe from scratch (Liu et al. 2021a), for all image models; every parameter at one rate.
    return Recipe(
        model=model,
        init=InitConfig(),
        data=DataConfig(dataset=dataset, clip=ClipConfig(length=1, interval=1), **data),
        optim=OptimConfig(
            lr=1e-3, backbone_lr_ratio=1.0, weight_decay=0.05, batch_size=1024, epochs=300, warmup_epochs=20.0
        ),
        protocol=Protocol(clips=1, crops=1),
    )


def _swin(model: Swin2DConfig, dataset: str, **data: Any) -> Recipe:
    return _image(replace(model, drop_path=0.0), dataset, **data)


# By the published file that each stands for: see experiments/runs/weights.py.
SOURCES: Mapping[str, Source] = {
    "swin_tiny_patch4_window7_224": Source(
        name="image-t-small", label="Swin-T, small image set", recipe=_swin(SWIN2D_T, IMAGENET_1K)
    ),
    "swin_small_patch4_window7_224": Source(
        name="image-s-small", label="Swin-S, small image set", recipe=_swin(SWIN2D_S, IMAGENET_1K)
    ),
    "swin_base_patch4_window7_224": Source(
        name="image-b-small", label="Swin-B, small image set", recipe=_swin(SWIN2D_B, IMAGENET_1K)
    ),
    "swin_base_patch4_window7_224_22k": Source(
        name="image-b-large", label="Swin-B, large image set", recipe=_swin(SWIN2D_B, IMAGENET_22K)
    ),
    "swin_large_patch4_window7_224_22k": Source(
        name="image-l-large", label="Swin-L, large image set", recipe=_swin(SWIN2D_L, IMAGENET_22K)
    ),
    "swin_large_patch4_window12_384_22k": Source(
        name="image-l-384-large",
        label="Swin-L at 384 pixels, large image set",
        recipe=_swin(replace(SWIN2D_L, window=12), IMAGENET_22K, crop=384),
    ),
    # a TimeSformer of one frame that attends within it is a ViT
    "jx_vit_base_p16_224-80ecf9dd": Source(
        name="image-vit-large",
        label="ViT-B, large image set",
        recipe=_image(replace(TIMESFORMER_SPACE, frames=1, drop_path=0.0), IMAGENET_22K),
    ),
    "swin_base_patch244_window1677_kinetics400_22k": Source(
        name="video-b-window16",
        label="Video Swin-B, window 16x7x7, K400",
        recipe=changed(SWIN_B_K400_22K, {"model.window": Extent(16, 7, 7)}),
    ),
}


def weights_name(init: Init) -> str | None:
    """The name of the weights that ``init`` reads; None from scratch."""
    match init:
        case InitConfig(image=name):
            return name
        case VideoInitConfig(video=name):
            return name


@cache
def weights_of(published: str, *, scaled: Callable[[Recipe], Recipe]) -> str:
    """The name of the weights that stand for a published file, at the scale of ``scaled``."""
    source = SOURCES[published]
    return f"{source.id}@{scaled(source.recipe).signature}"


def origin(weights: str | None) -> tuple[str, str] | None:
    """The row whose run makes ``weights``, and its signature; None for a published file and for none."""
    row, at, signature = (weights or "").partition("@")
    return (row, signature) if at and row.startswith(f"{TABLE_ID}/") else None
