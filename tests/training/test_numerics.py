"""What a step computes: accumulation, recomputation, precision, averaging, clipping, random numbers, bad numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.toy_models import TOYS, Toy
from tests.support.toy_training import CONFIG, TOTAL, Attempt, Poisonable, batch_of, shares, small_model, spoilt
from vswin.config import OptimConfig, Optimizer, Precision
from vswin.data.batch import TrainBatch
from vswin.data.transforms import model_input
from vswin.training import checkpoint
from vswin.training.distributed import ALONE
from vswin.training.train import End, NonFiniteLossError, step_seed

# Gradients that are the same sum in another order: fp32 has seven digits, and a few hundred terms lose two or three.
RELATIVE = 1e-4


def still_model() -> nn.Module:
    """Without random numbers, so that the same clips give the same loss however they are grouped."""
    return small_model(drop_path=0.0, head_dropout=0.0)


# --------------------------------------------------------------------------------------------------- accumulation
@pytest.mark.parametrize("optimizer", Optimizer)
@pytest.mark.parametrize("micro_batch", [1, 3, 4, 8, 100])
def test_micro_batches_add_up_to_the_whole_batch(micro_batch: int, optimizer: Optimizer, tmp_path: Path) -> None:
    config = replace(CONFIG, optimizer=optimizer, label_smoothing=0.1)
    feed = shares(ALONE, size=8, total=TOTAL)
    whole = Attempt(tmp_path / "whole", model=still_model(), batches=feed, config=config)
    parts = Attempt(tmp_path / "parts", model=still_model(), batches=feed, config=config, micro_batch=micro_batch)
    for name in ("train/loss", "train/top1", "train/grad_norm"):
        expected = [metrics[name] for metrics in whole.metrics.values()]
        assert [metrics[name] for metrics in parts.metrics.values()] == pytest.approx(expected, rel=RELATIVE), name


def test_one_micro_batch_is_the_whole_batch_to_the_bit(tmp_path: Path) -> None:
    whole = Attempt(tmp_path / "whole")
    assert Attempt(tmp_path / "one", micro_batch=2).digest == whole.digest


def test_a_micro_batch_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="micro-batch of at least 1 clip, got 0"):
        Attempt(tmp_path, micro_batch=0)


def test_random_numbers_differ_between_steps_ranks_and_micro_batches() -> None:
    seeds = {
        step_seed(seed, step, rank=rank, micro_batch=part)
        for seed in range(3)
        for step in range(20)
        for rank in range(4)
        for part in range(4)
    }
    assert len(seeds) == 3 * 20 * 4 * 4
    # of the first rank and micro-batch: runs that are already recorded have drawn from these
    assert step_seed(0, 0) == step_seed(0, 0, rank=0, micro_batch=0) == 45548941942605650
    assert step_seed(7, 123) == 57388617315351331


def test_every_micro_batch_drops_other_paths(tmp_path: Path) -> None:
    drawn: list[float] = []

    class Draws(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Linear(1, 3)

        def forward(self, clips: Tensor) -> Tensor:
            drawn.append(torch.rand(1).item())
            return self.backbone(clips.mean(dim=(1, 2, 3, 4))[:, None])

    Attempt(tmp_path / "whole", model=Draws(), batches=shares(ALONE, size=4, total=3))
    whole, drawn = drawn, []
    Attempt(tmp_path / "parts", model=Draws(), batches=shares(ALONE, size=4, total=3), micro_batch=2)
    assert drawn[::2] == whole
    assert len(set(drawn)) == 6


# ----------------------------------------------------------------------------------------- activation checkpointing
@pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)
def test_recomputed_activations_give_the_same_gradients(toy: Toy) -> None:
    """With stochastic depth on: the second forward pass has to drop the paths that the first one dropped."""
    gradients = []
    for activation_checkpointing in (False, True):
        random = {} if toy.name == "perceiver" else {"drop_path": 0.5}
        model = toy.model(activation_checkpointing=activation_checkpointing, **random).train()
        torch.manual_seed(3)
        F.cross_entropy(model(toy.inputs(4)), torch.arange(4)).backward()
        gradients.append({name: value.grad for name, value in model.named_parameters()})
    stored, recomputed = gradients
    for name, value in stored.items():
        assert torch.equal(value, recomputed[name]), name


# --------------------------------------------------------------------------------------------------------- precision
@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP16])
def test_lower_precision_follows_fp32(precision: Precision, tmp_path: Path) -> None:
    """Two or three digits per operation, and a loss that falls: close to fp32, and not fp32 under another name."""
    full = Attempt(tmp_path / "fp32", model=still_model())
    low = Attempt(tmp_path / "low", model=still_model(), config=replace(CONFIG, precision=precision))
    assert list(low.losses.values()) == pytest.approx(list(full.losses.values()), rel=0.05)
    assert low.losses != full.losses
    assert {value.dtype for value in low.model.parameters()} == {torch.float32}


class Steep(nn.Module):
    """A linear layer whose gradients are ``steepness`` times what they should be."""

    def __init__(self, steepness: float) -> None:
        super().__init__()
        self.backbone = nn.Linear(3, 3)
        self.steepness = steepness

    def forward(self, clips: Tensor) -> Tensor:
        logits = self.backbone(clips.mean(dim=(2, 3, 4)))
        logits.register_hook(lambda gradient: gradient * self.steepness)
        return logits


def test_a_step_whose_scaled_gradient_overflows_is_left_out_and_counted(tmp_path: Path) -> None:
    config = replace(CONFIG, precision=Precision.FP16)
    attempt = Attempt(tmp_path, model=Steep(100.0), config=config)
    overflows = [metrics["train/overflow_steps"] for metrics in attempt.metrics.values()]
    scales = [metrics["train/loss_scale"] for metrics in attempt.metrics.values()]
    assert overflows[0] == 1
    assert scales[0] == 2**15
    assert 1 < overflows[-1] < TOTAL
    # from the first scale that fits on, every step is taken
    assert overflows == sorted(overflows)
    assert scales == [2 ** (16 - count) for count in overflows]
    assert all(math.isfinite(value) for value in attempt.losses.values())


def test_a_gradient_that_overflows_without_a_scale_is_not_the_scales_fault(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match=r"loss is \d\.\d+ at step 17, norm of the gradient (inf|nan)"):
        Attempt(
            tmp_path,
            model=Steep(1e39),
            batches=shares(ALONE, size=2, total=40),
            config=replace(CONFIG, precision=Precision.FP16, epochs=10),
        )


# ------------------------------------------------------------------------------------------ averaging, clipping, loss
def test_average_is_the_exponential_one(tmp_path: Path) -> None:
    history: list[dict[str, Tensor]] = []
    model = small_model()

    def recorded(step: int) -> Iterator[TrainBatch]:
        for index in range(step, TOTAL):
            yield batch_of(index)
            history.append({name: value.detach().clone() for name, value in model.named_parameters()})

    attempt = Attempt(tmp_path, model=model, batches=recorded, config=replace(CONFIG, ema_decay=0.8))
    tested = dict(attempt.outcome.model.named_parameters())
    for name in tested:
        expected = history[0][name].double()
        for weights in history[1:]:
            expected = 0.8 * expected + 0.2 * weights[name].double()
        assert torch.allclose(tested[name].double(), expected, rtol=1e-5, atol=1e-7), name


def test_clipping_bounds_the_step_and_logs_the_norm_before(tmp_path: Path) -> None:
    config = OptimConfig(
        optimizer=Optimizer.SGD, momentum=0.0, weight_decay=0.0, lr=1.0, backbone_lr_ratio=1.0, warmup_epochs=0.0,
        clip_norm=1e-3, epochs=1,
    )  # fmt: skip
    model = still_model()
    before = nn.utils.parameters_to_vector(model.parameters()).clone()
    attempt = Attempt(tmp_path, model=model, config=config, stop_at=1)
    moved = nn.utils.parameters_to_vector(model.parameters()) - before
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)
    assert attempt.metrics[1]["train/grad_norm"] > 1e-2


def test_label_smoothing_is_in_the_loss(tmp_path: Path) -> None:
    model = still_model()
    attempt = Attempt(tmp_path, model=model, config=replace(CONFIG, label_smoothing=0.3), stop_at=1)
    batch = batch_of(0)
    with torch.no_grad():
        log_probabilities = still_model()(model_input(batch, device=torch.device("cpu"))).log_softmax(dim=-1)
    target = torch.full((2, 3), 0.3 / 3)
    target[torch.arange(2), batch.labels] += 0.7
    assert attempt.losses[1] == pytest.approx(-(target * log_probabilities).sum(dim=-1).mean().item(), rel=1e-6)


# -------------------------------------------------------------------------------------------------- NaN and infinity
def test_a_bad_loss_stops_training_and_says_where_it_came_from(tmp_path: Path) -> None:
    model = Poisonable()
    with pytest.raises(NonFiniteLossError) as error:
        Attempt(tmp_path, model=model, batches=spoilt(6))
    message = str(error.value)
    assert "loss is nan at step 6, norm of the gradient nan, from videos 10, 11; " in message
    assert "gradients are not finite, first backbone.backbone.patch_embed" in message
    assert "0 of 34 weights are not finite" in message
    assert "the checkpoint before it is intact" in message
    # neither the weights nor the checkpoints have seen it
    assert all(torch.isfinite(value).all() for value in model.parameters())
    assert [path.name for path in checkpoint.available(tmp_path)] == ["step-00000004.safetensors"]


def test_spoilt_weights_are_told_from_a_spoilt_batch(tmp_path: Path) -> None:
    model = small_model()
    with torch.no_grad():
        model.get_parameter("cls_head.fc_cls.bias").fill_(torch.inf)
    with pytest.raises(NonFiniteLossError, match=r"1 of 34 weights are not finite, first cls_head.fc_cls.bias"):
        Attempt(tmp_path, model=model)


def test_a_bad_gradient_under_a_good_loss_stops_training(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match=r"loss is \d\.\d+ at step 1, norm of the gradient (inf|nan)"):
        Attempt(tmp_path, model=Steep(1e39))


def test_allowed_bad_steps_are_left_out_counted_and_remembered(tmp_path: Path) -> None:
    config = replace(CONFIG, nonfinite_steps=2)
    bad = (3, 9)
    whole = Attempt(tmp_path / "whole", model=Poisonable(), batches=spoilt(*bad), config=config)
    assert [warning.partition(",")[0] for warning in whole.warnings] == [f"loss is nan at step {step}" for step in bad]
    assert "left out, 2 of at most 2" in whole.warnings[1]
    counts = [metrics["train/nonfinite_steps"] for metrics in whole.metrics.values()]
    assert counts == [0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2]
    # a journal of NaNs could not be compared after a resume
    assert [step for step, metrics in whole.metrics.items() if "train/loss" not in metrics] == list(bad)

    Attempt(tmp_path / "cut", model=Poisonable(), batches=spoilt(*bad), config=config, stop_at=5)
    second = Attempt(tmp_path / "cut", model=Poisonable(), batches=spoilt(*bad), config=config)
    assert second.digest == whole.digest
    assert second.metrics[12]["train/nonfinite_steps"] == 2

    # the count of the first attempt counts against the limit of the second
    Attempt(tmp_path / "over", model=Poisonable(), batches=spoilt(*bad), config=config, stop_at=5)
    with pytest.raises(NonFiniteLossError, match="loss is nan at step 11"):
        Attempt(tmp_path / "over", model=Poisonable(), batches=spoilt(9, 11), config=config)


def test_a_left_out_step_changes_nothing_but_the_count(tmp_path: Path) -> None:
    config = replace(CONFIG, nonfinite_steps=1, ema_decay=0.5)
    model = Poisonable()
    weights: list[Tensor] = []

    def recorded(step: int) -> Iterator[TrainBatch]:
        for batch in spoilt(3)(step):
            weights.append(nn.utils.parameters_to_vector(model.parameters()).clone())
            yield batch

    attempt = Attempt(tmp_path, model=model, batches=recorded, config=config)
    assert attempt.outcome.end is End.FINISHED
    before_third, after_third, after_fourth = weights[2], weights[3], weights[4]
    assert torch.equal(before_third, after_third)
    assert not torch.equal(after_third, after_fourth)


def test_a_bad_loss_under_fp16_is_no_overflow(tmp_path: Path) -> None:
    config = replace(CONFIG, precision=Precision.FP16, nonfinite_steps=1)
    attempt = Attempt(tmp_path, model=Poisonable(), batches=spoilt(2), config=config)
    assert attempt.metrics[TOTAL]["train/nonfinite_steps"] == 1
    assert attempt.metrics[TOTAL]["train/overflow_steps"] == 0
