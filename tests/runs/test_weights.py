"""What training starts from: nothing, an image model, or a video model whose head does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.job.ready import check_ready
from experiments.job.training import initial_model
from experiments.registry.catalogue import Experiment, find_variant
from experiments.registry.recipe import Recipe, Scale
from experiments.runs.runtime import Runtime
from experiments.runs.weights import weights_file
from tests.support.command_line import Vswin
from vswin.config import InitConfig, VideoInitConfig
from vswin.data.annotations import DataError
from vswin.models import build


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A small recipe that starts from the video model ``toy``."""
    monkeypatch.setenv("VSWIN_DATA", str(tmp_path))
    return replace(find_variant("table4/joint").at(Scale.TINY), init=VideoInitConfig(video="toy"))


def test_a_video_model_gives_everything_but_its_head(recipe: Recipe) -> None:
    other = build(replace(recipe.model, num_classes=11))
    weights_file("toy").parent.mkdir()
    torch.save({"state_dict": other.state_dict()}, weights_file("toy"))
    started = initial_model(recipe, scale=Scale.TINY, seed=0, runtime=Runtime()).state_dict()
    nothing = replace(recipe, init=InitConfig())
    scratch = initial_model(nothing, scale=Scale.TINY, seed=0, runtime=Runtime()).state_dict()
    for name, value in other.state_dict().items():
        source = scratch[name] if name.startswith("cls_head.") else value
        torch.testing.assert_close(started[name], source, rtol=0, atol=0)


def test_a_missing_video_model_is_named_before_anything_starts(recipe: Recipe) -> None:
    variant = find_variant("table4/joint")
    with pytest.raises(DataError, match=r"weights/toy\.pth: the weights to start from are missing; put a checkpoint"):
        check_ready([Experiment(scale=Scale.TINY, recipe=recipe, variants=(variant,))])


def test_one_variant_of_each_other_architecture_trains(vswin: Vswin) -> None:
    for variant in ("baselines/timesformer", "baselines/perceiver"):
        assert "top-1" in vswin("run", variant, "--scale", "tiny").stdout
