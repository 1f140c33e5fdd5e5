"""The published implementation's numbers, measured by running it: tests/golden/video_swin_*.npz."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.published_numbers import drawn_input, drawn_weights, golden
from vswin.models import SwinTransformer3D, attention, blocks
from vswin.models.form import Form, set_form

TOYS = ("global_time", "temporal_shift", "odd_frames", "padded", "four_stages", "spatial_clamp")
WITH_GRADIENTS = ("global_time", "temporal_shift")


@pytest.fixture(params=["reference", "fast", "fast as if large"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Form:
    """Both forms, and the fast one with what only large inputs take otherwise."""
    if request.param.endswith("large"):
        monkeypatch.setattr(attention, "SMALLEST_BOXED", 1)
        monkeypatch.setattr(blocks, "SMALLEST_CHUNKED", 1)
    return Form.REFERENCE if request.param == "reference" else Form.FAST


def golden_model(meta: Mapping[str, Any], form: Form, **axes: str) -> SwinTransformer3D:
    model = SwinTransformer3D(**meta["config"], patch_norm=True, drop_path_rate=0.0, **axes).eval()
    state = model.state_dict()
    assert {name: list(value.shape) for name, value in state.items()} == meta["keys"]
    model.load_state_dict(state | drawn_weights(meta["keys"], seed=meta["weight_seed"]))
    set_form(model, form)
    return model


@pytest.mark.parametrize("name", TOYS)
def test_output_is_the_published_one(name: str, form: Form) -> None:
    meta, expected = golden(f"video_swin_toy_{name}")
    model = golden_model(meta, form, clamped_bias="published")
    with torch.no_grad():
        output = model(drawn_input(meta["input_shape"], seed=meta["input_seed"]))
    assert np.abs(output.numpy() - expected["output"]).max() < 2e-5
    assert np.abs(output.mean((2, 3, 4)).numpy() - expected["pooled"]).max() < 2e-5


@pytest.mark.parametrize("name", [name for name in TOYS if name != "spatial_clamp"])
def test_exact_bias_changes_nothing_unless_a_window_is_clamped_in_space(name: str, form: Form) -> None:
    meta, expected = golden(f"video_swin_toy_{name}")
    with torch.no_grad():
        output = golden_model(meta, form)(drawn_input(meta["input_shape"], seed=meta["input_seed"]))
    assert np.abs(output.numpy() - expected["output"]).max() < 2e-5


def test_exact_bias_differs_where_the_published_slice_is_wrong(form: Form) -> None:
    meta, expected = golden("video_swin_toy_spatial_clamp")
    with torch.no_grad():
        output = golden_model(meta, form)(drawn_input(meta["input_shape"], seed=meta["input_seed"]))
    assert np.abs(output.numpy() - expected["output"]).max() > 1e-2


@pytest.mark.parametrize("name", WITH_GRADIENTS)
@pytest.mark.parametrize("use_checkpoint", [False, True], ids=["stored", "recomputed"])
def test_gradients_are_the_published_ones(name: str, form: Form, *, use_checkpoint: bool) -> None:
    meta, expected = golden(f"video_swin_toy_{name}")
    model = golden_model(meta | {"config": meta["config"] | {"use_checkpoint": use_checkpoint}}, form).train()
    clips = drawn_input(meta["input_shape"], seed=meta["input_seed"]).requires_grad_()
    output = model(clips)
    (output * drawn_input(list(output.shape), seed=meta["grad_output_seed"])).sum().backward()

    assert clips.grad is not None
    measured = {"grad_input_norm": clips.grad, "grad_input_corner": clips.grad[:, :, :4, :8, :8]}
    for parameter, value in model.named_parameters():
        measured[f"grad_norm/{parameter}"] = measured[f"grad/{parameter}"] = value.grad
    compared = [key for key in expected if key.startswith("grad")]
    assert len(compared) == 12
    for key in compared:
        if expected[key].ndim:
            assert np.abs(measured[key].numpy() - expected[key]).max() <= 1e-4 * np.abs(expected[key]).max(), key
        else:
            assert measured[key].double().norm().item() == pytest.approx(expected[key].item(), rel=1e-4), key


def test_the_real_swin_t(form: Form) -> None:
    meta, expected = golden("video_swin_swin_t_32x224")
    model = golden_model(meta, form)
    with torch.no_grad():
        output = model(drawn_input(meta["input_shape"], seed=meta["input_seed"]))
    assert list(output.shape) == expected["shape"].tolist()
    assert np.abs(output.mean((2, 3, 4)).numpy() - expected["pooled"]).max() < 2e-5
    assert output.double().norm().item() == pytest.approx(expected["norm"].item(), rel=1e-6)
    assert np.abs(output[:, :16, :2, :3, :3].numpy() - expected["corner"]).max() < 2e-5
    assert np.abs(output[:, -16:, -1, -1, -1].numpy() - expected["last"]).max() < 2e-5
