"""The choices where the paper is open, numbered as in the docstring of vswin/models/swin3d.py."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from vswin.config import BiasInit, EmbeddingInit, Extent, ParameterGroups
from vswin.models import SwinTransformer3D, swin3d
from vswin.models.blocks import FactorizedBlock
from vswin.models.classifier import ClassificationHead, VideoClassifier
from vswin.models.weights.inflate import inflate_bias_table, inflate_embedding
from vswin.training.optim import multipliers

SIZES = {
    "patch_size": (2, 4, 4),
    "embed_dim": 8,
    "depths": (2, 2),
    "num_heads": (1, 2),
    "window_size": (4, 4, 4),
    "patch_norm": True,
    "drop_path_rate": 0.0,
}


def model(attention: str, **more: object) -> SwinTransformer3D:
    torch.manual_seed(0)
    return SwinTransformer3D(**(SIZES | more), attention=attention).eval()  # type: ignore[arg-type]


def clips(frames: int = 16) -> torch.Tensor:
    return torch.randn(1, 3, frames, 32, 32, generator=torch.Generator().manual_seed(1))


def factorized_blocks(net: nn.Module) -> list[FactorizedBlock]:
    return [module for module in net.modules() if isinstance(module, FactorizedBlock)]


def test_every_deviation_has_a_test() -> None:
    numbers = {int(number) for number in re.findall(r"^(\d+)\.", swin3d.__doc__ or "", re.M)}
    tested = {int(number) for name in globals() for number in re.findall(r"^test_deviation_(\d+)_", name)}
    assert numbers == tested == set(range(1, 10))


def test_deviation_1_temporal_attention_is_normed() -> None:
    (first, *_), x = factorized_blocks(model("factorized")), torch.randn(1, 4, 4, 4, 8)
    nn.init.ones_(first.temporal.gate)
    with torch.no_grad():
        torch.testing.assert_close(first.temporal(x), first.temporal(3 * x + 2), atol=1e-4, rtol=1e-4)


def test_deviation_2_one_scalar_gate_per_block_starts_at_zero() -> None:
    gates = [block.temporal.gate for block in factorized_blocks(model("factorized"))]
    assert [gate.tolist() for gate in gates] == [[0.0]] * 4


def test_deviation_2_stochastic_depth_drops_the_gated_branch() -> None:
    block = factorized_blocks(model("factorized", drop_path_rate=0.5))[-1].train()
    nn.init.ones_(block.temporal.gate)
    torch.manual_seed(0)
    with torch.no_grad():
        branch = block.temporal(torch.randn(64, 4, 2, 2, 16))
    dropped = (branch == 0).flatten(1).all(1)
    assert 16 < dropped.sum() < 48


def test_factorized_starts_as_the_spatial_only_network() -> None:
    """The reason of the zero (section 4.3): pre-trained weights work as before."""
    factorized = model("factorized")
    spatial = model("joint", window_size=(1, 4, 4))
    state = factorized.state_dict()
    spatial.load_state_dict({name: value for name, value in state.items() if ".temporal." not in name})
    with torch.no_grad():
        assert torch.equal(factorized(clips()), spatial(clips()))
        nn.init.constant_(factorized_blocks(factorized)[0].temporal.gate, 0.1)
        assert not torch.equal(factorized(clips()), spatial(clips()))


@pytest.mark.parametrize("attention", ["split", "factorized"])
def test_deviation_3_all_frames_and_their_order_matter(attention: str) -> None:
    net = model(attention)
    for block in factorized_blocks(net):
        nn.init.ones_(block.temporal.gate)
    for name, value in net.named_parameters():
        if name.endswith("relative_position_bias_table"):
            nn.init.normal_(value)
    with torch.no_grad():
        first, last = clips(), clips()
        last[:, :, -2:] += 1
        output = net(first)
        # 8 temporal tokens, twice the temporal window: the first one sees the last.
        assert not torch.allclose(net(last)[:, :, 0], output[:, :, 0])
        # The same tokens in another order are another video, even after pooling.
        turned = first.unflatten(2, (8, 2)).flip(2).flatten(2, 3)
        assert not torch.allclose(net(turned).mean((2, 3, 4)), output.mean((2, 3, 4)), atol=1e-4)


@pytest.mark.parametrize("attention", ["split", "factorized"])
def test_deviation_3_far_offsets_share_the_farthest_bias(attention: str) -> None:
    net = model(attention)
    attentions = [module for name, module in net.named_modules() if name.endswith("temporal.attn")]
    attentions += [layer.attn for layer in net.temporal_layers]
    assert len(attentions) == (2 if attention == "split" else 4)
    for module in attentions:
        table = module.relative_position_bias_table
        assert table.shape == (7, module.num_heads)
        bias = module.bias(6)
        assert torch.equal(bias[:, 0, 3], table[0])
        assert torch.equal(bias[:, 0, 5], table[0])
        assert torch.equal(bias[:, 5, 0], table[6])
        assert torch.equal(bias[:, 2, 2], table[3])


def test_deviation_4_split_layers_stand_before_the_final_norm() -> None:
    net = model("split", drop_path_rate=0.3)
    assert len(net.temporal_layers) == 2
    order: list[str] = []
    for name, module in net.named_modules():
        if name in {"layers.1", "temporal_layers.0", "temporal_layers.1", "norm"}:
            module.register_forward_hook(lambda _module, _args, _out, name=name: order.append(name))
    with torch.no_grad():
        net(clips())
    assert order == ["layers.1", "temporal_layers.0", "temporal_layers.1", "norm"]
    assert [(layer.attn.num_heads, layer.drop_path.rate) for layer in net.temporal_layers] == [(2, 0.3)] * 2


@pytest.mark.parametrize("attention", ["split", "factorized"])
def test_deviation_5_spatial_windows_are_one_frame_deep(attention: str) -> None:
    for shift, moved in (("full", (0, 2, 2)), ("spatial", (0, 2, 2)), ("none", (0, 0, 0))):
        net = model(attention, shift=shift)
        assert {(stage.window, stage.shift) for stage in net.layers} == {((1, 4, 4), moved)}
        assert net.layers[0].blocks[0].attn.relative_position_bias_table.shape == (49, 1)


@pytest.mark.parametrize(("frames", "center"), [(1, 0), (2, 1), (3, 1), (4, 2), (8, 4)])
def test_deviation_6_center_is_frame_floor_half_unscaled(frames: int, center: int) -> None:
    weight = torch.randn(5, 3, 4, 4)
    inflated = inflate_embedding(weight, frames=frames, init=EmbeddingInit.CENTER)
    assert torch.equal(inflated[:, :, center], weight)
    inflated[:, :, center] = 0
    assert not inflated.any()


def test_deviation_7_minus_4_6_replaces_the_bias_across_frames() -> None:
    table = torch.randn(49, 2)
    inflated = inflate_bias_table(table, window=Extent(3, 4, 4), init=BiasInit.CENTER).reshape(5, 49, 2)
    assert torch.equal(inflated[2], table)
    assert (inflated[[0, 1, 3, 4]] == -4.6).all()


def test_deviation_8_biases_of_clamped_windows_are_exact_by_default() -> None:
    exact, published = model("joint"), model("joint", clamped_bias="published")
    small = torch.randn(1, 3, 8, 12, 12)
    with torch.no_grad():
        nn.init.normal_(exact.layers[0].blocks[0].attn.relative_position_bias_table)
        published.load_state_dict(exact.state_dict())
        assert not torch.allclose(exact(small), published(small), atol=1e-4)
        assert torch.equal(exact(clips()), published(clips()))


@pytest.mark.parametrize("attention", ["split", "factorized"])
def test_deviation_9_added_layers_train_as_the_backbone_does(attention: str) -> None:
    with torch.device("meta"):
        net = VideoClassifier(model(attention), ClassificationHead(16, num_classes=5, dropout=0.0))
    added = [name for name, _ in net.named_parameters() if ".temporal" in name]
    assert any(name.endswith(".gate") for name in added) is (attention == "factorized")
    for name in added:
        expected = (1.0, 0.0) if name.endswith("relative_position_bias_table") else (0.1, 1.0)
        found = multipliers(name, backbone_lr_ratio=0.1, policy=ParameterGroups.PUBLISHED)
        assert (found.lr, found.weight_decay) == expected
