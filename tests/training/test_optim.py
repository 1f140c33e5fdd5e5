"""Learning rates and weight decay as the published recipes really had them.

``tests/golden/parameter_groups/`` says for every model what each of its parameters trains with, under both policies;
see ``parameter_groups.py``.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments.registry.recipes import SWIN_T_K400
from tests.support.parameter_groups import FOLDER, GROUPS, groups_of
from tests.support.places import GOLDEN
from vswin.config import OptimConfig, Optimizer, ParameterGroups, Schedule
from vswin.models import create_model, load_state
from vswin.training.optim import build_average, build_optimizer, lr_factor, multipliers, set_lr

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


def test_steps_multiply_by_a_tenth_at_every_milestone() -> None:
    """TimeSformer: 15 epochs, times 0.1 at epochs 11 and 14 (paper README section 8)."""
    config = OptimConfig(epochs=15, schedule=Schedule.STEPS, milestones=(11, 14), warmup_epochs=0)
    factors = [lr_factor(epoch * 10 + 9, steps_per_epoch=10, config=config) for epoch in range(15)]
    assert factors == [1.0] * 11 + [0.1] * 3 + [pytest.approx(0.01)]


def test_sgd_has_nesterovs_momentum_and_decay_by_the_gradient() -> None:
    """Two steps by hand: d = g + wd w, v = 0.9 v + d, w = w - lr (d + 0.9 v); TimeSformer's default (see optim.py)."""
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    config = OptimConfig(optimizer=Optimizer.SGD, lr=0.1, momentum=0.9, weight_decay=0.5, backbone_lr_ratio=1.0)
    optimizer = build_optimizer(model, config)
    weight, velocity = 1.0, 0.0
    for gradient in (2.0, -1.0):
        model.weight.grad = torch.full_like(model.weight, gradient)
        optimizer.step()
        decayed = gradient + 0.5 * weight
        velocity = 0.9 * velocity + decayed
        weight -= 0.1 * (decayed + 0.9 * velocity)
        assert model.weight.item() == pytest.approx(weight, rel=1e-6)


def test_the_schedule_keeps_the_ratio_between_groups() -> None:
    model = create_model("swin_t", num_classes=4, embed_dim=8, depths=(2, 2), num_heads=(1, 2), window=(2, 7, 7))
    optimizer = build_optimizer(model, SWIN_T_K400.optim)
    set_lr(optimizer.param_groups, 0.25)
    assert sorted(group["lr"] for group in optimizer.param_groups) == [
        pytest.approx(2.5e-5),
        pytest.approx(2.5e-4),
        pytest.approx(2.5e-4),
    ]


def test_no_average_unless_the_recipe_has_one() -> None:
    assert build_average(nn.Linear(1, 1), OptimConfig()) is None


def test_timesformers_published_code_knows_no_groups() -> None:
    model = create_model("timesformer_divided", num_classes=4, embed_dim=32, depth=1, num_heads=2, image_size=32)
    config = OptimConfig(optimizer=Optimizer.SGD, backbone_lr_ratio=1.0, weight_decay=1e-4)
    [group] = build_optimizer(model, config).param_groups
    assert group["weight_decay"] == 1e-4
    intended = build_optimizer(model, replace(config, parameter_groups=ParameterGroups.INTENDED))
    assert sorted(group["weight_decay"] for group in intended.param_groups) == [0.0, 1e-4]


# --------------------------------------------------------------------------------------------------- golden files
@pytest.mark.parametrize("file", GROUPS)
def test_parameter_groups_are_the_golden_ones(file: str) -> None:
    assert groups_of(file) == (FOLDER / f"{file}.txt").read_text()


def test_there_is_no_golden_file_without_a_model() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(GROUPS)


def test_sixteen_published_steps_give_the_published_weights() -> None:
    """Measured with the published code: parameter groups, cosine by epoch, warm-up in micro-batches, AdamW."""
    golden = np.load(GOLDEN / "training_k400_toy.npz")
    config = OptimConfig(epochs=4, batch_size=8, accumulation=4)
    model = create_model(
        "swin_t",
        num_classes=10,
        embed_dim=16,
        depths=(2, 2),
        num_heads=(2, 4),
        window=(2, 2, 2),
        drop_path=0.0,
        head_dropout=0.0,
    )
    load_state(model, {name[5:]: torch.from_numpy(golden[name]) for name in golden.files if name.startswith("init/")})
    drawn = np.random.default_rng(7)
    clips = torch.from_numpy(drawn.standard_normal((128, 3, 4, 16, 16), dtype=np.float32))
    labels = torch.from_numpy(drawn.integers(0, 10, 128))
    optimizer = build_optimizer(model, config)
    for step in range(16):
        set_lr(optimizer.param_groups, lr_factor(step, steps_per_epoch=4, config=config))
        rates = [group["lr"] for group in optimizer.param_groups]
        assert (min(rates), max(rates)) == pytest.approx(golden["learning_rates_min_max"][step], rel=1e-6)
        batch = slice(8 * step, 8 * step + 8)
        loss = F.cross_entropy(model(clips[batch]), labels[batch])
        assert loss.item() == pytest.approx(golden["losses"][step], abs=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step + 1 in (1, 4, 16):
            for name, value in model.named_parameters():
                expected = torch.from_numpy(golden[f"after_step_{step + 1}/{name}"])
                torch.testing.assert_close(
                    value.detach(), expected, atol=5e-7, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
                )
