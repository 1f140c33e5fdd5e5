"""Models from names and configurations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, get_args, get_origin, get_type_hints

from torch import nn

from ..config import (
    MODELS,
    Extent,
    ModelConfig,
    PerceiverConfig,
    Swin2DConfig,
    Swin3DConfig,
    TimeSformerConfig,
    is_positive_integer,
)
from .choices import chosen
from .classifier import ClassificationHead, VideoClassifier
from .perceiver import Perceiver
from .swin2d import SwinTransformer2D
from .swin3d import SwinTransformer3D
from .timesformer import TimeSformer


def list_models() -> list[str]:
    """The names :func:`create_model` knows."""
    return list(MODELS)


def create_model(
    name: str, *, num_classes: int = 400, activation_checkpointing: bool = False, **overrides: Any
) -> nn.Module:
    """A model with random weights, by name.

    Args:
        name: one of :func:`list_models`: the paper's sizes, with the paper's defaults.
        num_classes: of the head.
        activation_checkpointing: compute activations again in the backward pass instead of keeping them.
        overrides: fields of the model's configuration in :mod:`vswin.config`; enums also as strings, extents and
            tuples as any sequence: ``create_model("swin_t", attention="split", window=(16, 7, 7))``.

    Returns:
        A module from clips [B, 3, T, H, W] (``swin2d_*``: images [B, 3, H, W]), floating point and normalised as in
        training, to logits [B, num_classes].

    Raises:
        ValueError: unknown name, or a value that makes no model.
        TypeError: unknown field.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}{_suggestion(name, MODELS)}; one of: {', '.join(MODELS)}")
    config = MODELS[name]
    values = coerce_fields(type(config), {**overrides, "num_classes": num_classes})
    return build(replace(config, **values), activation_checkpointing=activation_checkpointing)


def build(config: ModelConfig, *, activation_checkpointing: bool = False) -> nn.Module:
    """The model a configuration describes, with random weights; see :func:`create_model` for its input and output.

    Raises:
        ValueError: sizes that do not fit together.
    """
    match config:
        case Swin3DConfig():
            backbone = SwinTransformer3D(
                patch_size=config.patch,
                embed_dim=config.embed_dim,
                depths=config.depths,
                num_heads=config.num_heads,
                window_size=config.window,
                mlp_ratio=config.mlp_ratio,
                drop_path_rate=config.drop_path,
                patch_norm=config.patch_norm,
                qkv_bias=config.qkv_bias,
                use_checkpoint=activation_checkpointing,
                attention=config.attention,
                shift=config.shift,
                clamped_bias=config.clamped_bias,
            )
            head = ClassificationHead(
                backbone.num_features, num_classes=config.num_classes, dropout=config.head_dropout
            )
            return VideoClassifier(backbone, head)
        case Swin2DConfig():
            return SwinTransformer2D(
                config.embed_dim,
                depths=config.depths,
                num_heads=config.num_heads,
                patch=config.patch,
                window=config.window,
                mlp_ratio=config.mlp_ratio,
                drop_path=config.drop_path,
                num_classes=config.num_classes,
                use_checkpoint=activation_checkpointing,
            )
        case TimeSformerConfig():
            return TimeSformer(
                config.attention,
                embed_dim=config.embed_dim,
                depth=config.depth,
                num_heads=config.num_heads,
                mlp_ratio=config.mlp_ratio,
                patch=config.patch,
                frames=config.frames,
                image_size=config.image_size,
                drop_path=config.drop_path,
                num_classes=config.num_classes,
                use_checkpoint=activation_checkpointing,
            )
        case PerceiverConfig():
            return Perceiver(
                config.num_latents,
                latent_dim=config.latent_dim,
                depth=config.depth,
                self_per_cross=config.self_per_cross,
                cross_heads=config.cross_heads,
                cross_head_dim=config.cross_head_dim,
                latent_heads=config.latent_heads,
                latent_head_dim=config.latent_head_dim,
                frequency_bands=config.frequency_bands,
                max_frequency=config.max_frequency,
                mlp_ratio=config.mlp_ratio,
                feed_forward=config.feed_forward,
                weight_sharing=config.weight_sharing,
                num_classes=config.num_classes,
                use_checkpoint=activation_checkpointing,
            )


def coerce_fields(config: type[ModelConfig], values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` as the types of the configuration's fields: names to enums, sequences to extents and tuples.

    Raises:
        TypeError: a field the configuration does not have.
        ValueError: a value that is not of the field's type.
    """
    known = [field.name for field in fields(config)]
    types = get_type_hints(config)
    coerced = {}
    for field, value in values.items():
        if field not in known:
            raise TypeError(
                f"{config.__name__} has no field {field!r}{_suggestion(field, known)}; one of: {', '.join(known)}"
            )
        try:
            coerced[field] = _coerce(types[field], value, name=field)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{config.__name__}.{field}: {error}") from error
    return coerced


def _coerce(kind: Any, value: Any, *, name: str) -> Any:
    if kind is Extent:
        return Extent.of(value)
    if get_origin(kind) is tuple:
        item, *_ = get_args(kind)
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise ValueError(f"expected a sequence, got {value!r}")
        return tuple(_coerce(item, entry, name=name) for entry in value)
    if issubclass(kind, StrEnum):
        return chosen(kind, value, name=name)
    if kind is bool and not isinstance(value, bool):
        raise ValueError(f"expected True or False, got {value!r}")
    if kind is int and not is_positive_integer(value):
        raise ValueError(f"expected a positive integer, got {value!r}")
    if kind is float and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
        raise ValueError(f"expected a number of at least 0, got {value!r}")
    return kind(value)


def _suggestion(name: str, known: Mapping[str, object] | list[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
