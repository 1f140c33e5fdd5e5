"""A training small enough to be repeated: a toy model, batches that are a function of the step, and one attempt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vswin.config import OptimConfig
from vswin.data.batch import TrainBatch
from vswin.models import create_model
from vswin.training import checkpoint
from vswin.training.checkpoint import Checkpoints
from vswin.training.distributed import ALONE, World
from vswin.training.feed import Feed
from vswin.training.optim import build_average, build_optimizer
from vswin.training.train import TrainResult, Validation, train
from vswin.training.watch import Watch

CPU = torch.device("cpu")
CONFIG = OptimConfig(lr=1e-2, batch_size=2, epochs=3, warmup_epochs=1.0)
STEPS_PER_EPOCH = 4
TOTAL = CONFIG.epochs * STEPS_PER_EPOCH


def small_model(**overrides: Any) -> nn.Module:
    """Three classes; stochastic depth and dropout on: their random numbers have to survive a resume."""
    torch.manual_seed(0)
    sizes = {"embed_dim": 8, "depths": (2,), "num_heads": (2,), "window": (2, 4, 4)}
    return create_model("swin_t", num_classes=3, **(sizes | {"drop_path": 0.5, "head_dropout": 0.5} | overrides))


def batch_of(step: int, *, size: int = 2) -> TrainBatch:
    """The batch of step ``step`` (0 is the first): clips of 4 frames of 16 x 16 pixels."""
    generator = torch.Generator().manual_seed(step)
    return TrainBatch(
        clips=torch.randint(256, (size, 4, 3, 16, 16), generator=generator, dtype=torch.uint8),
        labels=torch.randint(3, (size,), generator=generator),
        erased=torch.zeros(size, 4, dtype=torch.int64),
        videos=torch.arange(size * step, size * (step + 1)),
        replaced=torch.zeros(size, dtype=torch.int64),
    )


def batches(step: int) -> Iterator[TrainBatch]:
    for index in range(step, TOTAL):
        yield batch_of(index)


def shares(world: World, *, size: int, total: int) -> Callable[[int], Iterator[TrainBatch]]:
    """What a rank of ``world`` sees of batches of ``size``, ``total`` of them: every ``world.size``-th clip."""

    def batches(step: int) -> Iterator[TrainBatch]:
        for index in range(step, total):
            yield TrainBatch(*(value[world.rank :: world.size] for value in batch_of(index, size=size)))

    return batches


class Poisonable(nn.Module):
    """Gives NaN for clips whose first pixel is 255, which ``spoilt`` makes them at some steps."""

    def __init__(self, model: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = model or small_model()

    def forward(self, clips: Tensor) -> Tensor:
        poison = torch.where(clips[:, 0, 0, 0, 0] > 2, torch.nan, 0.0)
        return self.backbone(clips) + poison[:, None]


def spoilt(*steps: int) -> Callable[[int], Iterator[TrainBatch]]:
    """The usual batches, but what gives NaN at ``steps`` (from 1)."""

    def feed(step: int) -> Iterator[TrainBatch]:
        for index in range(step, TOTAL):
            batch = batch_of(index)
            batch.clips[:, 0, 0, 0, 0] = 255 if index + 1 in steps else 0
            yield batch

    return feed


def fresh_state(model: nn.Module, *, config: OptimConfig = CONFIG) -> checkpoint.TrainState:
    """What a training of ``model`` starts with."""
    return checkpoint.TrainState(
        model=model, optimizer=build_optimizer(model, config), average=build_average(model, config)
    )


def saved_weights(path: Path) -> dict[str, Tensor]:
    """The state dict to test in a checkpoint, averaged where the recipe averages."""
    tensors = load_file(path)
    prefix = "average/module." if any(name.startswith("average/") for name in tensors) else "model/"
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def digest(model: nn.Module) -> str:
    """Of every weight, to the bit."""
    content = hashlib.sha256()
    for value in model.state_dict().values():
        content.update(value.numpy().tobytes())
    return content.hexdigest()


class Attempt(Watch):
    """Trains in ``directory``, asked to stop after ``stop_at`` steps. What it logged and warned of is kept."""

    def __init__(
        self,
        directory: Path,
        *,
        model: nn.Module | None = None,
        batches: Callable[[int], Iterable[TrainBatch]] = batches,
        config: OptimConfig = CONFIG,
        world: World = ALONE,
        micro_batch: int | None = None,
        validate: Callable[[nn.Module], Mapping[str, float] | None] | None = None,
        validate_epochs: int = 1,
        classes: tuple[str, ...] = (),
        stop_at: int | None = None,
        checkpoint_seconds: float = 1e9,
        before_save: Callable[[], None] = lambda: None,
    ) -> None:
        self.metrics: dict[int, dict[str, float]] = {}
        self.warnings: list[str] = []
        self.saved_after: list[int] = []
        self._may_save = before_save
        self._stop_at = stop_at
        self.model = model or small_model()
        self.outcome: TrainResult = train(
            self.model,
            Feed(batches=batches, steps_per_epoch=STEPS_PER_EPOCH, classes=classes),
            config=config,
            seed=7,
            checkpoints=Checkpoints(directory=directory, seconds=checkpoint_seconds),
            watch=self,
            world=world,
            micro_batch=micro_batch,
            validation=Validation(score=validate, epochs=validate_epochs) if validate else None,
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        assert step not in self.metrics
        self.metrics[step] = dict(metrics)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def before_save(self) -> None:
        self._may_save()
        self.saved_after.append(max(self.metrics, default=0))

    def should_stop(self) -> bool:
        return max(self.metrics, default=0) == self._stop_at

    def computed(self) -> dict[int, dict[str, float]]:
        """What every step computed, without what measures the machine."""
        return {
            step: {name: value for name, value in metrics.items() if not name.startswith(("speed/", "memory/"))}
            for step, metrics in self.metrics.items()
        }

    @property
    def losses(self) -> dict[int, float]:
        return {step: metrics["train/loss"] for step, metrics in self.metrics.items()}

    @property
    def digest(self) -> str:
        return digest(self.model)
