"""The training loop: resume or start; step; log; checkpoint. Read it from top to bottom."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from vswin.config import OptimConfig
from vswin.data.batch import TrainBatch
from vswin.data.transforms import model_input

from . import checkpoint
from .optim import build_optimizer, lr_factor, set_lr
from .precision import autocast


class End(StrEnum):
    """Why ``train`` returned."""

    FINISHED = "finished"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Outcome:
    """``step`` is the number of steps taken so far, over all attempts."""

    end: End
    step: int


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; the last checkpoint is from before that."""


def step_seed(seed: int, step: int) -> int:
    """The seed of the random numbers drawn inside step ``step`` (stochastic depth, dropout).

    A function of its arguments alone, so a resumed run needs no saved random state.
    """
    return int.from_bytes(hashlib.blake2b(f"{seed}/{step}".encode(), digest_size=7).digest(), "big")


def train(
    model: nn.Module,
    batches: Callable[[int], Iterable[TrainBatch]],
    *,
    config: OptimConfig,
    steps_per_epoch: int,
    seed: int,
    directory: Path,
    device: torch.device,
    log: Callable[[int, Mapping[str, float]], None],
    warn: Callable[[str], None],
    before_save: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint_seconds: float = 600.0,
) -> Outcome:
    """Train ``model`` for ``config.epochs`` epochs, continuing from the newest complete checkpoint in ``directory``.

    ``batches(step)`` yields batches from step ``step`` to the end of training.
    ``log(step, metrics)`` is called after every step, ``step`` counting from 1. ``before_save`` is called before a
    checkpoint is written and may raise to prevent it. ``should_stop`` is asked between steps: where it says yes, a
    checkpoint is written and ``Outcome(STOPPED, ...)`` returned.
    """
    # ------------------------------------------------------------------ resume or start
    model.to(device)
    optimizer = build_optimizer(model, config)
    total = config.epochs * steps_per_epoch
    done, complaints = checkpoint.load_newest(directory, model=model, optimizer=optimizer)
    for complaint in complaints:
        warn(f"{complaint}; going on from step {done}")
    model.train()
    saved_at = time.monotonic()
    finished_step_at = time.perf_counter()

    for step, batch in enumerate(batches(done), start=done):
        # -------------------------------------------------------------- step
        got_batch_at = time.perf_counter()
        torch.manual_seed(step_seed(seed, step))
        set_lr(optimizer.param_groups, lr_factor(step, steps_per_epoch=steps_per_epoch, config=config))
        clips, labels = model_input(batch, device=device), batch.labels.to(device, non_blocking=True)
        with autocast(config.precision, device):
            logits = model(clips)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        loss_value = loss.item()
        if not torch.isfinite(loss.detach()):
            raise NonFiniteLossError(f"loss is {loss_value} at step {step + 1}; the checkpoint before it is intact")
        optimizer.step()
        done = step + 1

        # -------------------------------------------------------------- log
        now = time.perf_counter()
        log(
            done,
            {
                "train/loss": loss_value,
                "train/top1": 100 * (logits.detach().argmax(dim=-1) == labels).float().mean().item(),
                "train/lr": config.lr * lr_factor(step, steps_per_epoch=steps_per_epoch, config=config),
                "train/epoch": done / steps_per_epoch,
                "speed/clips_per_second": len(labels) / (now - finished_step_at),
                "speed/data_wait_share": (got_batch_at - finished_step_at) / (now - finished_step_at),
            },
        )
        finished_step_at = now

        # -------------------------------------------------------------- checkpoint
        stop = should_stop()
        if stop or done == total or time.monotonic() - saved_at >= checkpoint_seconds:
            before_save()
            checkpoint.save(directory, step=done, model=model, optimizer=optimizer)
            saved_at = time.monotonic()
        if stop and done < total:
            return Outcome(End.STOPPED, done)
    return Outcome(End.FINISHED, done)
