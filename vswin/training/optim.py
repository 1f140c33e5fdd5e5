"""Parameter groups, optimisers, loss and the learning-rate schedules of the published recipes.

Source: section 4.1 of the paper; the released configs and mmcv 1.3 as the published repository @db018fb8 used them;
timesformer/models/optimizer.py of github.com/facebookresearch/TimeSformer @a7b3ee25.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vswin.config import OptimConfig, Optimizer, ParameterGroups, Schedule
from vswin.models.timesformer import TimeSformer

# Everything outside the head, by the prefix that the published recipes match.
_BACKBONE = "backbone"
# Named by the published configs as free of weight decay. A name is matched anywhere in a parameter's name.
_NO_DECAY = ("absolute_pos_embed", "relative_position_bias_table", "norm")
# What every milestone of Schedule.STEPS multiplies the rate by.
_MILESTONE_FACTOR = 0.1


@dataclass(frozen=True)
class Multipliers:
    """Factors on the learning rate and the weight decay of one parameter."""

    lr: float
    weight_decay: float


def multipliers(name: str, *, backbone_lr_ratio: float, policy: ParameterGroups) -> Multipliers:
    """Factors for the parameter ``name``, relative to the head.

    Under ``published`` only the longest matching key counts: a bias table matches
    ``relative_position_bias_table``, which says nothing of the learning rate, so it trains at the head's; a backbone
    norm matches ``backbone``, which is longer than ``norm``, so it is decayed.
    """
    rules = {key: Multipliers(lr=1.0, weight_decay=0.0) for key in _NO_DECAY}
    rules[_BACKBONE] = Multipliers(lr=backbone_lr_ratio, weight_decay=1.0)
    matching = {key: rule for key, rule in rules.items() if key in name}
    if policy is ParameterGroups.PUBLISHED:
        # mmcv sorts alphabetically, then by length: ties go to the alphabetically first.
        for key in sorted(sorted(matching), key=len, reverse=True):
            return matching[key]
        return Multipliers(lr=1.0, weight_decay=1.0)
    return Multipliers(
        lr=math.prod(rule.lr for rule in matching.values()),
        weight_decay=math.prod(rule.weight_decay for rule in matching.values()),
    )


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """One group per distinct (lr, weight decay), each carrying ``base_lr`` and its parameters' ``names``.

    TimeSformer's published code knows no groups: under ``published`` all its parameters train alike.
    Raises ValueError where a rate of its own is asked for a backbone that the model does not have.
    """
    if config.backbone_lr_ratio != 1 and not any(_BACKBONE in name for name, _ in model.named_parameters()):
        raise ValueError(
            f"a backbone rate of {config.backbone_lr_ratio} times the head's was asked for, but no parameter of "
            f"{type(model).__name__} is named {_BACKBONE}.*; use a classifier of vswin.create_model, or a ratio of 1"
        )
    all_alike = isinstance(model, TimeSformer) and config.parameter_groups is ParameterGroups.PUBLISHED
    groups: dict[Multipliers, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            if all_alike:
                key = Multipliers(lr=1.0, weight_decay=1.0)
            else:
                key = multipliers(name, backbone_lr_ratio=config.backbone_lr_ratio, policy=config.parameter_groups)
            groups.setdefault(key, []).append((name, parameter))
    settings = [
        {
            "params": [parameter for _, parameter in members],
            "names": [name for name, _ in members],
            "lr": config.lr * key.lr,
            "base_lr": config.lr * key.lr,
            "weight_decay": config.weight_decay * key.weight_decay,
        }
        for key, members in groups.items()
    ]
    match config.optimizer:
        case Optimizer.ADAMW:
            return torch.optim.AdamW(settings, lr=config.lr, betas=config.betas)
        case Optimizer.SGD:
            # Nesterov's: the default of TimeSformer's lib/config/defaults.py @dbfb5d6c, which no config of it changes
            return torch.optim.SGD(settings, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)


def build_average(model: nn.Module, config: OptimConfig) -> AveragedModel | None:
    """The exponential moving average of ``model``'s weights that the recipe tests, if it does.

    The first update copies the weights; buffers are always the model's.
    """
    if config.ema_decay is None:
        return None
    average = get_ema_multi_avg_fn(config.ema_decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=average)


def lr_factor(step: int, *, steps_per_epoch: int, config: OptimConfig) -> float:
    """Factor on every base learning rate at ``step`` (0 is the first).

    The schedule is constant inside an epoch, as published; the linear warm-up multiplies it step by step. mmcv counts
    it in micro-batches, of which a step has ``config.accumulation``, and a step has the rate of its last one.
    """
    epoch = step // steps_per_epoch
    match config.schedule:
        case Schedule.COSINE:
            annealed = 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))
        case Schedule.STEPS:
            annealed = _MILESTONE_FACTOR ** sum(epoch >= milestone for milestone in config.milestones)
    warmup_steps = config.warmup_epochs * steps_per_epoch
    if step >= warmup_steps:
        return annealed
    share = ((step + 1) * config.accumulation - 1) / (warmup_steps * config.accumulation)
    return annealed * (1 - (1 - share) * (1 - config.warmup_ratio))


def set_lr(groups: Iterable[dict[str, object]], factor: float) -> None:
    """Set every group's learning rate to its base times ``factor``."""
    for group in groups:
        base = group["base_lr"]
        assert isinstance(base, float)
        group["lr"] = base * factor
