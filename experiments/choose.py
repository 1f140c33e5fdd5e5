"""Chooses the numbers of the miniature that are not the paper's: the factors on its learning rates.

    python -m experiments.choose image        then put into mini.py what it says, and go on:
    python -m experiments.choose adamw
    python -m experiments.choose sgd

The rule: the baselines train with every factor of ``FACTORS``, once for each of ``SEEDS``; the factor with the best
mean accuracy on the validation videos is taken, for everything. No test video is looked at here, and no other row is;
how grids and baselines came about is told in results/mini/README.md. AdamW has two baselines, that of the ablations of
Swin-T and that of the ablation of Swin-B: one factor is for both. Video models start from image models, so those come
first. The grids are left in results/mini/choice.json; a test sees that mini.py has what they say.
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
from itertools import chain, product
from pathlib import Path
from statistics import fmean
from typing import Any

from vswin.config import Split

from . import folders
from .mini import RATES, mini
from .recipe import Recipe, Scale
from .registry import find_experiment, find_variant
from .runs import write_json
from .runtime import default_runtime
from .upstream import SEED

BASELINES: Mapping[str, tuple[str, ...]] = {
    "image": ("upstream/image-t-small",),
    "adamw": ("table4/joint", "table7/ratio-0.1-1k"),
    "sgd": ("baselines/timesformer",),
}
FACTORS: Mapping[str, tuple[float, ...]] = {
    "image": (0.5, 1, 2, 4),
    "adamw": (5, 10, 20, 40, 80),
    "sgd": (1.25, 2.5, 5, 10, 20),
}
SEEDS = (0, 1)

# Accuracies by factor and baseline, one for each seed.
Grid = Mapping[float, Mapping[str, list[float]]]


def recipe_of(baseline: str, what: str, factor: float) -> Recipe:
    """``baseline`` at ``factor`` times the paper's rate of ``what``, tested on validation videos."""
    paper = find_variant(baseline).recipe
    assert paper is not None
    recipe = mini(paper, rates=replace(RATES, **{what: factor}))
    return replace(recipe, protocol=replace(recipe.protocol, split=Split.VAL))


def validated(job: tuple[str, str, float, int]) -> float:
    """Top-1 accuracy on the validation videos of (baseline, what, factor, seed)."""
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

    baseline, what, factor, seed = job
    recipe = recipe_of(baseline, what, factor)
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


def choice(grid: Grid) -> float:
    """The factor of the best mean; of two alike the smaller one."""
    return max(sorted(grid), key=lambda factor: fmean(chain.from_iterable(grid[factor].values())))


def main() -> None:
    """Train the grid, a run on every core, and write what came out."""
    from .job import run_one

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=BASELINES)
    what = parser.parse_args().what
    for baseline in BASELINES[what]:
        for source in find_experiment(Scale.MINI, find_variant(baseline)).upstream:
            run_one(Scale.MINI, source.name, source.recipe.signature, SEED, runtime=default_runtime(Scale.MINI))
    jobs = list(product(BASELINES[what], [what], FACTORS[what], SEEDS))
    grid: dict[float, dict[str, list[float]]] = {factor: {} for factor in FACTORS[what]}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=multiprocessing.get_context("spawn")) as pool:
        for (baseline, _, factor, seed), top1 in zip(jobs, pool.map(validated, jobs), strict=True):
            print(f"{baseline} at {factor:g} x the paper's rate, seed {seed}: {top1:.1f}", flush=True)
            grid[factor].setdefault(baseline, []).append(top1)
    file = folders.results() / Scale.MINI / "choice.json"
    content = json.loads(file.read_text()) if file.exists() else {}
    write_json(file, content | {what: _content(what, grid)})
    print(f"chosen: {choice(grid):g} x the paper's rate; {file}")


def _content(what: str, grid: Grid) -> dict[str, Any]:
    return {
        "rule": "the best mean top-1 accuracy on the validation videos",
        "seeds": list(SEEDS),
        "grid": [
            {
                "factor": factor,
                "baseline": baseline,
                "signature": recipe_of(baseline, what, factor).signature,
                "val_top1": values,
            }
            for factor, baselines in sorted(grid.items())
            for baseline, values in baselines.items()
        ],
        "chosen": choice(grid),
    }


if __name__ == "__main__":
    main()
