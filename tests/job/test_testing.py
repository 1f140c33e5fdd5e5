"""A test in several processes: they stop together, and none waits for another for longer than it has patience."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.job import testing
from experiments.job.errors import StoppedError
from experiments.job.testing import Evaluator
from experiments.registry.catalogue import find_variant
from experiments.registry.recipe import Scale
from experiments.runs.runtime import Runtime
from tests.support.rank_processes import ended, left, ranks
from vswin.data.annotations import VideoList
from vswin.models import build
from vswin.training.distributed import World, process_group
from vswin.training.watch import Watch


def scored(data: Path, partial: Path, options: dict[str, Any]) -> dict[str, Any]:
    """One process's part of a test of an untrained model, one video a batch, six for each of two processes.

    The last process takes ``slow`` seconds a batch and is asked to stop after ``stop_after`` batches.
    """
    torch.set_num_threads(1)
    testing._MEET_BATCHES = 2
    world = World.from_environment()
    is_last = world.rank == world.size - 1
    recipe = find_variant("table4/joint").at(Scale.TINY)
    torch.manual_seed(0)
    model = build(recipe.model)
    told: list[int] = []

    class Stopping(Watch):
        def should_stop(self) -> bool:
            return is_last and len(told) > options.get("stop_after", 99)

    def on_videos(more: int, total: int) -> None:
        # once before the first batch, then after every batch
        time.sleep(options.get("slow", 0) if is_last and told else 0)
        told.append(more)

    with process_group(world, patience=timedelta(seconds=options.get("patience", 60))):
        evaluator = Evaluator(
            scale=Scale.TINY,
            recipe=recipe,
            videos={
                recipe.protocol.split: VideoList.of_split(
                    data, dataset=recipe.data.dataset, split=recipe.protocol.split
                )
            },
            world=world,
            runtime=Runtime(views_at_once=recipe.protocol.clips),
            watch=Stopping(),
        )
        try:
            predictions = evaluator.predict(model, recipe.protocol, partial=partial, on_videos=on_videos)
        except StoppedError:
            return {"stopped": True, "batches": len(told) - 1}
    return {"stopped": False, "batches": len(told) - 1, "scores": predictions.scores.tolist() if predictions else None}


def run(data: Path, folder: Path, **options: Any) -> list[dict[str, Any]]:
    """What each of two processes returned."""
    ended(ranks(scored, data, folder.parent / "partial", options, size=2, folder=folder))
    return [answer.get("value", answer) for answer in left(folder)]


def test_a_slow_process_is_waited_for(tiny_data: Path, tmp_path: Path) -> None:
    first, last = run(tiny_data, tmp_path / "ranks", slow=2.0, patience=10)
    # six batches of two seconds each are more than the patience
    assert (first.get("stopped"), last.get("stopped"), last["batches"]) == (False, False, 6), (first, last)
    assert np.shape(first["scores"])[0] == 12


@pytest.mark.parametrize("stop_after", [1, 3, 6])
def test_a_stop_of_one_process_stops_all_and_nothing_is_lost(stop_after: int, tiny_data: Path, tmp_path: Path) -> None:
    whole, _ = run(tiny_data, tmp_path / "whole" / "ranks")
    first, last = run(tiny_data, tmp_path / "cut" / "ranks", stop_after=stop_after)
    assert (first.get("stopped"), last.get("stopped")) == (True, True), (first, last)
    # what the stop cannot undo is what was scored before the processes met
    assert last["batches"] == stop_after
    again, _ = run(tiny_data, tmp_path / "cut" / "again")
    assert again["batches"] == (12 - first["batches"] - last["batches"] + 1) // 2
    np.testing.assert_array_equal(again["scores"], whole["scores"])
