"""The loop resumes to the bit; checkpoints are whole or absent, and say what they hold."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from tests.support.toy_models import TOYS, Toy
from tests.support.toy_training import (
    CONFIG,
    STEPS_PER_EPOCH,
    TOTAL,
    Attempt,
    batch_of,
    digest,
    fresh_state,
    saved_weights,
    small_model,
)
from vswin.config import Optimizer, Precision, Schedule
from vswin.data.batch import TrainBatch
from vswin.models import create_model
from vswin.training import checkpoint
from vswin.training.train import End

RECIPES = {
    "adamw": CONFIG,
    "sgd": replace(CONFIG, optimizer=Optimizer.SGD, schedule=Schedule.STEPS, milestones=(1, 2)),
    "averaged": replace(CONFIG, ema_decay=0.9, clip_norm=0.5, label_smoothing=0.1),
    "bf16": replace(CONFIG, precision=Precision.BF16),
    "fp16": replace(CONFIG, precision=Precision.FP16),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Attempt:
    return Attempt(tmp_path_factory.mktemp("undisturbed"))


def test_undisturbed_run_takes_every_step(undisturbed: Attempt) -> None:
    assert (undisturbed.outcome.end, undisturbed.outcome.step) == (End.FINISHED, TOTAL)
    assert list(undisturbed.losses) == list(range(1, TOTAL + 1))


@pytest.mark.parametrize("stop_at", [1, 4, 7, TOTAL - 1])
def test_resume_is_equal_to_the_bit(stop_at: int, undisturbed: Attempt, tmp_path: Path) -> None:
    first = Attempt(tmp_path, stop_at=stop_at)
    assert (first.outcome.end, first.outcome.step) == (End.STOPPED, stop_at)
    second = Attempt(tmp_path)
    assert {**first.computed(), **second.computed()} == undisturbed.computed()
    assert list(second.losses) == list(range(stop_at + 1, TOTAL + 1))
    assert second.digest == undisturbed.digest


@pytest.mark.parametrize("recipe", list(RECIPES)[1:])
def test_resume_is_equal_to_the_bit_for_every_kind_of_recipe(recipe: str, tmp_path: Path) -> None:
    config = RECIPES[recipe]
    whole = Attempt(tmp_path / "whole", config=config, micro_batch=1)
    first = Attempt(tmp_path / "cut", config=config, micro_batch=1, stop_at=6)
    second = Attempt(tmp_path / "cut", config=config, micro_batch=1)
    assert {**first.computed(), **second.computed()} == whole.computed()
    assert second.digest == whole.digest
    assert digest(second.outcome.model) == digest(whole.outcome.model)


def test_a_finished_training_is_not_trained_again(undisturbed: Attempt, tmp_path: Path) -> None:
    Attempt(tmp_path)
    again = Attempt(tmp_path)
    assert (again.outcome.end, again.outcome.step, again.metrics) == (End.FINISHED, TOTAL, {})
    assert digest(again.outcome.model) == undisturbed.digest


def test_the_end_of_an_epoch_leaves_a_checkpoint(tmp_path: Path) -> None:
    assert Attempt(tmp_path).saved_after == [STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH, TOTAL]
    assert [path.name for path in checkpoint.available(tmp_path)] == [
        "step-00000008.safetensors",
        "step-00000012.safetensors",
    ]


def test_time_leaves_a_checkpoint_at_the_next_step(tmp_path: Path) -> None:
    assert Attempt(tmp_path, checkpoint_seconds=0).saved_after == list(range(1, TOTAL + 1))


def test_validation_joins_the_step_it_follows_and_is_repeated_by_a_resume(tmp_path: Path) -> None:
    validated: list[str] = []

    def validate(model: nn.Module) -> Mapping[str, float]:
        model.eval()
        validated.append(digest(model))
        return {"val/first_weight": next(model.parameters()).flatten()[0].item()}

    whole = Attempt(tmp_path / "whole", validate=validate, validate_epochs=2)
    assert [step for step, metrics in whole.metrics.items() if "val/first_weight" in metrics] == [8]

    validated.clear()
    config = replace(CONFIG, ema_decay=0.5)
    whole = Attempt(tmp_path / "average", config=config, validate=validate)
    # what is validated is what will be tested: the averaged weights
    assert validated[-1] == digest(whole.outcome.model) != whole.digest
    first = Attempt(tmp_path / "cut", config=config, validate=validate, stop_at=7)
    second = Attempt(tmp_path / "cut", config=config, validate=validate)
    assert {**first.computed(), **second.computed()} == whole.computed()
    assert second.digest == whole.digest


@pytest.mark.parametrize("step", [STEPS_PER_EPOCH, TOTAL])
def test_a_stop_during_a_validation_leaves_it_to_the_next_attempt(step: int, tmp_path: Path) -> None:
    """On real data a validation takes minutes, more than a job has from its stop signal to its end."""

    def validate(model: nn.Module) -> Mapping[str, float] | None:
        return {"val/first_weight": next(model.parameters()).flatten()[0].item()}

    answers = [validate] * (step // STEPS_PER_EPOCH - 1) + [lambda model: None]
    first = Attempt(tmp_path / "cut", validate=lambda model: answers.pop(0)(model))
    assert (first.outcome.end, first.outcome.step) == (End.STOPPED, step)
    assert max(first.metrics) == step - 1
    again = Attempt(tmp_path / "cut", validate=lambda model: None)
    assert (again.outcome.end, again.outcome.step, again.metrics) == (End.STOPPED, step, {})
    last = Attempt(tmp_path / "cut", validate=validate)
    assert last.outcome.end is End.FINISHED
    whole = Attempt(tmp_path / "whole", validate=validate)
    assert {**first.computed(), **last.computed()} == whole.computed()
    assert last.digest == whole.digest


def test_videos_that_were_replaced_are_counted_over_attempts(tmp_path: Path) -> None:
    def feed(step: int) -> Iterator[TrainBatch]:
        for index in range(step, TOTAL):
            yield batch_of(index)._replace(replaced=torch.tensor([2, 0] if index in (3, 8) else [0, 0]))

    Attempt(tmp_path, batches=feed, stop_at=6)
    second = Attempt(tmp_path, batches=feed)
    counts = [metrics["data/replaced_videos"] for metrics in second.metrics.values()]
    assert counts == [2, 2, 4, 4, 4, 4]


# ---------------------------------------------------------------------------------------------------- checkpoints
def test_a_checkpoint_says_what_it_holds_without_unpickling(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, classes=("red-green", "green-red", "other"), micro_batch=1)
    newest = checkpoint.available(tmp_path)[-1]
    with safe_open(newest, framework="pt") as file:
        header = {name: json.loads(value) for name, value in file.metadata().items() if name != "digest"}
    assert header == {
        "schema": 2,
        "step": TOTAL,
        "counters": {"nonfinite_steps": 0, "overflow_steps": 0, "replaced_videos": 0},
        "pending": {},
        "scaler": {},
        "classes": ["red-green", "green-red", "other"],
        "world_size": 1,
        "micro_batch": 1,
    }
    model = small_model()
    model.load_state_dict(saved_weights(newest))
    assert digest(model) == attempt.digest


def test_equal_states_make_equal_files_and_those_of_earlier_versions_are_read(tmp_path: Path) -> None:
    for number in range(4):
        Attempt(tmp_path / str(number), stop_at=1)
    first, *others = [checkpoint.available(tmp_path / str(number))[-1] for number in range(4)]
    assert {path.read_bytes() for path in others} == {first.read_bytes()}
    # as the library writes them
    with safe_open(first, framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(first), first, metadata=metadata)
    assert checkpoint.load(first, state=fresh_state(small_model())) == 1


def test_averaged_weights_are_the_ones_to_test(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, config=RECIPES["averaged"])
    model = small_model()
    model.load_state_dict(saved_weights(checkpoint.available(tmp_path)[-1]))
    assert digest(model) == digest(attempt.outcome.model) != attempt.digest


@pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)
def test_every_family_comes_back_from_a_checkpoint(toy: Toy, tmp_path: Path) -> None:
    models = [toy.model()]
    if toy is TOYS["perceiver"]:
        # two names for the same memory, which the format refuses
        models.append(toy.model(weight_sharing="after_first", depth=3))
    for number, model in enumerate(models):
        state = fresh_state(model, config=replace(CONFIG, backbone_lr_ratio=1.0))
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.1)
        state.optimizer.step()
        before = digest(model)
        checkpoint.save(tmp_path / str(number), step=1, state=state)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        state.optimizer.state.clear()
        assert checkpoint.load_newest(tmp_path / str(number), state=state) == (1, [])
        assert digest(model) == before
        assert len(state.optimizer.state) == len(list(model.parameters()))


def test_damaged_newest_checkpoint_falls_back_to_the_one_before(undisturbed: Attempt, tmp_path: Path) -> None:
    Attempt(tmp_path, stop_at=5, checkpoint_seconds=0)
    older, newest = checkpoint.available(tmp_path)
    assert (older.name, newest.name) == ("step-00000004.safetensors", "step-00000005.safetensors")
    content = bytearray(newest.read_bytes())
    content[-3] ^= 1
    newest.write_bytes(content)
    second = Attempt(tmp_path)
    assert ["step-00000005" in warning and "resuming from step 4" in warning for warning in second.warnings] == [True]
    assert second.digest == undisturbed.digest


def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path) -> None:
    Attempt(tmp_path, stop_at=1)
    [only] = checkpoint.available(tmp_path)
    whole = only.read_bytes()
    places = [*range(0, 600, 7), *range(600, len(whole), len(whole) // 200)]
    # the step stands in the header: a digest of the tensors alone would not notice another one
    places.append(whole.index(b'"step":"1"') + len(b'"step":"'))
    state = fresh_state(small_model())
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1
        only.write_bytes(damaged)
        with pytest.raises(checkpoint.CheckpointError):
            checkpoint.load(only, state=state)
    only.write_bytes(whole)
    assert checkpoint.load(only, state=state) == 1


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_truncated_checkpoint_is_refused(keep: int, tmp_path: Path) -> None:
    Attempt(tmp_path, stop_at=1)
    [only] = checkpoint.available(tmp_path)
    only.write_bytes(only.read_bytes()[:keep])
    model = small_model()
    before = digest(model)
    with pytest.raises(checkpoint.CheckpointError, match="no usable checkpoint"):
        checkpoint.load_newest(tmp_path, state=fresh_state(model))
    assert digest(model) == before


def test_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    Attempt(tmp_path, stop_at=1)
    other = create_model("swin_t", num_classes=4, embed_dim=8, depths=(2,), num_heads=(2,), window=(2, 4, 4))
    with pytest.raises(checkpoint.CheckpointError, match=r"belongs to another model: 2 entries differ, first cls_head"):
        checkpoint.load_newest(tmp_path, state=fresh_state(other))


@pytest.mark.parametrize(
    ("saved", "loaded", "reason"),
    [
        ("adamw", "averaged", "belongs to another model"),
        ("averaged", "adamw", "belongs to another model"),
        ("adamw", "fp16", "only one of the two scales its loss"),
    ],
)
def test_checkpoint_of_another_recipe_is_refused(saved: str, loaded: str, reason: str, tmp_path: Path) -> None:
    Attempt(tmp_path, config=RECIPES[saved], stop_at=1)
    with pytest.raises(checkpoint.CheckpointError, match=reason):
        Attempt(tmp_path, config=RECIPES[loaded])


def test_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    Attempt(tmp_path, stop_at=1)
    # files of this process may not grow beyond what is left of a disk; the signal would end it
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(checkpoint.CheckpointError, match="the checkpoints before it are intact"):
            Attempt(tmp_path, stop_at=2)
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
