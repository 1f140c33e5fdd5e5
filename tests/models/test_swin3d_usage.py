"""The published class as its users call it: signature, defaults, sizes, training switches, errors."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vswin import SwinTransformer3D
from vswin.models import create_model, load_checkpoint

TOY: dict[str, Any] = {
    "patch_size": (2, 4, 4),
    "embed_dim": 8,
    "depths": [2, 2],
    "num_heads": [1, 2],
    "window_size": (2, 4, 4),
}


def test_signature_is_the_published_one_and_ours_is_keyword_only() -> None:
    parameters = inspect.signature(SwinTransformer3D).parameters.values()
    published = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    assert published == {
        "pretrained": None,
        "pretrained2d": True,
        "patch_size": (4, 4, 4),
        "in_chans": 3,
        "embed_dim": 96,
        "depths": (2, 2, 6, 2),
        "num_heads": (3, 6, 12, 24),
        "window_size": (2, 7, 7),
        "mlp_ratio": 4.0,
        "qkv_bias": True,
        "qk_scale": None,
        "drop_rate": 0.0,
        "attn_drop_rate": 0.0,
        "drop_path_rate": 0.2,
        "norm_layer": nn.LayerNorm,
        "patch_norm": False,
        "frozen_stages": -1,
        "use_checkpoint": False,
    }
    ours = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert ours == {"attention": "joint", "shift": "full", "clamped_bias": "exact"}


def test_without_arguments() -> None:
    model = SwinTransformer3D().eval()
    with torch.no_grad():
        features = model(torch.rand(1, 3, 8, 224, 224))
    assert features.shape == (1, 768, 2, 7, 7)


def test_a_published_checkpoint_through_load_state_dict(tmp_path: Path) -> None:
    """Strip the prefix, load strictly, pool over time and space, project: as the published README has it."""
    sizes = {"patch": (2, 4, 4), "window": (4, 4, 4), "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4)}
    published = create_model("swin_b", num_classes=174, **sizes).eval()
    torch.save({"state_dict": published.state_dict()}, tmp_path / "swin.pth")

    model = SwinTransformer3D(
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        patch_size=(2, 4, 4),
        window_size=(4, 4, 4),
        drop_path_rate=0.4,
        patch_norm=True,
    )
    checkpoint = torch.load(tmp_path / "swin.pth", weights_only=True)
    stripped = {}
    for name, value in checkpoint["state_dict"].items():
        if "backbone" in name:
            stripped[name[9:]] = value
    model.load_state_dict(stripped)
    model.eval()
    clips = torch.rand(2, 3, 8, 32, 32)
    with torch.no_grad():
        pooled = model(clips).mean(dim=[2, 3, 4])
        scores = pooled @ checkpoint["state_dict"]["cls_head.fc_cls.weight"].T
        torch.testing.assert_close(scores, published(clips))


def test_the_seed_model_of_something_something() -> None:
    with torch.device("meta"):
        model = SwinTransformer3D(
            embed_dim=128,
            depths=[2, 2, 18, 2],
            num_heads=[4, 8, 16, 32],
            patch_size=(2, 4, 4),
            window_size=(16, 7, 7),
            drop_path_rate=0.4,
            patch_norm=True,
        )
    assert sum(value.numel() for value in model.parameters()) == 88_655_688
    # Section 4.3 of the collected facts: 353 entries in the file, two of them the head's.
    state = model.state_dict()
    assert len(state) == 351
    assert state["layers.3.blocks.1.attn.relative_position_bias_table"].shape == (5239, 32)
    assert state["layers.0.blocks.0.attn.relative_position_index"].shape == (784, 784)


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 30, 34), (8, 32, 32), (9, 33, 31), (2, 4, 70)])
def test_any_input_size(shape: tuple[int, int, int]) -> None:
    frames, height, width = shape
    model = SwinTransformer3D(**TOY)
    features = model(torch.randn(1, 3, *shape))
    rows, columns = (math.ceil(math.ceil(size / 4) / 2) for size in (height, width))
    assert features.shape == (1, 16, math.ceil(frames / 2), rows, columns)
    features.sum().backward()


@pytest.mark.parametrize("frames", [1, 2, 4, 8, 16])
def test_patches_of_any_number_of_frames(frames: int) -> None:
    model = SwinTransformer3D(**(TOY | {"patch_size": (frames, 4, 4)}))
    assert model(torch.randn(1, 3, 16, 16, 16)).shape == (1, 16, 16 // frames, 2, 2)


@pytest.mark.parametrize("window", [(16, 7, 7), (8, 12, 12), (4, 7, 7), (2, 3, 5), (1, 7, 7), (3, 1, 1)])
def test_windows_of_any_size(window: tuple[int, int, int]) -> None:
    model = SwinTransformer3D(**(TOY | {"window_size": window}))
    model(torch.randn(1, 3, 8, 40, 56)).sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in model.parameters())


def test_other_channels_and_norms() -> None:
    model = SwinTransformer3D(**TOY, in_chans=2, norm_layer=lambda dim: nn.LayerNorm(dim, eps=1e-3), qk_scale=0.1)
    assert model(torch.randn(1, 2, 4, 16, 16)).shape == (1, 16, 2, 2, 2)
    assert model.norm.eps == 1e-3
    assert model.layers[0].blocks[0].attn.scale == 0.1


def test_drop_path_rises_over_the_blocks() -> None:
    model = SwinTransformer3D(**(TOY | {"depths": [2, 3]}), drop_path_rate=0.4)
    rates = [block.drop_path.rate for stage in model.layers for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_drop_path_drops_samples_and_keeps_the_mean() -> None:
    block = SwinTransformer3D(**TOY, drop_path_rate=0.4).layers[1].blocks[1].train()
    torch.manual_seed(0)
    out = block.drop_path(torch.ones(5000, 2, 2))
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / 0.6).item()}
    assert all(sample.unique().numel() == 1 for sample in out[:50])
    assert out.mean().item() == pytest.approx(1.0, abs=0.03)
    assert torch.equal(block.eval().drop_path(torch.ones(5)), torch.ones(5))


def test_dropout_acts_in_training_only() -> None:
    model = SwinTransformer3D(**TOY, drop_rate=0.1, attn_drop_rate=0.1, drop_path_rate=0.0)
    clips = torch.randn(1, 3, 4, 16, 16)
    assert not torch.equal(model.train()(clips), model(clips))
    assert torch.equal(model.eval()(clips), model(clips))


@pytest.mark.parametrize(
    ("frozen_stages", "frozen"), [(-1, ()), (0, ("patch_embed.",)), (1, ("patch_embed.", "layers.0."))]
)
def test_frozen_stages_neither_learn_nor_drop(frozen_stages: int, frozen: tuple[str, ...]) -> None:
    model = SwinTransformer3D(**TOY, frozen_stages=frozen_stages).train()
    for name, value in model.named_parameters():
        assert value.requires_grad is not name.startswith(frozen or ("none",)), name
    assert model.layers[0].training is (frozen_stages < 1)
    assert model.layers[1].training
    model(torch.randn(1, 3, 4, 16, 16)).sum().backward()


def test_initialisation_is_the_published_one() -> None:
    torch.manual_seed(0)
    model = create_model("swin_t", embed_dim=96, depths=(2, 2), num_heads=(3, 6))
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            std = 0.01 if name == "cls_head.fc_cls" else 0.02
            assert module.weight.std().item() == pytest.approx(std, rel=0.05), name
            assert module.bias is None or not module.bias.any()
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all()
            assert not module.bias.any()
    table = model.get_parameter("backbone.layers.0.blocks.0.attn.relative_position_bias_table")
    assert table.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embed_dim": 9, "num_heads": [2, 2]}, "expected a width divisible by its number of heads, got width 9 and 2"),
        ({"window_size": (0, 7, 7)}, r"expected three positive integers .*got \(0, 7, 7\)"),
        ({"window_size": (7, 7)}, r"expected three positive integers .*got \(7, 7\)"),
        ({"patch_size": (2, 4, -4)}, "expected three positive integers"),
        ({"depths": [2, 2, 2]}, r"expected one number of heads per stage, got depths \(2, 2, 2\)"),
        ({"num_heads": (0, 2)}, r"expected num_heads to be one positive integer per stage, got \(0, 2\)"),
        ({"depths": (-1, 1)}, r"expected depths to be one positive integer per stage, got \(-1, 1\)"),
        ({"depths": (0, 1)}, r"expected depths to be one positive integer per stage, got \(0, 1\)"),
        ({"depths": 2}, "expected depths to be one positive integer per stage, got 2"),
        ({"embed_dim": 0}, "expected embed_dim to be a positive integer, got 0"),
        ({"embed_dim": -8}, "expected embed_dim to be a positive integer, got -8"),
        ({"in_chans": 0}, "expected in_chans to be a positive integer, got 0"),
        ({"mlp_ratio": 0}, "expected mlp_ratio to give the MLPs at least one channel, got 0"),
        ({"frozen_stages": 9}, "expected frozen_stages from -1 to 2, got 9"),
        ({"qk_scale": 0.0}, "expected qk_scale above 0, or None .*, got 0.0"),
        ({"window_size": 7}, r"window_size: expected three positive integers .*got 7"),
        ({"drop_path_rate": 1.0}, r"expected a drop path rate in \[0, 1\), got 1.0"),
        ({"attention": "splitt"}, "expected attention to be one of 'joint', 'split', 'factorized'; got 'splitt'"),
        ({"shift": "time"}, "expected shift to be one of"),
        ({"clamped_bias": "wrong"}, "expected clamped_bias to be one of"),
    ],
)
def test_arguments_that_make_no_model(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SwinTransformer3D(**(TOY | arguments))


def test_numpy_integers_are_integers() -> None:
    model = SwinTransformer3D(**(TOY | {"window_size": np.array([2, 4, 4]), "embed_dim": np.int64(8)}))
    assert model.window == (2, 4, 4)
    assert all(type(size) is int for size in model.window)


@pytest.mark.parametrize("shape", [(3, 4, 16, 16), (1, 1, 4, 16, 16), (1, 4, 3, 16, 16)])
def test_clips_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected clips of shape \[B, 3, T, H, W\], got"):
        SwinTransformer3D(**TOY)(torch.randn(shape))


def test_pretrained_video_checkpoint(tmp_path: Path) -> None:
    source = SwinTransformer3D(**TOY, patch_norm=True)
    torch.save(source.state_dict(), tmp_path / "video.pth")
    model = SwinTransformer3D(tmp_path / "video.pth", False, **TOY, patch_norm=True)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match=r"load Video Swin weights with vswin\.load_checkpoint"):
        SwinTransformer3D(tmp_path / "video.pth", **TOY)
    load_checkpoint(model, tmp_path / "video.pth")
