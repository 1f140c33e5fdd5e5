"""A run goes on where other bits are computed, as often as it has to, and never mixes what belongs to other weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import folders
from experiments.files import write_json
from experiments.job.body import run_one
from experiments.registry.catalogue import find_experiment, find_variant
from experiments.registry.recipe import Scale
from experiments.results.record import load
from experiments.runs.directory import RunDirectory
from experiments.runs.journal import read
from experiments.runs.runtime import Runtime
from tests.support.toy_training import saved_weights
from vswin.data.annotations import Split, VideoList
from vswin.models import read_checkpoint
from vswin.training import checkpoint

EXPERIMENT = find_experiment(Scale.TINY, find_variant("table4/joint"))
HERE = Runtime()
# the random numbers of a step are other ones in micro-batches, so this is as good as another machine
ELSEWHERE = Runtime(micro_batch=1)


def attempt(runtime: Runtime, *, on_step: Callable[[int, Mapping[str, float]], None] = lambda *_: None) -> RunDirectory:
    run = RunDirectory(Scale.TINY, EXPERIMENT.recipe.signature, 0)
    if run.attempt.exists():
        # as if this process had ended
        write_json(run.attempt, {**json.loads(run.attempt.read_text()), "boot": "an earlier one"})
    run_one(Scale.TINY, EXPERIMENT.name, run.signature, run.seed, runtime=runtime, on_step=on_step)
    return run


def killed_after(last: int) -> Callable[[int, Mapping[str, float]], None]:
    def on_step(step: int, metrics: Mapping[str, float]) -> None:
        if step == last:
            raise SystemExit("killed")

    return on_step


@pytest.fixture
def before_the_last_epoch(home: Path) -> RunDirectory:
    """A run that was trained to its end, and then lost its newest checkpoint and its test."""
    run = attempt(HERE)
    checkpoint.available(run.checkpoints)[-1].unlink()
    [result] = run.results()
    result.unlink()
    return run


def test_a_run_killed_elsewhere_goes_on_there(
    before_the_last_epoch: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    run = before_the_last_epoch
    lines = [entry for entry, _ in read(run.journal)]
    with pytest.raises(SystemExit):
        attempt(ELSEWHERE, on_step=killed_after(29))
    assert "resumes under other conditions (micro_batch None -> 1)" in capsys.readouterr().out
    attempt(ELSEWHERE)
    assert "elsewhere" not in capsys.readouterr().out
    assert [entry for entry, _ in read(run.journal)] == lines
    assert len(run.results()) == 1


@pytest.mark.parametrize("left", [0, 3])
def test_steps_that_a_journal_lost_are_named_wherever_they_are_missed(
    before_the_last_epoch: RunDirectory, left: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = before_the_last_epoch
    [kept] = checkpoint.available(run.checkpoints)
    saved = int(kept.stem.removeprefix("step-"))
    lines = [entry for entry, _ in read(run.journal)]
    if left:
        run.journal.write_bytes(b"".join(run.journal.read_bytes().splitlines(keepends=True)[:left]))
    else:
        run.journal.unlink()
    attempt(HERE)
    assert f"warning: steps {left + 1} to {saved} are missing in {run.journal}" in capsys.readouterr().out
    entries = [entry for entry, _ in read(run.journal)]
    assert [entry.step for entry in entries] == [*range(1, left + 1), *range(saved + 1, lines[-1].step + 1)]
    assert [entry.missing for entry in entries if entry.missing] == [(left + 1, saved)]
    [result] = run.results()
    assert load(result).provenance.missing_steps == ((left + 1, saved),)


def test_what_was_made_of_weights_that_are_trained_again_is_dropped(before_the_last_epoch: RunDirectory) -> None:
    run = before_the_last_epoch
    before = read_checkpoint(run.weights)
    protocol = EXPERIMENT.recipe.protocol_signature
    with np.load(run.result(protocol).with_suffix(".npz")) as archive:
        first = {name: archive[name][:5] for name in archive.files} | {"scores": np.full((5, 6), 0.25, np.float32)}
    videos = VideoList.of_split(folders.data(), dataset=EXPERIMENT.recipe.data.dataset, split=Split.VAL)
    partial = run.partial_result(protocol, videos=videos.fingerprint)
    partial.mkdir()
    np.savez_compressed(partial / "from-0000000.npz", **first)
    attempt(ELSEWHERE)
    trained = saved_weights(checkpoint.available(run.checkpoints)[-1])
    after = read_checkpoint(run.weights)
    assert all(torch.equal(value, trained[name]) for name, value in after.items())
    assert not all(torch.equal(value, before[name]) for name, value in after.items())
    with np.load(run.result(protocol).with_suffix(".npz")) as archive:
        assert (archive["scores"] != 0.25).any(axis=1).all()
