"""Learning rates and weight decay as the published recipes really had them."""

import math

import pytest
from torch import nn

from experiments.baselines import SWIN_T_K400
from vswin.config import OptimConfig, ParameterGroups
from vswin.models import create_model
from vswin.training.optim import build_optimizer, lr_factor, multipliers

TABLE = "backbone.layers.0.blocks.0.attn.relative_position_bias_table"
NORM = "backbone.layers.0.blocks.0.norm1.weight"
WEIGHT = "backbone.layers.0.blocks.0.mlp.fc1.weight"
BIAS = "backbone.layers.0.blocks.0.mlp.fc1.bias"
HEAD = "cls_head.fc_cls.weight"


@pytest.mark.parametrize(
    ("name", "published", "intended"),
    [  # (learning rate, weight decay), relative to the head; paper README section 4, item 13
        (TABLE, (1.0, 0.0), (0.1, 0.0)),
        (NORM, (0.1, 1.0), (0.1, 0.0)),
        (WEIGHT, (0.1, 1.0), (0.1, 1.0)),
        (BIAS, (0.1, 1.0), (0.1, 1.0)),
        (HEAD, (1.0, 1.0), (1.0, 1.0)),
    ],
)
def test_policies(name: str, published: tuple[float, float], intended: tuple[float, float]) -> None:
    for policy, expected in ((ParameterGroups.PUBLISHED, published), (ParameterGroups.INTENDED, intended)):
        got = multipliers(name, backbone_lr_ratio=0.1, policy=policy)
        assert (got.lr, got.weight_decay) == expected


def test_every_parameter_is_in_one_group() -> None:
    model = create_model("swin_t", num_classes=4, embed_dim=8, depths=(2, 2), num_heads=(1, 2), window=(2, 7, 7))
    optimizer = build_optimizer(model, SWIN_T_K400.optim)
    names = [name for group in optimizer.param_groups for name in group["names"]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert sorted((group["lr"], group["weight_decay"]) for group in optimizer.param_groups) == [
        (pytest.approx(1e-4), 0.02),
        (1e-3, 0.0),
        (1e-3, 0.02),
    ]


def test_a_backbone_rate_without_a_backbone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no parameter of Linear is named backbone\.\*"):
        build_optimizer(nn.Linear(2, 2), OptimConfig(backbone_lr_ratio=0.1))
    build_optimizer(nn.Linear(2, 2), OptimConfig(backbone_lr_ratio=1.0))


def test_cosine_is_constant_inside_an_epoch() -> None:
    """A published log line: 9.668e-05 at epoch index 7 of 60 with a rate of 1e-4 (issue 50 of the published code)."""
    config = OptimConfig(epochs=60, warmup_epochs=2.5)
    factors = {lr_factor(step, steps_per_epoch=100, config=config) for step in range(700, 800)}
    assert len(factors) == 1
    assert 1e-4 * factors.pop() == pytest.approx(9.668e-05, abs=5e-9)


def test_warm_up_starts_at_a_tenth_and_is_linear_over_two_and_a_half_epochs() -> None:
    config = OptimConfig(epochs=30, warmup_epochs=2.5, warmup_ratio=0.1)

    def warm(step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * (step // 100) / 30))
        return lr_factor(step, steps_per_epoch=100, config=config) / cosine

    assert warm(0) == pytest.approx(0.1)
    assert warm(125) == pytest.approx(0.55)
    assert warm(249) == pytest.approx(1 - 0.9 / 250)
    assert warm(250) == 1.0


def test_no_warm_up() -> None:
    config = OptimConfig(epochs=2, warmup_epochs=0)
    assert [lr_factor(step, steps_per_epoch=1, config=config) for step in (0, 1)] == [1.0, 0.5]
