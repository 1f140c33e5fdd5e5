"""Chooses the numbers of the miniature that are not the paper's: the factors on its learning rates.

    python -m experiments.tools.choose image        then put the result into registry/scales.py, and go on:
    python -m experiments.tools.choose adamw
    python -m experiments.tools.choose sgd

The rule: the baselines train with every factor of ``FACTORS``, once for each of ``SEEDS``; the factor with the best
mean accuracy on the validation videos is taken, for everything. No test video and no other row takes part;
results/mini/README.md tells how grids and baselines came about. AdamW has two baselines, that of the ablations of
Swin-T and that of the ablation of Swin-B, and one factor for both. Video models start from image models, so those come
first. The grids are left in results/mini/choice.json; a test compares registry/scales.py with them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import chain, product
from pathlib import Path
from statistics import fmean
from typing import Any

from vswin.config import Split
from vswin.training.watch import Watch

from .. import folders
from ..files import write_json
from ..registry.catalogue import find_experiment, find_variant
from ..registry.recipe import Recipe, Scale
from ..registry.scales import RATES, mini
from ..registry.stand_ins import SEED
from ..runs.runtime import default_runtime

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
    from vswin.data.annotations import VideoList

    from ..job.testing import Evaluator
    from ..job.training import Training, initial_model, set_up

    baseline, what, factor, seed = job
    recipe = recipe_of(baseline, what, factor)
    runtime = default_runtime(Scale.MINI)
    world = set_up(runtime)
    videos = {
        split: VideoList.of_split(folders.data(), dataset=recipe.data.dataset, split=split)
        for split in (Split.TRAIN, Split.VAL)
    }
    training = Training(recipe=recipe, seed=seed, runtime=runtime, world=world)
    model = initial_model(recipe, scale=Scale.MINI, seed=seed, runtime=runtime)
    watch = Watch()
    with tempfile.TemporaryDirectory(prefix="vswin-choose-") as folder:
        result = training.run(model, videos[Split.TRAIN], directory=Path(folder), watch=watch)
    evaluator = Evaluator(scale=Scale.MINI, recipe=recipe, videos=videos, world=world, runtime=runtime, watch=watch)
    predictions = evaluator.predict(result.model, recipe.protocol)
    assert predictions is not None
    return predictions.top(1)


def choice(grid: Grid) -> float:
    """The factor of the best mean; of two alike the smaller one."""
    return max(sorted(grid), key=lambda factor: fmean(chain.from_iterable(grid[factor].values())))


def main() -> None:
    """Train the grid, a run on every core, and write the result."""
    from ..job.body import run_one

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=BASELINES)
    what = parser.parse_args().what
    runtime = default_runtime(Scale.MINI)
    for baseline in BASELINES[what]:
        for source in find_experiment(Scale.MINI, find_variant(baseline)).upstream:
            run_one(Scale.MINI, source.name, source.recipe.signature, SEED, runtime=runtime)
    jobs = list(product(BASELINES[what], [what], FACTORS[what], SEEDS))
    grid: dict[float, dict[str, list[float]]] = {factor: {} for factor in FACTORS[what]}
    at_once = runtime.runs_at_once(gpus=0)
    with ProcessPoolExecutor(at_once, mp_context=multiprocessing.get_context("spawn")) as pool:
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
