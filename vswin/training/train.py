"""The training loop: resume or start; step; log; checkpoint. Read it from top to bottom."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vswin.config import OptimConfig, Precision
from vswin.data.batch import TrainBatch
from vswin.data.transforms import model_input

from . import checkpoint, nonfinite
from .distributed import ALONE, DistributedError, World, exchanging, rehearse
from .memory import peak_memory, shortage_explained
from .nonfinite import NonFiniteLossError
from .optim import build_average, build_optimizer, lr_factor, set_lr
from .precision import autocast


class End(StrEnum):
    """Why ``train`` returned."""

    FINISHED = "finished"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Outcome:
    """``step`` is the number of steps taken so far, over all attempts.

    ``model`` is what to test: the trained model, or its averaged weights where the recipe averages.
    """

    end: End
    step: int
    model: nn.Module = field(compare=False, repr=False)


def step_seed(seed: int, step: int, *, rank: int = 0, micro_batch: int = 0) -> int:
    """The seed of the random numbers drawn inside step ``step`` (stochastic depth, dropout).

    A function of its arguments alone, so a resumed run needs no saved random state. Other for every rank and
    micro-batch, which see other clips.
    """
    place = f"{seed}/{step}" if (rank, micro_batch) == (0, 0) else f"{seed}/{step}/{rank}/{micro_batch}"
    return int.from_bytes(hashlib.blake2b(place.encode(), digest_size=7).digest(), "big")


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
    world: World = ALONE,
    micro_batch: int | None = None,
    validate: Callable[[nn.Module], Mapping[str, float] | None] | None = None,
    validate_epochs: int = 1,
    classes: Sequence[str] = (),
    describe: Callable[[Tensor], str] = nonfinite.numbers,
    before_save: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint_seconds: float = 600.0,
) -> Outcome:
    """Train ``model`` for ``config.epochs`` epochs, continuing from the newest complete checkpoint in ``directory``.

    Args:
        model: clips [B, C, T, H, W] to logits [B, classes], the same weights on every rank or those of rank 0 count.
        batches: ``batches(step)`` yields this rank's share of every batch, from step ``step`` to the end of training.
        log: ``log(step, metrics)`` is called after every step, ``step`` counting from 1.
        warn: is told what went wrong and was survived.
        world: the processes that train together; each calls this function, inside ``process_group``. Rank 0 alone
            logs, warns and saves.
        micro_batch: at most so many clips go through the model at once; gradients add up to those of the whole batch.
        validate: called on every rank after the last step of every ``validate_epochs``-th epoch with the model to
            test, in whatever mode; the metrics it returns, named ``val/...``, join those of that step. It returns None,
            on every rank, if it was asked to stop: then this function stops after that step, and the next attempt
            begins with that validation.
        classes: the names of the classes, kept in checkpoints.
        describe: names the videos of a batch (int64 [B]) in messages.
        before_save: called before a checkpoint is written; may raise to prevent it.
        should_stop: asked between steps; where it says yes on any rank, a checkpoint is written and all ranks return
            ``Outcome(STOPPED, ...)`` at the same step.
        checkpoint_seconds: between checkpoints; the end of an epoch writes one, too.

    Raises:
        ValueError: a micro-batch below 1, or a recipe that the model cannot be trained with.
        NonFiniteLossError: more than ``config.nonfinite_steps`` steps had a NaN or infinite loss or gradient.
        BatchTooLargeError: out of memory.
        CheckpointError: no checkpoint can be written, or none of those there can be read.
        DistributedError: ranks found different checkpoints.
    """
    if micro_batch is not None and micro_batch < 1:
        raise ValueError(f"expected a micro-batch of at least 1 clip, got {micro_batch}; None takes whole batches")

    # ------------------------------------------------------------------ resume or start
    model.to(device)
    optimizer = build_optimizer(model, config)
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision is Precision.FP16)
    average = build_average(model, config)
    counters = {"nonfinite_steps": 0, "overflow_steps": 0, "replaced_videos": 0}
    state = checkpoint.State(model=model, optimizer=optimizer, scaler=scaler, average=average, counters=counters)
    total = config.epochs * steps_per_epoch
    first, complaints = checkpoint.load_newest(directory, state=state)
    if len(set(found := world.gather(first))) > 1:
        raise DistributedError(f"ranks would go on from different steps, {found}: {directory} must be the same for all")
    network = world.replicated(model, device=device)
    say = warn if world.is_first else lambda message: None
    for complaint in complaints:
        say(f"{complaint}; going on from step {first}")
    if state.pending:
        validated = validate(state.weights_to_test) if validate else {}
        if validated is None:
            return Outcome(End.STOPPED, first, state.weights_to_test)
        if world.is_first:
            log(first, {**state.pending, **validated})
        state.pending.clear()
    model.train()
    done = first
    saved_at = time.monotonic()
    step_began_at = time.perf_counter()

    for step, batch in enumerate(batches(first), start=first):
        # -------------------------------------------------------------- step
        got_batch_at = time.perf_counter()
        factor = lr_factor(step, steps_per_epoch=steps_per_epoch, config=config)
        set_lr(optimizer.param_groups, factor)
        optimizer.zero_grad(set_to_none=True)
        rank_batch = len(batch.labels)
        effective_batch = rank_batch * world.size
        at_once = min(micro_batch or rank_batch, rank_batch)
        sums = torch.zeros(3, dtype=torch.float64, device=device)
        with shortage_explained(micro_batch=at_once, rank_batch=rank_batch, effective_batch=effective_batch):
            for index, part in enumerate(_cut(batch, at_once)):
                clips, labels = model_input(part, device=device), part.labels.to(device, non_blocking=True)
                if step == first and index == 0:
                    with autocast(config.precision, device):
                        rehearse(network, clips)
                torch.manual_seed(step_seed(seed, step, rank=world.rank, micro_batch=index))
                with exchanging(network, exchange=(index + 1) * at_once >= rank_batch):
                    with autocast(config.precision, device):
                        logits = network(clips)
                    loss = F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
                    loss = loss * (len(labels) / rank_batch)
                    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                right = (logits.detach().argmax(dim=-1) == labels).sum()
                sums += torch.stack([loss.detach(), right, part.replaced.sum().to(device, non_blocking=True)])
        scaler.unscale_(optimizer)
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        grad_norm = nn.utils.get_total_norm(gradients)
        if config.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(model.parameters(), config.clip_norm, grad_norm)
        loss_sum, num_right, num_replaced, norm = [*world.total(sums).tolist(), grad_norm.item()]
        counters["replaced_videos"] += int(num_replaced)
        mean_loss = loss_sum / world.size
        if math.isfinite(mean_loss) and math.isfinite(norm):
            scaler.step(optimizer)
            if average is not None:
                average.update_parameters(model)
        elif math.isfinite(mean_loss) and scaler.get_scale() > 1:
            # the scaled gradient of fp16 overflowed: the scale is lowered, and the next step tries again
            counters["overflow_steps"] += 1
        else:
            counters["nonfinite_steps"] += 1
            videos = describe(torch.cat(world.gather(batch.videos)))
            message = nonfinite.explain(model, step=step + 1, loss=mean_loss, norm=norm, videos=videos)
            if counters["nonfinite_steps"] > config.nonfinite_steps:
                raise NonFiniteLossError(f"{message}; the checkpoint before it is intact")
            say(f"{message}; left out, {counters['nonfinite_steps']} of at most {config.nonfinite_steps}")
        scaler.update()
        done = step + 1

        # -------------------------------------------------------------- log
        now = time.perf_counter()
        metrics = {
            "train/lr": config.lr * factor,
            "train/epoch": done / steps_per_epoch,
            "speed/clips_per_second": effective_batch / (now - step_began_at),
            "speed/data_wait_share": (got_batch_at - step_began_at) / (now - step_began_at),
            "memory/peak_gib": peak_memory(device),
            "data/replaced_videos": counters["replaced_videos"],
        }
        if math.isfinite(mean_loss):
            metrics |= {"train/loss": mean_loss, "train/top1": 100 * num_right / effective_batch}
        if math.isfinite(norm):
            metrics["train/grad_norm"] = norm
        if config.nonfinite_steps > 0:
            metrics["train/nonfinite_steps"] = counters["nonfinite_steps"]
        if scaler.is_enabled():
            metrics |= {"train/overflow_steps": counters["overflow_steps"], "train/loss_scale": scaler.get_scale()}
        if validate is not None and done % (validate_epochs * steps_per_epoch) == 0:
            validated = validate(state.weights_to_test)
            model.train()
            if validated is None:
                state.pending.update(metrics)
            else:
                metrics |= validated
        if world.is_first and not state.pending:
            log(done, metrics)

        # -------------------------------------------------------------- checkpoint
        stop = world.any(should_stop() or bool(state.pending))
        due = done % steps_per_epoch == 0 or time.monotonic() - saved_at >= checkpoint_seconds
        if world.is_first and (stop or due):
            before_save()
            checkpoint.save(
                directory, step=done, state=state, classes=classes, world_size=world.size, micro_batch=micro_batch
            )
            saved_at = time.monotonic()
        if stop and (done < total or state.pending):
            world.wait()
            return Outcome(End.STOPPED, done, state.weights_to_test)
        step_began_at = time.perf_counter()
    world.wait()
    return Outcome(End.FINISHED, done, state.weights_to_test)


def _cut(batch: TrainBatch, size: int) -> Iterator[TrainBatch]:
    """``batch`` in parts of at most ``size`` clips."""
    for parts in zip(*(torch.split(value, size) for value in batch), strict=True):
        yield TrainBatch(*parts)
