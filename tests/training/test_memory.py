"""A batch that is too large says what to do; a long training keeps what it uses; a peak is measured."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.rank_processes import ended, left, ranks
from tests.support.toy_training import CONFIG, CPU, batch_of, small_model
from vswin.config import OptimConfig
from vswin.training.checkpoint import Checkpoints
from vswin.training.feed import Feed
from vswin.training.memory import peak_memory, shortage_explained
from vswin.training.train import Validation, train
from vswin.training.watch import Watch


def too_large(directory: Path, micro_batch: int) -> None:
    """Train on clips of which ``micro_batch`` at once do not fit into what this process may still allocate."""
    torch.set_num_threads(1)
    model = small_model()
    clips = torch.zeros(16, 8, 3, 96, 96, dtype=torch.uint8)
    batch = batch_of(0, size=16)._replace(clips=clips)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, used + 2**27))
    train(
        model,
        Feed(batches=lambda step: iter([batch]), steps_per_epoch=1),
        config=OptimConfig(epochs=1, batch_size=16),
        seed=0,
        checkpoints=Checkpoints(directory=directory),
        watch=Watch(),
        micro_batch=micro_batch,
    )


def test_out_of_memory_names_a_micro_batch_that_fits(tmp_path: Path) -> None:
    def outcome(micro_batch: int) -> dict[str, Any]:
        folder = tmp_path / str(micro_batch)
        ended(ranks(too_large, folder / "checkpoints", micro_batch, size=1, folder=folder))
        return left(folder)[0]

    answer = outcome(16)
    assert answer["error"] == "BatchTooLargeError", answer
    assert "out of memory with micro-batches of 16 clips; use micro_batch=8: 2 of them add up" in answer["message"]
    assert "the effective batch stays 16" in answer["message"]
    assert "DefaultCPUAllocator" in answer["message"]
    # following the advice, as often as it is given, ends in a step that is taken
    micro_batch = 16
    while "error" in answer:
        assert f"use micro_batch={micro_batch // 2}" in answer["message"]
        micro_batch //= 2
        answer = outcome(micro_batch)
    assert answer == {"value": None}
    assert micro_batch >= 1


def test_one_clip_that_does_not_fit_is_told_of_recomputation() -> None:
    with (
        pytest.raises(RuntimeError, match="micro-batches of 1 clips; use activation checkpointing"),
        shortage_explained(micro_batch=1, rank_batch=4, effective_batch=8),
    ):
        torch.empty(2**60)


def test_other_errors_stay_what_they_are() -> None:
    with (
        pytest.raises(RuntimeError, match="size of tensor a"),
        shortage_explained(micro_batch=1, rank_batch=4, effective_batch=8),
    ):
        torch.zeros(2) + torch.zeros(3)


def test_peak_memory_is_what_was_used(tmp_path: Path) -> None:
    ended(ranks(peak_of_a_quarter_gib, size=1, folder=tmp_path))
    [answer] = left(tmp_path)
    before, during, after = answer["value"]
    assert before + 0.2 < during < before + 0.3
    assert after >= during


def peak_of_a_quarter_gib() -> list[float]:
    before = peak_memory(CPU)
    hog = torch.ones(2**26)
    during = peak_memory(CPU)
    del hog
    return [before, during, peak_memory(CPU)]


@pytest.mark.slow
def test_a_thousand_steps_leave_nothing_behind(tmp_path: Path) -> None:
    """Resident memory, open files and processes after 1,000 steps, against those after the first 200."""
    ended(ranks(thousand_steps, tmp_path / "checkpoints", size=1, folder=tmp_path))
    [answer] = left(tmp_path)
    resident, files, children = (answer["value"][name] for name in ("resident", "files", "children"))
    print(f"resident memory from {resident[0] / 2**20:.1f} to {resident[-1] / 2**20:.1f} MiB")
    # less than 4 KiB a step: an activation or a graph that is kept is ten times that
    assert resident[-1] - resident[0] < 800 * 4096
    assert files[-1] <= files[0]
    assert children[-1] <= children[0]
    assert answer["value"]["children_left"] == 0


def thousand_steps(directory: Path) -> dict[str, Any]:
    """Checkpoints every 50 steps; batches by loader workers."""
    torch.set_num_threads(1)
    measured: dict[str, list[int]] = {"resident": [], "files": [], "children": []}

    class Measuring(Watch):
        def log(self, step: int, metrics: Mapping[str, float]) -> None:
            if step >= 200 and step % 100 == 0:
                resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
                measured["resident"].append(resident)
                measured["files"].append(len(list(Path("/proc/self/fd").iterdir())))
                measured["children"].append(_children())

    loader: torch.utils.data.DataLoader[Any] = torch.utils.data.DataLoader(
        [batch_of(step) for step in range(1000)],  # type: ignore[arg-type]
        batch_size=None,
        num_workers=1,
    )
    train(
        small_model(),
        Feed(batches=lambda step: loader, steps_per_epoch=50),
        config=OptimConfig(epochs=20, batch_size=2, ema_decay=0.99, clip_norm=CONFIG.clip_norm),
        seed=0,
        checkpoints=Checkpoints(directory=directory),
        watch=Measuring(),
        micro_batch=1,
        validation=Validation(score=lambda model: {"val/top1": 0.0}),
    )
    return {**measured, "children_left": _children()}


def _children() -> int:
    return len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
