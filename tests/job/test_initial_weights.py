"""Weights that runs start from: identified by what they hold, never trained on when damaged, made again when lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from experiments.files import write_json
from experiments.job.body import run_one
from experiments.job.errors import OtherDataError, UpstreamError
from experiments.job.provenance import sha256
from experiments.launch.plan import Action, Mode, plan_now
from experiments.registry.catalogue import find_experiment, find_variant
from experiments.registry.recipe import Scale
from experiments.registry.stand_ins import SEED
from experiments.results.record import load
from experiments.runs.directory import RunDirectory
from experiments.runs.run import Run
from experiments.runs.runtime import Runtime
from vswin.models import read_checkpoint, tensor_digest
from vswin.training import checkpoint

EXPERIMENT = find_experiment(Scale.TINY, find_variant("table4/joint"))
[SOURCE] = EXPERIMENT.upstream
RUN = Run(EXPERIMENT, 0).directory
UPSTREAM = Run(SOURCE, SEED).directory


def attempt(run: RunDirectory = RUN, *, until: int | None = None) -> None:
    """Train ``run``, or have it die after step ``until``."""

    def on_step(step: int, metrics: Mapping[str, float]) -> None:
        if step == until:
            raise SystemExit("killed")

    name = EXPERIMENT.name if run == RUN else SOURCE.name
    run_one(Scale.TINY, name, run.signature, run.seed, runtime=Runtime(), on_step=on_step)


def end_process(run: RunDirectory) -> None:
    write_json(run.attempt, {**json.loads(run.attempt.read_text()), "boot": "an earlier one"})


@pytest.fixture
def interrupted(home: Path) -> RunDirectory:
    """A run that was killed in its third step."""
    end_process(UPSTREAM)
    with pytest.raises(SystemExit):
        attempt(until=3)
    end_process(RUN)
    return RUN


def write_as_before(path: Path) -> None:
    """Rewrite weights as earlier versions did: without digests, metadata in whatever order."""
    digest = sha256(path)
    with safe_open(path, framework="pt") as file:
        texts = {name: text for name, text in file.metadata().items() if not name.endswith("_digest")}
    while sha256(path) == digest:
        save_file(load_file(path), path, metadata=texts)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def test_upstream_weights_made_again_from_their_checkpoint_are_the_same_file(interrupted: RunDirectory) -> None:
    before = UPSTREAM.weights.read_bytes()
    UPSTREAM.weights.unlink()
    attempt(UPSTREAM)
    assert UPSTREAM.weights.read_bytes() == before
    attempt()
    [result] = RUN.results()
    started = load(result).provenance.started_from
    assert started is not None
    assert started.sha256 == sha256(UPSTREAM.weights)
    assert started.tensors == tensor_digest(read_checkpoint(UPSTREAM.weights))


def test_equal_tensors_in_another_file_are_the_weights_that_a_run_began_with(interrupted: RunDirectory) -> None:
    write_as_before(UPSTREAM.weights)
    attempt()
    assert len(RUN.results()) == 1
    assert json.loads(RUN.data.read_text())["weights"] == sha256(UPSTREAM.weights)


def test_a_run_of_an_earlier_version_goes_on_with_the_same_file(interrupted: RunDirectory) -> None:
    noted = json.loads(RUN.data.read_text())
    write_json(RUN.data, {name: digest for name, digest in noted.items() if name != "tensors"})
    with pytest.raises(SystemExit):
        attempt(until=4)
    # from now on it is known what the file held
    assert json.loads(RUN.data.read_text()) == noted


def test_a_run_of_an_earlier_version_refuses_another_file(interrupted: RunDirectory) -> None:
    noted = json.loads(RUN.data.read_text())
    write_json(RUN.data, {name: digest for name, digest in noted.items() if name != "tensors"})
    write_as_before(UPSTREAM.weights)
    with pytest.raises(OtherDataError, match="the weights it started from are not those that this run began with"):
        attempt()


def test_damaged_weights_are_never_trained_on(home: Path) -> None:
    end_process(UPSTREAM)
    before = UPSTREAM.weights.read_bytes()
    flip_a_byte(UPSTREAM.weights)
    remedy = rf"vswin run {SOURCE.name} --scale tiny makes it again from its checkpoint"
    with pytest.raises(UpstreamError, match=rf"weights\.safetensors is damaged: the tensors in it .*; {remedy}"):
        attempt()
    assert RUN.last_step() == 0
    # as it says: by name, or with whatever needs it
    for experiments in ([SOURCE], [EXPERIMENT]):
        [first, *rest] = plan_now(experiments, seeds=[0], mode=Mode.RETRY)
        assert (first.run.directory, first.action) == (UPSTREAM, Action.RESUME)
        assert "its weights are missing or damaged" in first.why
        assert [step.waits_for for step in rest] == [(first.run,)] * len(rest)
    steps = UPSTREAM.last_step()
    attempt(UPSTREAM)
    assert UPSTREAM.weights.read_bytes() == before
    assert UPSTREAM.last_step() == steps


def test_weights_that_nothing_needs_are_not_missed(interrupted: RunDirectory) -> None:
    attempt()
    UPSTREAM.weights.unlink()
    assert {step.action for step in plan_now([EXPERIMENT], seeds=[0])} == {Action.DONE}
    assert plan_now([EXPERIMENT], seeds=[0, 1])[0].action is Action.RESUME


def test_weights_are_made_again_without_a_checkpoint(home: Path) -> None:
    end_process(UPSTREAM)
    before = UPSTREAM.weights.read_bytes()
    UPSTREAM.weights.unlink()
    for path in checkpoint.available(UPSTREAM.checkpoints):
        path.unlink()
    attempt(UPSTREAM)
    assert UPSTREAM.weights.read_bytes() == before
