"""Weights tell which model they are of: every model that any table trains, by shapes alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from experiments.registry.catalogue import experiments
from experiments.registry.recipe import Scale
from vswin.config import MODELS, PERCEIVER, Extent, SpaceTime, Swin3DConfig, TimeSformerConfig, VideoModelConfig
from vswin.models import WeightsError, architecture_of, build

TRAINED = [experiment.recipe.model for scale in Scale for experiment in experiments(scale)]
NAMED = [config for config in MODELS.values() if isinstance(config, Swin3DConfig | TimeSformerConfig)]
ODD = [
    Swin3DConfig(embed_dim=8, depths=(1, 2, 1), num_heads=(1, 2, 2), window=window, patch=patch, mlp_ratio=2.0)
    for window, patch in ((Extent(1, 7, 7), Extent(2, 4, 4)), (Extent(4, 3, 3), Extent(4, 2, 2)))
]


def told(config: VideoModelConfig) -> VideoModelConfig:
    """``config`` with what shapes do not tell set to defaults."""
    match config:
        case Swin3DConfig():
            usual = Swin3DConfig(embed_dim=1, depths=(1,), num_heads=(1,))
            return replace(
                config,
                drop_path=usual.drop_path,
                head_dropout=usual.head_dropout,
                shift=usual.shift,
                clamped_bias=usual.clamped_bias,
            )
        case TimeSformerConfig():
            return replace(config, drop_path=0.1)
        case _:
            return config


def is_told(config: VideoModelConfig) -> bool:
    """Whether shapes are enough: a Perceiver's heads they do not tell, and a space-only TimeSformer is a ViT."""
    if isinstance(config, TimeSformerConfig):
        return config.attention is not SpaceTime.SPACE and config.embed_dim == 64 * config.num_heads
    return isinstance(config, Swin3DConfig)


@pytest.mark.parametrize("index_buffers", [True, False], ids=["as saved", "without index buffers"])
def test_every_model_is_told_by_its_shapes(index_buffers: bool) -> None:
    models = {told(config) for config in (*TRAINED, *NAMED, *ODD) if is_told(config)}
    assert len(models) >= 20
    for config in models:
        with torch.device("meta"):
            state = build(config).state_dict()
        if not index_buffers:
            state = {name: value for name, value in state.items() if not name.endswith("relative_position_index")}
        assert told(architecture_of(state)) == config


def test_a_perceiver_is_not_guessed() -> None:
    with pytest.raises(WeightsError, match=r"is none of them, .* if a model of this package has them, name the model"):
        architecture_of(build(replace(PERCEIVER, depth=1, num_latents=4, latent_dim=8)).state_dict())


def test_a_vit_may_be_a_space_only_timesformer() -> None:
    with torch.device("meta"):
        state = build(MODELS["timesformer_space"]).state_dict()
    with pytest.raises(WeightsError, match="for a TimeSformer that attends in space only, name the model"):
        architecture_of(state)
