"""Chooses the two numbers of the miniature that are not the paper's: the factor on learning rates, and epochs.

    python -m experiments.choose

The rule: every pair of ``RATES`` and ``EPOCHS`` trains the baseline, table4/joint, once for each of ``SEEDS``; the pair
with the best mean accuracy on the validation videos is taken, for everything. No test video is looked at, and no
other variant is. The whole grid is left in results/mini/choice.json; a test sees that mini.py has what it says.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from vswin.config import Split

from . import folders
from .mini import mini
from .recipe import Recipe, Scale
from .registry import find_experiment, find_variant
from .runs import write_json
from .runtime import default_runtime
from .upstream import SEED

BASELINE = "table4/joint"
RATES = (20, 40)
EPOCHS = (8, 12)
SEEDS = (0,)


def recipe_of(rate: int, epochs: int) -> Recipe:
    """The baseline with these numbers, tested on validation videos."""
    paper = find_variant(BASELINE).recipe
    assert paper is not None
    recipe = mini(paper, rate=rate, epochs=epochs)
    return replace(recipe, protocol=replace(recipe.protocol, split=Split.VAL))


def validated(job: tuple[int, int, int]) -> float:
    """Top-1 accuracy on the validation videos of the baseline trained with (rate, epochs, seed)."""
    import torch

    from vswin.data.annotations import VideoList
    from vswin.data.datasets import TrainClips
    from vswin.data.loaders import train_loader
    from vswin.data.sampler import TrainBatches
    from vswin.training.determinism import make_deterministic
    from vswin.training.distributed import World
    from vswin.training.train import train

    from .job import initial_model
    from .testing import TestBench

    rate, epochs, seed = job
    recipe = recipe_of(rate, epochs)
    torch.set_num_threads(1)
    device = torch.device("cpu")
    make_deterministic(device)
    runtime = default_runtime(Scale.MINI)
    videos = {
        split: VideoList.of_split(folders.data(), dataset=recipe.data.dataset, split=split)
        for split in (Split.TRAIN, Split.VAL)
    }
    clips = TrainClips(videos[Split.TRAIN], config=recipe.data, seed=seed, keep_decoded=True)
    batches = TrainBatches(num_videos=len(clips), batch_size=recipe.optim.batch_size, epochs=epochs, seed=seed)
    bench = TestBench(
        scale=Scale.MINI,
        recipe=recipe,
        videos=videos,
        device=device,
        world=World(),
        runtime=runtime,
        warn=print,
    )
    with tempfile.TemporaryDirectory(prefix="vswin-choose-") as folder:
        outcome = train(
            initial_model(recipe, scale=Scale.MINI, seed=seed, runtime=runtime),
            lambda step: train_loader(clips, batches=batches.starting_at(step)),
            config=recipe.optim,
            steps_per_epoch=batches.steps_per_epoch,
            seed=seed,
            directory=Path(folder),
            device=device,
            log=lambda step, metrics: None,
            warn=print,
        )
    predictions = bench.predict(outcome.model, recipe.protocol)
    assert predictions is not None
    return predictions.top(1)


def choice(grid: Mapping[tuple[int, int], list[float]]) -> tuple[int, int]:
    """The pair of the best mean; of two alike the smaller one."""
    return max(sorted(grid), key=lambda pair: mean(grid[pair]))


def main() -> None:
    """Train the grid, two runs at once on two cores, and write what came out."""
    from .job import run_one

    for source in find_experiment(Scale.MINI, find_variant(BASELINE)).upstream:
        run_one(Scale.MINI, source.name, source.recipe.signature, SEED, runtime=default_runtime(Scale.MINI))
    jobs = list(product(RATES, EPOCHS, SEEDS))
    grid: dict[tuple[int, int], list[float]] = {}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=multiprocessing.get_context("spawn")) as pool:
        for (rate, epochs, seed), top1 in zip(jobs, pool.map(validated, jobs), strict=True):
            print(f"rate {rate} x the paper's, {epochs} epochs, seed {seed}: {top1:.1f}", flush=True)
            grid.setdefault((rate, epochs), []).append(top1)
    rate, epochs = choice(grid)
    file = folders.results() / Scale.MINI / "choice.json"
    write_json(file, _content(grid, rate=rate, epochs=epochs))
    print(f"chosen: rate {rate} x the paper's, {epochs} epochs; {file}")


def _content(grid: Mapping[tuple[int, int], list[float]], *, rate: int, epochs: int) -> dict[str, Any]:
    return {
        "baseline": BASELINE,
        "rule": "the best mean top-1 accuracy on the validation videos",
        "seeds": list(SEEDS),
        "grid": [
            {"rate": pair[0], "epochs": pair[1], "signature": recipe_of(*pair).signature, "val_top1": values}
            for pair, values in sorted(grid.items())
        ],
        "chosen": {"rate": rate, "epochs": epochs},
    }


if __name__ == "__main__":
    main()
