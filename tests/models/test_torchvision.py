"""Agreement with torchvision's ``swin3d_t`` on shared weights, where its wheel lies beside torch.

The wheel is no dependency: it wants CUDA's torch, and registers kernels for operators that its own library defines.
With the schemas of those operators defined first, it imports beside a CPU build of torch. Installed with --no-deps
into a folder on PYTHONPATH: see .ci/run.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from torch import nn

from vswin.models import create_model
from vswin.models.weights import formats
from vswin.models.weights.loading import load_state

if importlib.util.find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed: pip install --no-deps torchvision", allow_module_level=True)

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@pytest.fixture(scope="module")
def swin_transformer() -> Any:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            library.define(operator + SCHEMA)
    from torchvision.models.video import swin_transformer

    return swin_transformer


def drawn(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("relative_position_bias_table"):
                value.normal_(std=0.5)
            elif "norm" in name and name.endswith("weight"):
                value.normal_(mean=1.0, std=0.1)
            else:
                value.normal_(std=value[0].numel() ** -0.5 if value.ndim > 1 else 0.1)
    return model.eval()


@pytest.mark.parametrize("shape", [(2, 3, 8, 64, 64), (1, 3, 10, 60, 72)], ids=["whole", "padded"])
def test_toy(swin_transformer: Any, shape: tuple[int, ...]) -> None:
    theirs = drawn(
        swin_transformer.SwinTransformer3d(
            patch_size=[2, 4, 4], embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=[2, 4, 4], num_classes=5
        )
    )
    ours = create_model("swin_t", num_classes=5, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window=(2, 4, 4)).eval()
    assert load_state(ours, theirs.state_dict()).format is formats.TORCHVISION
    clips = torch.randn(shape)
    with torch.no_grad():
        expected = theirs(clips)
        assert expected.abs().max() > 0.1
        torch.testing.assert_close(ours(clips), expected, atol=2e-5, rtol=1e-4)


def test_the_real_swin_t(swin_transformer: Any) -> None:
    theirs = drawn(swin_transformer.swin3d_t())
    ours = create_model("swin_t").eval()
    load_state(ours, theirs.state_dict())
    clips = torch.randn(1, 3, 16, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(clips), theirs(clips), atol=2e-5, rtol=1e-4)


def test_images(swin_transformer: Any) -> None:
    # imported after the fixture has made that possible
    from torchvision.models.swin_transformer import SwinTransformer

    sizes = {"embed_dim": 16, "depths": [2, 2, 2], "num_heads": [2, 4, 8]}
    theirs = drawn(SwinTransformer(patch_size=[4, 4], window_size=[4, 4], num_classes=5, **sizes))
    ours = create_model("swin2d_t", num_classes=5, window=4, **sizes).eval()
    assert load_state(ours, theirs.state_dict()).format is formats.TORCHVISION_IMAGE
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), atol=2e-5, rtol=1e-4)
