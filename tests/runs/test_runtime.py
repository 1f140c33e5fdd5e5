"""Hardware policy: one place says on what a run is computed, and how many at once."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from experiments.registry.recipe import Scale
from experiments.runs.runtime import Runtime, default_runtime


@pytest.mark.parametrize("scale", [Scale.MINI, Scale.TINY])
def test_the_miniature_takes_one_core_a_run_and_keeps_its_videos(scale: Scale, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)))
    runtime = default_runtime(scale)
    assert (runtime.device, runtime.threads, runtime.workers, runtime.keep_decoded) == ("cpu", 1, 0, True)
    # a GPU that happens to be there changes no bit of it
    assert runtime.runs_at_once(gpus=2) == 6
    assert default_runtime(scale, cpu=True) == runtime


def test_the_paper_takes_a_gpu_a_run_or_the_whole_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)))
    runtime = default_runtime(Scale.PAPER)
    assert (runtime.device, runtime.threads, runtime.workers, runtime.keep_decoded) == ("cuda", None, 6, False)
    assert [runtime.runs_at_once(gpus=gpus) for gpus in (0, 1, 4)] == [1, 1, 4]
    without = default_runtime(Scale.PAPER, cpu=True)
    assert (without.device, without.unit, without.runs_at_once(gpus=4)) == ("cpu", "core", 1)
    # a job of a cluster has the cores of its profile, not those of the login node
    assert default_runtime(Scale.PAPER, cores=3).workers == 3
    assert default_runtime(Scale.PAPER, cores=64).workers == 8


def test_a_job_gets_all_of_it_as_plain_data() -> None:
    runtime = default_runtime(Scale.PAPER, micro_batch=4, recompute=True)
    assert Runtime(**asdict(runtime)) == runtime
    assert {type(value) for value in asdict(runtime).values()} <= {str, int, float, bool, type(None)}
