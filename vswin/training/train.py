"""The training loop: resume or start; step; log; checkpoint. Read it from top to bottom."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import nn

from vswin.config import OptimConfig, Precision
from vswin.data.batch import TrainBatch
from vswin.data.transforms import model_input

from . import checkpoint, nonfinite
from .checkpoint import Checkpoints, TrainState
from .distributed import ALONE, DistributedError, World, exchanging, rehearse
from .feed import Feed
from .memory import peak_memory, shortage_explained
from .nonfinite import NonFiniteLossError
from .optim import build_average, build_optimizer, lr_factor, set_lr
from .precision import autocast
from .watch import Watch


class End(StrEnum):
    """The reason why ``train`` returned."""

    FINISHED = "finished"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """``step`` of ``total`` steps are taken, over all attempts.

    ``model`` is the one to test: the trained model, or its averaged weights where the recipe averages.
    """

    end: End
    step: int
    total: int
    model: nn.Module = field(compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Validation:
    """A test along the way, after the last step of every ``epochs``-th epoch.

    ``score`` is called on every rank with the model to test, in whatever mode. The metrics it returns, named
    ``val/...``, join those of that step. It returns None, on every rank, if it was asked to stop: then training stops
    after that step, and the next attempt begins with that validation.
    """

    score: Callable[[nn.Module], Mapping[str, float] | None]
    epochs: int = 1


def step_seed(seed: int, step: int, *, rank: int = 0, micro_batch: int = 0) -> int:
    """The seed of the random numbers drawn inside step ``step`` (stochastic depth, dropout).

    A function of its arguments alone, so a resumed run needs no saved random state. It differs between ranks and
    micro-batches, which see different clips.
    """
    place = f"{seed}/{step}" if (rank, micro_batch) == (0, 0) else f"{seed}/{step}/{rank}/{micro_batch}"
    return int.from_bytes(hashlib.blake2b(place.encode(), digest_size=7).digest(), "big")


def train(
    model: nn.Module,
    feed: Feed,
    *,
    config: OptimConfig,
    seed: int,
    checkpoints: Checkpoints,
    watch: Watch,
    world: World = ALONE,
    micro_batch: int | None = None,
    validation: Validation | None = None,
) -> TrainResult:
    """Train ``model`` for ``config.epochs`` epochs, continuing from the newest complete checkpoint.

    One long function on purpose: a step reads from top to bottom in the order in which it is computed.

    Args:
        model: clips [B, C, T, H, W] to logits [B, classes]; of several ranks, the weights of rank 0 count.
        checkpoints: one is written when that time is over, at the end of an epoch, and at a stop.
        watch: where it asks for a stop on any rank, a checkpoint is written, and all ranks return at the same step.
        world: the processes that train together; each calls this function, inside ``process_group``. Rank 0 alone
            logs, warns and saves.
        micro_batch: at most so many clips go through the model at once; gradients add up to those of the whole batch.

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
    # moved first: the optimiser's state and the average are made where the parameters lie
    device = world.device
    model.to(device)
    optimizer = build_optimizer(model, config)
    # fp16 gradients underflow unless the loss is scaled up; for other precisions the scaler passes everything through
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision is Precision.FP16)
    average = build_average(model, config)
    counters = {"nonfinite_steps": 0, "overflow_steps": 0, "replaced_videos": 0}
    state = TrainState(model=model, optimizer=optimizer, scaler=scaler, average=average, counters=counters)
    total = config.epochs * feed.steps_per_epoch
    first, complaints = checkpoint.load_newest(checkpoints.directory, state=state)
    # every rank reads for itself; on a file system that lags behind, one may see an older checkpoint than another
    if len(set(found := world.gather(first))) > 1:
        raise DistributedError(
            f"ranks would resume from different steps, {found}: {checkpoints.directory} must be the same for all"
        )
    # wrapped after loading, since DistributedDataParallel sends out the weights of rank 0 when it is made
    network = world.replicated(model)
    warn = watch.warn if world.is_first else lambda message: None
    for complaint in complaints:
        warn(f"{complaint}; resuming from step {first}")
    if state.pending:
        # the last attempt was stopped during the validation of its last step, whose metrics are not logged yet
        validated = validation.score(state.weights_to_test) if validation else {}
        if validated is None:
            return TrainResult(end=End.STOPPED, step=first, total=total, model=state.weights_to_test)
        if world.is_first:
            watch.log(first, {**state.pending, **validated})
        state.pending.clear()
    model.train()
    done = first
    saved_at = time.monotonic()
    step_began_at = time.perf_counter()

    for step, batch in enumerate(feed.batches(first), start=first):
        # -------------------------------------------------------------- step
        got_batch_at = time.perf_counter()
        # before the step, from its number alone: there is no scheduler whose state would have to be saved
        factor = lr_factor(step, steps_per_epoch=feed.steps_per_epoch, config=config)
        set_lr(optimizer.param_groups, factor)
        # None rather than zeros: backward writes gradients instead of adding to them, and what got none is not decayed
        optimizer.zero_grad(set_to_none=True)
        rank_batch = len(batch.labels)
        effective_batch = rank_batch * world.size
        at_once = min(micro_batch or rank_batch, rank_batch)
        # loss, hits and replaced videos in one tensor, so that ranks exchange them once; in fp64, so that the mean loss
        # of the same clips is the same, but for rounding, however they are cut and shared out
        sums = torch.zeros(3, dtype=torch.float64, device=device)
        with shortage_explained(micro_batch=at_once, rank_batch=rank_batch, effective_batch=effective_batch):
            for index, part in enumerate(_cut(batch, at_once)):
                clips = model_input(part, device=device, pixels=feed.pixels)
                labels = part.labels.to(device, non_blocking=True)
                if step == first and index == 0:
                    with autocast(config.precision, device):
                        rehearse(network, clips)
                # anew for every step, so that a resumed run draws what an undisturbed one does (see step_seed)
                torch.manual_seed(step_seed(seed, step, rank=world.rank, micro_batch=index))
                # gradients add up locally and travel once, in the backward pass of the last micro-batch
                with exchanging(network, exchange=(index + 1) * at_once >= rank_batch):
                    with autocast(config.precision, device):
                        logits = network(clips)
                    # in fp32: a softmax over hundreds of classes loses too much in 16 bits
                    loss = F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
                    # weighted by its share of the batch: the last micro-batch may be smaller
                    loss = loss * (len(labels) / rank_batch)
                    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                right = (logits.detach().argmax(dim=-1) == labels).sum()
                # stays on the device: reading a number would make the CPU wait for the GPU at every micro-batch
                sums += torch.stack([loss.detach(), right, part.replaced.sum().to(device, non_blocking=True)])
        # clipping needs gradients in their true size
        scaler.unscale_(optimizer)
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        grad_norm = nn.utils.get_total_norm(gradients)
        if config.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(model.parameters(), config.clip_norm, grad_norm)
        # read once a step: here the CPU waits for the GPU
        loss_sum, num_right, num_replaced, norm = [*world.total(sums).tolist(), grad_norm.item()]
        counters["replaced_videos"] += int(num_replaced)
        mean_loss = loss_sum / world.size
        # loss and norm are the same on all ranks by now, so all of them take the same branch
        if math.isfinite(mean_loss) and math.isfinite(norm):
            scaler.step(optimizer)
            if average is not None:
                average.update_parameters(model)
        elif math.isfinite(mean_loss) and scaler.get_scale() > 1:
            # the scaled gradient of fp16 overflowed: the scale is lowered, and the next step tries again
            counters["overflow_steps"] += 1
        else:
            counters["nonfinite_steps"] += 1
            # the bad video may be in any rank's share, and rank 0 alone reports
            videos = feed.describe(torch.cat(world.gather(batch.videos)))
            message = nonfinite.explain(model, step=step + 1, loss=mean_loss, norm=norm, videos=videos)
            if counters["nonfinite_steps"] > config.nonfinite_steps:
                raise NonFiniteLossError(f"{message}; the checkpoint before it is intact")
            warn(f"{message}; left out, {counters['nonfinite_steps']} of at most {config.nonfinite_steps}")
        scaler.update()
        done = step + 1

        # -------------------------------------------------------------- log
        now = time.perf_counter()
        metrics = {
            "train/lr": config.lr * factor,
            "train/epoch": done / feed.steps_per_epoch,
            "speed/clips_per_second": effective_batch / (now - step_began_at),
            "speed/data_wait_share": (got_batch_at - step_began_at) / (now - step_began_at),
            "memory/peak_gib": peak_memory(device),
            "data/replaced_videos": counters["replaced_videos"],
        }
        # left out where not finite: NaN is unequal to itself, and a step computed again is compared with its first log
        if math.isfinite(mean_loss):
            metrics |= {"train/loss": mean_loss, "train/top1": 100 * num_right / effective_batch}
        if math.isfinite(norm):
            metrics["train/grad_norm"] = norm
        if config.nonfinite_steps > 0:
            metrics["train/nonfinite_steps"] = counters["nonfinite_steps"]
        if scaler.is_enabled():
            metrics |= {"train/overflow_steps": counters["overflow_steps"], "train/loss_scale": scaler.get_scale()}
        if validation is not None and done % (validation.epochs * feed.steps_per_epoch) == 0:
            validated = validation.score(state.weights_to_test)
            model.train()
            if validated is None:
                # stopped halfway: a step is logged once and whole, so its metrics wait in the checkpoint
                state.pending.update(metrics)
            else:
                metrics |= validated
        if world.is_first and not state.pending:
            watch.log(done, metrics)

        # -------------------------------------------------------------- checkpoint
        # signals reach ranks at different times; a rank that stopped alone would leave the others waiting for it
        stop = world.any(watch.should_stop() or bool(state.pending))
        due = done % feed.steps_per_epoch == 0 or time.monotonic() - saved_at >= checkpoints.seconds
        if world.is_first and (stop or due):
            # log, then checkpoint: one that was ahead of the journal would leave a gap there after a crash
            watch.before_save()
            checkpoint.save(
                checkpoints.directory,
                step=done,
                state=state,
                classes=feed.classes,
                world_size=world.size,
                micro_batch=micro_batch,
            )
            saved_at = time.monotonic()
        # after the last step a stop is no stop, unless its validation is missing
        if stop and (done < total or state.pending):
            # nobody leaves before rank 0 has saved
            world.wait()
            return TrainResult(end=End.STOPPED, step=done, total=total, model=state.weights_to_test)
        step_began_at = time.perf_counter()
    world.wait()
    return TrainResult(end=End.FINISHED, step=done, total=total, model=state.weights_to_test)


def _cut(batch: TrainBatch, size: int) -> Iterator[TrainBatch]:
    """``batch`` in parts of at most ``size`` clips."""
    for parts in zip(*(torch.split(value, size) for value in batch), strict=True):
        yield TrainBatch(*parts)
