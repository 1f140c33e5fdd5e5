"""Which GPU a run on this machine is given. There is none here: only names are tested."""

from __future__ import annotations

import os
from dataclasses import asdict

import pytest
import torch

from experiments.job.clock import gpus
from experiments.launch import local as launch
from experiments.launch.executors import Work
from experiments.launch.local import launch_local, places
from experiments.launch.plan import Action, Step
from experiments.registry.catalogue import experiments, find_table
from experiments.registry.recipe import Scale
from experiments.runs.attempts import Ownership, Process, Submission
from experiments.runs.run import Run
from experiments.runs.runtime import Runtime, default_runtime
from vswin.training.distributed import World


@pytest.mark.parametrize(
    ("visible", "count", "names"),
    [
        (None, 2, ["0", "1"]),
        ("4,5", 2, ["4", "5"]),
        ("GPU-8932f937,GPU-1f2e", 2, ["GPU-8932f937", "GPU-1f2e"]),
        # CUDA sees none after one that is not there
        ("1,-1,0", 1, ["1"]),
        ("", 0, []),
    ],
)
def test_gpus_are_called_as_the_launcher_was_told(
    visible: str | None, count: int, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert launch._gpus() == names
    assert places(default_runtime(Scale.PAPER)) == max(1, count)


def test_a_job_sees_its_own_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    Work()([], asdict(Runtime()))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    again = Work().checkpoint([], asdict(Runtime()), gpu="GPU-1f2e")
    again.function(*again.args, **again.kwargs)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-1f2e"


@pytest.mark.usefixtures("home")
def test_a_gpu_that_another_launcher_gave_away_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_gpus", lambda: ["GPU-a", "GPU-b"])
    busy, new = [
        Step(Run(experiment, 0), action, "")
        for experiment, action in zip(
            experiments(Scale.PAPER, [find_table("table4")]), (Action.RUNNING, Action.SUBMIT), strict=False
        )
    ]
    Ownership(busy.run.directory)
    Submission(profile="local", at=0.0, log="", process=Process.of(os.getpid()), gpu="GPU-b").note(busy.run.directory)
    ends = launch_local(
        [busy, new],
        jobs=2,
        runtime=default_runtime(Scale.PAPER),
        on_start=lambda step: None,
        on_poll=lambda under_way: None,
    )
    # it ends at once, since there is no GPU
    assert next(ends).step == new
    ends.close()
    given = Submission.of(new.run.directory)
    assert given is not None
    assert given.gpu == "GPU-a"


def test_energy_is_not_counted_where_a_process_sees_its_own_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert gpus(World(rank=0, size=8, device=torch.device("cuda", 0))) == []
