"""The loop resumes to the bit, checkpoints are whole or absent, evaluation averages views."""

import hashlib
import itertools
import resource
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from vswin.config import OptimConfig
from vswin.data.batch import TrainBatch
from vswin.models import create_model
from vswin.training import checkpoint
from vswin.training.optim import build_optimizer
from vswin.training.train import End, NonFiniteLossError, Outcome, train

CPU = torch.device("cpu")
CONFIG = OptimConfig(lr=1e-2, batch_size=2, epochs=3, warmup_epochs=1.0)
STEPS_PER_EPOCH = 4
TOTAL = CONFIG.epochs * STEPS_PER_EPOCH


def small_model() -> nn.Module:
    torch.manual_seed(0)
    # stochastic depth and dropout on: their random numbers have to survive a resume
    return create_model(
        "swin_t",
        num_classes=3,
        embed_dim=8,
        depths=(2,),
        num_heads=(2,),
        window=(2, 4, 4),
        drop_path=0.5,
        head_dropout=0.5,
    )


def batches(step: int) -> Iterator[TrainBatch]:
    for index in range(step, TOTAL):
        generator = torch.Generator().manual_seed(index)
        yield TrainBatch(
            clips=torch.randint(256, (2, 4, 3, 16, 16), generator=generator, dtype=torch.uint8),
            labels=torch.randint(3, (2,), generator=generator),
            erased=torch.zeros(2, 4, dtype=torch.int64),
            videos=torch.tensor([2 * index, 2 * index + 1]),
            replaced=torch.zeros(2, dtype=torch.int64),
        )


class Attempt:
    """Trains in ``directory``, asked to stop after ``stop_at`` steps."""

    def __init__(
        self,
        directory: Path,
        *,
        stop_at: int | None = None,
        checkpoint_seconds: float = 1e9,
        before_save: Callable[[], None] = lambda: None,
    ) -> None:
        self.losses: dict[int, float] = {}
        self.warnings: list[str] = []
        self.model = small_model()
        self.outcome: Outcome = train(
            self.model,
            batches,
            config=CONFIG,
            steps_per_epoch=STEPS_PER_EPOCH,
            seed=7,
            directory=directory,
            device=CPU,
            log=self._log,
            warn=self.warnings.append,
            before_save=before_save,
            should_stop=lambda: len(self.losses) == stop_at,
            checkpoint_seconds=checkpoint_seconds,
        )

    def _log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.losses[step] = metrics["train/loss"]

    @property
    def digest(self) -> str:
        content = hashlib.sha256()
        for value in self.model.state_dict().values():
            content.update(value.numpy().tobytes())
        return content.hexdigest()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Attempt:
    return Attempt(tmp_path_factory.mktemp("undisturbed"))


def test_undisturbed_run_takes_every_step(undisturbed: Attempt) -> None:
    assert undisturbed.outcome == Outcome(End.FINISHED, TOTAL)
    assert list(undisturbed.losses) == list(range(1, TOTAL + 1))


@pytest.mark.parametrize("stop_at", [1, 4, 7, TOTAL - 1])
def test_resume_is_equal_to_the_bit(stop_at: int, undisturbed: Attempt, tmp_path: Path) -> None:
    first = Attempt(tmp_path, stop_at=stop_at)
    assert first.outcome == Outcome(End.STOPPED, stop_at)
    second = Attempt(tmp_path)
    assert {**first.losses, **second.losses} == undisturbed.losses
    assert list(second.losses) == list(range(stop_at + 1, TOTAL + 1))
    assert second.digest == undisturbed.digest


def test_damaged_newest_checkpoint_falls_back_to_the_one_before(undisturbed: Attempt, tmp_path: Path) -> None:
    Attempt(tmp_path, stop_at=5, checkpoint_seconds=0)
    older, newest = checkpoint.available(tmp_path)
    assert (older.name, newest.name) == ("step-00000004.safetensors", "step-00000005.safetensors")
    content = bytearray(newest.read_bytes())
    content[-3] ^= 1
    newest.write_bytes(content)
    second = Attempt(tmp_path)
    assert ["step-00000005" in warning and "going on from step 4" in warning for warning in second.warnings] == [True]
    assert second.digest == undisturbed.digest


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_truncated_checkpoint_is_refused(keep: int, tmp_path: Path) -> None:
    Attempt(tmp_path, stop_at=1)
    [only] = checkpoint.available(tmp_path)
    only.write_bytes(only.read_bytes()[:keep])
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(checkpoint.CheckpointError, match="no usable checkpoint"):
        checkpoint.load_newest(tmp_path, model=model, optimizer=build_optimizer(model, CONFIG))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    Attempt(tmp_path, stop_at=1)
    other = create_model("swin_t", num_classes=4, embed_dim=8, depths=(2,), num_heads=(2,), window=(2, 4, 4))
    with pytest.raises(checkpoint.CheckpointError, match=r"belongs to another model: 2 entries differ, first cls_head"):
        checkpoint.load_newest(tmp_path, model=other, optimizer=build_optimizer(other, CONFIG))


def test_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    Attempt(tmp_path, stop_at=1)
    # files of this process may not grow beyond what is left of a disk; the signal would end it
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(checkpoint.CheckpointError, match="the checkpoints before it are intact"):
            Attempt(tmp_path, stop_at=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.safetensors"]


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / "step-00000099.partial").write_bytes(b"half")
    Attempt(tmp_path, stop_at=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.safetensors"]


def test_an_attempt_that_lost_its_run_saves_nothing(tmp_path: Path) -> None:
    def fenced() -> None:
        raise RuntimeError("fenced")

    with pytest.raises(RuntimeError, match="fenced"):
        Attempt(tmp_path, stop_at=1, before_save=fenced)
    assert checkpoint.available(tmp_path) == []


def test_infinite_loss_stops_before_the_weights_are_touched(tmp_path: Path) -> None:
    model = small_model()

    def poisoned(step: int) -> Iterator[TrainBatch]:
        yield from itertools.islice(batches(0), 2)
        with torch.no_grad():
            next(model.parameters()).fill_(torch.inf)
        yield next(iter(batches(2)))

    with pytest.raises(NonFiniteLossError, match="loss is nan at step 3"):
        train(
            model,
            poisoned,
            config=CONFIG,
            steps_per_epoch=STEPS_PER_EPOCH,
            seed=7,
            directory=tmp_path,
            device=CPU,
            log=lambda step, metrics: None,
            warn=lambda message: None,
        )
    others = list(model.parameters())[1:]
    assert all(torch.isfinite(value).all() for value in others)
