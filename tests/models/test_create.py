"""Names and configurations to models, and the parts of the baselines that have a definition of their own."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

import vswin
from tests.support.toy_models import TOYS
from vswin.config import MODELS, PERCEIVER, SWIN_T, Attention, Extent, Shift
from vswin.models import build, create_model, list_models
from vswin.models.perceiver import Perceiver, fourier_features
from vswin.models.swin3d import SwinTransformer3D


def test_the_names_of_the_paper() -> None:
    assert list_models() == [
        *("swin_t", "swin_s", "swin_b", "swin_l", "swin_l_384"),
        *("swin2d_t", "swin2d_s", "swin2d_b", "swin2d_l"),
        *("timesformer_space", "timesformer_joint", "timesformer_divided"),
        "perceiver",
    ]
    assert vswin.list_models is list_models


@pytest.mark.parametrize("name", MODELS)
def test_every_name_makes_a_classifier(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=7)
        size = 384 if name.endswith("384") else 224
        shape = (2, 3, size, size) if name.startswith("swin2d") else (2, 3, 8, size, size)
        assert model(torch.empty(shape)).shape == (2, 7)


def test_overrides_reach_every_axis_of_the_ablations() -> None:
    with torch.device("meta"):
        plain = create_model(
            "swin_t",
            attention="factorized",
            window=[16, 7, 7],
            patch=(4, 4, 4),
            shift="none",
            clamped_bias="published",
            drop_path=0,
            head_dropout=0.0,
            activation_checkpointing=True,
        )
        typed = build(
            replace(
                SWIN_T,
                attention=Attention.FACTORIZED,
                window=Extent(16, 7, 7),
                patch=Extent(4, 4, 4),
                shift=Shift.NONE,
                drop_path=0.0,
                head_dropout=0.0,
            )
        )
    backbone = plain.get_submodule("backbone")
    assert isinstance(backbone, SwinTransformer3D)
    assert (backbone.attention, backbone.window, backbone.patch) == ("factorized", (16, 7, 7), (4, 4, 4))
    assert backbone.shift is Shift.NONE
    assert backbone.layers[0].blocks[0].use_checkpoint
    assert backbone.layers[0].blocks[0].attn.clamped_bias == "published"
    shapes = ({name: value.shape for name, value in model.state_dict().items()} for model in (plain, typed))
    assert next(shapes) == next(shapes)


@pytest.mark.parametrize(
    ("name", "overrides", "error", "message"),
    [
        ("swin_tt", {}, ValueError, "unknown model 'swin_tt'; did you mean 'swin_t'"),
        ("swin_t", {"atention": "joint"}, TypeError, "has no field 'atention'; did you mean 'attention'"),
        ("swin_t", {"attention": "jiont"}, ValueError, "attention to be one of 'joint', 'split', 'factorized'"),
        ("swin_t", {"window": (0, 7, 7)}, ValueError, r"Swin3DConfig.window: expected three positive integers"),
        ("swin_t", {"window": 7}, ValueError, r"Swin3DConfig.window: expected three positive integers .*, got 7"),
        ("swin_t", {"embed_dim": 100}, ValueError, "expected a width divisible by its number of heads"),
        ("swin_t", {"embed_dim": 96.0}, ValueError, "embed_dim: expected a positive integer, got 96.0"),
        ("swin_t", {"num_classes": 0}, ValueError, "num_classes: expected a positive integer, got 0"),
        ("swin_t", {"drop_path": -0.1}, ValueError, "drop_path: expected a number of at least 0"),
        ("swin_t", {"depths": 2}, ValueError, "Swin3DConfig.depths: expected a sequence, got 2"),
        ("swin_t", {"mlp_ratio": 0}, ValueError, "expected mlp_ratio to give the MLPs at least one channel, got 0"),
        ("timesformer_space", {"image_size": 100}, ValueError, "expected an image size divisible by the patch"),
        ("perceiver", {"feed_forward": "relu"}, ValueError, "feed_forward to be one of 'geglu', 'gelu'"),
    ],
)
def test_one_clear_sentence_for_a_wrong_call(name: str, overrides: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message), torch.device("meta"):
        create_model(name, **overrides)


@pytest.mark.parametrize(
    ("toy", "shape", "message"),
    [
        ("swin2d", (1, 3, 8, 32, 32), r"expected images of shape \[B, 3, H, W\], got \[1, 3, 8, 32, 32\]"),
        ("timesformer_joint", (1, 3, 8, 32, 32), r"expected clips of shape \[B, 3, 4, 32, 32\].*other frames"),
        ("timesformer_divided", (1, 3, 4, 64, 64), r"build the model with other frames or image_size"),
        ("perceiver", (1, 1, 4, 12, 12), r"expected clips of shape \[B, 3, T, H, W\]"),
    ],
)
def test_inputs_of_another_shape(toy: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TOYS[toy].model()(torch.randn(shape))


@pytest.mark.parametrize("toy", TOYS)
def test_pixels_that_are_not_normalised(toy: str) -> None:
    with pytest.raises(ValueError, match=r"got torch.uint8; make them with vswin.data.transforms.normalise"):
        TOYS[toy].model()(torch.zeros(1, *TOYS[toy].input_shape, dtype=torch.uint8))


@pytest.mark.parametrize("toy", ["swin_joint", "swin_split", "perceiver"])
def test_clips_without_frames(toy: str) -> None:
    with pytest.raises(ValueError, match=r"expected at least one frame, row and column, got shape \[1, 3, 0, 32, 32\]"):
        TOYS[toy].model()(torch.zeros(1, 3, 0, 32, 32))


def test_models_need_torch_and_einops_only() -> None:
    """So that they run, and are measured, where nothing else is installed."""
    script = (
        "import sys, vswin.models\n"
        "roots = {name.partition('.')[0] for name in sys.modules}\n"
        "print(*sorted(roots & {'safetensors', 'fvcore', 'pydantic', 'pandas', 'scipy', 'mlflow', 'submitit', 'av'}))"
    )
    imported = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert imported.split() == []


def test_repeated_weights_of_perceiver() -> None:
    with torch.device("meta"):
        own, shared = build(PERCEIVER), create_model("perceiver", weight_sharing="after_first")
        one = Perceiver(depth=1)
    assert isinstance(own, Perceiver)
    assert isinstance(shared, Perceiver)
    assert (len(own.repetitions), len(shared.repetitions), len(one.repetitions)) == (6, 2, 1)
    toy = TOYS["perceiver"]
    shared = toy.model(depth=3, weight_sharing="after_first").eval()
    calls = [0, 0]
    for index, repetition in enumerate(shared.get_submodule("repetitions").children()):
        repetition.register_forward_hook(lambda _m, _a, _o, index=index: calls.__setitem__(index, calls[index] + 1))
    with torch.no_grad():
        shared(toy.inputs(1))
    assert calls == [1, 2]


def test_fourier_features_are_those_of_the_definition() -> None:
    """Section 3.2 of the Perceiver paper: [sin(f_k pi x), cos(f_k pi x), x], f_k evenly spaced from 1 to mu / 2."""
    features = fourier_features((3, 5), bands=4, max_frequency=10.0, device=torch.device("cpu"))
    assert features.shape == (3, 5, 2 * 9)
    frequencies = [1 + 4 * k / 3 for k in range(4)]
    for i in range(3):
        for j in range(5):
            expected = []
            for position in (-1 + i, -1 + j / 2):
                expected += [math.sin(math.pi * f * position) for f in frequencies]
                expected += [math.cos(math.pi * f * position) for f in frequencies]
                expected += [position]
            assert features[i, j].tolist() == pytest.approx(expected, abs=1e-5)


def test_divided_timesformer_starts_without_temporal_attention() -> None:
    torch.manual_seed(0)
    toy = TOYS["timesformer_divided"]
    model = create_model(toy.name, num_classes=5, **toy.overrides).eval()
    for block in range(2):
        assert not model.get_parameter(f"blocks.{block}.temporal_fc.weight").any()
        assert not model.get_parameter(f"blocks.{block}.temporal_fc.bias").any()
    assert not model.get_parameter("time_embed").any()
