"""Chooses the numbers of the miniature that are not the paper's: the factors on its learning rates.

    python -m experiments.choose image        then put into mini.py what it says, and go on:
    python -m experiments.choose adamw
    python -m experiments.choose sgd

The rule: the baseline trains with every factor of ``FACTORS``, once for each of ``SEEDS``; the factor with the best
mean accuracy on the validation videos is taken, for everything. No test video is looked at, and no other row is.
Video models start from image models, so those come first. The grids are left in results/mini/choice.json; a test sees
that mini.py has what they say.
"""

from __future__ import annotations

import argparse
import json
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
from .mini import RATES, mini
from .recipe import Recipe, Scale
from .registry import find_experiment, find_variant
from .runs import write_json
from .runtime import default_runtime
from .upstream import SEED

BASELINES: Mapping[str, str] = {
    "image": "upstream/image-t-small",
    "adamw": "table4/joint",
    "sgd": "baselines/timesformer",
}
FACTORS: Mapping[str, tuple[float, ...]] = {"image": (0.5, 1, 2, 4), "adamw": (5, 10, 20, 40, 80), "sgd": (5, 10, 20)}
SEEDS = (0, 1)


def recipe_of(what: str, factor: float) -> Recipe:
    """The baseline of ``what`` at ``factor`` times the paper's rate, tested on validation videos."""
    paper = find_variant(BASELINES[what]).recipe
    assert paper is not None
    recipe = mini(paper, rates=replace(RATES, **{what: factor}))
    return replace(recipe, protocol=replace(recipe.protocol, split=Split.VAL))


def validated(job: tuple[str, float, int]) -> float:
    """Top-1 accuracy on the validation videos of the baseline of (what, factor, seed)."""
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

    what, factor, seed = job
    recipe = recipe_of(what, factor)
    torch.set_num_threads(1)
    device = torch.device("cpu")
    make_deterministic(device)
    runtime = default_runtime(Scale.MINI)
    videos = {
        split: VideoList.of_split(folders.data(), dataset=recipe.data.dataset, split=split)
        for split in (Split.TRAIN, Split.VAL)
    }
    clips = TrainClips(videos[Split.TRAIN], config=recipe.data, seed=seed, keep_decoded=True)
    batches = TrainBatches(
        num_videos=len(clips), batch_size=recipe.optim.batch_size, epochs=recipe.optim.epochs, seed=seed
    )
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


def choice(grid: Mapping[float, list[float]]) -> float:
    """The factor of the best mean; of two alike the smaller one."""
    return max(sorted(grid), key=lambda factor: mean(grid[factor]))


def main() -> None:
    """Train the grid, a run on every core, and write what came out."""
    from .job import run_one

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=BASELINES)
    what = parser.parse_args().what
    for source in find_experiment(Scale.MINI, find_variant(BASELINES[what])).upstream:
        run_one(Scale.MINI, source.name, source.recipe.signature, SEED, runtime=default_runtime(Scale.MINI))
    jobs = list(product([what], FACTORS[what], SEEDS))
    grid: dict[float, list[float]] = {}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=multiprocessing.get_context("spawn")) as pool:
        for (_, factor, seed), top1 in zip(jobs, pool.map(validated, jobs), strict=True):
            print(f"{factor:g} x the paper's rate, seed {seed}: {top1:.1f}", flush=True)
            grid.setdefault(factor, []).append(top1)
    file = folders.results() / Scale.MINI / "choice.json"
    content = json.loads(file.read_text()) if file.exists() else {}
    write_json(file, content | {what: _content(what, grid)})
    print(f"chosen: {choice(grid):g} x the paper's rate; {file}")


def _content(what: str, grid: Mapping[float, list[float]]) -> dict[str, Any]:
    return {
        "baseline": BASELINES[what],
        "rule": "the best mean top-1 accuracy on the validation videos",
        "seeds": list(SEEDS),
        "grid": [
            {"factor": factor, "signature": recipe_of(what, factor).signature, "val_top1": values}
            for factor, values in sorted(grid.items())
        ],
        "chosen": choice(grid),
    }


if __name__ == "__main__":
    main()
