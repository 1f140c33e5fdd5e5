"""Forecasts of experiments: steps, GPU-hours, wall time and disk, beside what finished runs took.

Workload is counted: FLOPs of the model, clips of the recipe, views of its tests. Only the rate at which a device gets
through it has to be given, measured or assumed.
"""

from __future__ import annotations

import heapq
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from vswin.config import MODELS, ModelConfig, Optimizer, Protocol, Split, Swin2DConfig
from vswin.errors import ExplainedError

from .. import folders
from ..files import DamagedError, read_json
from ..registry.catalogue import Experiment, find_variant
from ..registry.cost import Input, Totals, totals, training_clip
from ..registry.recipe import Recipe, Scale
from ..registry.recipes import KINETICS_400, KINETICS_600, SOMETHING
from ..results.recorded import read_fields
from ..runs.run import Run, existing
from ..runs.runtime import default_runtime

# The model that a throughput is given for; others get through more or fewer clips by their FLOPs.
REFERENCE = "table4/joint"

# Videos for training and validation: section 4.1 of the paper; of the miniature, what vswin data generate makes.
_VIDEOS = {
    KINETICS_400: (240_000, 20_000),
    KINETICS_600: (370_000, 28_300),
    SOMETHING: (168_900, 24_700),
}

# A backward pass computes two gradients for every product of the forward pass.
_TRAINING = 3
# Two checkpoints are kept, and a third is there while it is written (vswin/training/checkpoint.py).
_CHECKPOINTS = 3
_JOURNAL_LINE = 450
_FLOAT = 4


class Basis(StrEnum):
    """Where a rate is from."""

    GIVEN = "given"
    MEASURED = "measured"
    ASSUMED = "assumed"


@dataclass(frozen=True)
class Rate:
    """FLOPs per second of one device in the paper's convention, all told; ``source`` says where it is from."""

    flops: float
    basis: Basis
    source: str


# Guesses, for want of a measurement. For a GPU a tenth of the peak of an A100, 312 TFLOP/s in 16 bits, since attention
# in small windows waits for memory; a peak counts a multiply-accumulate twice, the paper once. A core is slower on the
# smallest models, which are all overhead.
_ASSUMED_GPU = Rate(0.1 * 312e12 / 2, Basis.ASSUMED, "a tenth of the peak of an A100, 312 TFLOP/s")
_ASSUMED_CORE = {
    Scale.MINI: Rate(8e9, Basis.ASSUMED, "8 billion multiply-accumulates a second and core"),
    Scale.TINY: Rate(1e9, Basis.ASSUMED, "a billion multiply-accumulates a second and core"),
}


class NothingMeasuredError(ExplainedError, LookupError):
    """A forecast is to rest on measurements and there is none."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where runs are computed: so many ``devices`` for each, so many runs ``at_once`` (None: no limit)."""

    name: str
    devices: int = 1
    at_once: int | None = None


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The work of one run: ``clips`` of training, ``views`` of validations and tests, bytes on disk."""

    steps: int
    clips: int
    views: int
    flops: float
    disk: int


@dataclass(frozen=True)
class Actual:
    """The time of ``done`` runs: hours of devices, and of the clock, of one of them in the mean."""

    done: int
    device_hours: float
    wall_hours: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """One experiment: the work and the hours of one of its ``runs``, and what those took that are done."""

    experiment: Experiment
    runs: int
    work: Workload
    device_hours: float
    wall_hours: float
    actual: Actual | None


@dataclass(frozen=True, kw_only=True)
class Sum:
    """Of several experiments: all their runs. ``actual`` is of the runs that are done, ``done`` of them."""

    runs: int
    steps: int
    clips: int
    device_hours: float
    wall_hours: float
    disk: int
    done: int
    actual_device_hours: float


def forecast(
    experiments: Sequence[Experiment], *, seeds: int, place: Place, rate: Rate, actual: Mapping[str, Actual]
) -> list[Forecast]:
    """One estimate for each of ``experiments``; ``actual`` is by signature. What others start from runs once."""
    estimates = []
    for experiment, done in zip(experiments, work(experiments), strict=True):
        hours = done.flops / rate.flops / 3600
        estimates.append(
            Forecast(
                experiment=experiment,
                runs=1 if experiment.is_upstream else seeds,
                work=done,
                device_hours=hours,
                wall_hours=hours / place.devices,
                actual=actual.get(experiment.recipe.signature),
            )
        )
    return estimates


def total(estimates: Iterable[Forecast], *, place: Place) -> Sum:
    """All runs of ``estimates``, ``place.at_once`` of them at a time, the longest first; what others start from before
    them.
    """
    estimates = list(estimates)
    stages: dict[int, list[Forecast]] = {}
    for item in estimates:
        stages.setdefault(len(item.experiment.upstream), []).append(item)
    return Sum(
        runs=sum(item.runs for item in estimates),
        steps=sum(item.runs * item.work.steps for item in estimates),
        clips=sum(item.runs * item.work.clips for item in estimates),
        device_hours=sum(item.runs * item.device_hours for item in estimates),
        wall_hours=sum(_side_by_side(stage, place=place) for stage in stages.values()),
        disk=sum(item.runs * item.work.disk for item in estimates),
        done=sum(item.actual.done for item in estimates if item.actual),
        actual_device_hours=sum(item.actual.done * item.actual.device_hours for item in estimates if item.actual),
    )


def _side_by_side(estimates: Iterable[Forecast], *, place: Place) -> float:
    """Hours until the last run has ended."""
    hours = sorted((item.wall_hours for item in estimates for _ in range(item.runs)), reverse=True)
    ends = [0.0] * min(place.at_once or len(hours), len(hours))
    for length in hours:
        heapq.heapreplace(ends, ends[0] + length)
    return max(ends, default=0.0)


def with_upstream(experiments: Iterable[Experiment]) -> list[Experiment]:
    """``experiments`` and before them what they start from, each once."""
    experiments = list(experiments)
    found = {source.recipe.signature: source for experiment in experiments for source in experiment.upstream}
    return list({**found, **{experiment.recipe.signature: experiment for experiment in experiments}}.values())


# ------------------------------------------------------------------------------------------------------ work


def work(experiments: Sequence[Experiment]) -> list[Workload]:
    """The work of one run of each of ``experiments``."""
    pairs = [
        (experiment.recipe.model, size)
        for experiment in experiments
        for size in [
            training_clip(experiment.recipe),
            *(_view(experiment.recipe, protocol) for protocol in experiment.protocols.values()),
        ]
    ]
    costs = dict(zip(pairs, totals(pairs), strict=True))
    return [_work(experiment, costs) for experiment in experiments]


def _view(recipe: Recipe, protocol: Protocol) -> Input:
    return Input(recipe.data.clip.length, protocol.crop)


def _work(experiment: Experiment, costs: Mapping[tuple[ModelConfig, Input], Totals]) -> Workload:
    recipe = experiment.recipe
    count = videos(recipe.data.dataset)
    clip = costs[recipe.model, training_clip(recipe)]
    steps = recipe.optim.epochs * (count[Split.TRAIN] // recipe.optim.batch_size)
    clips = steps * recipe.optim.batch_size
    validations = recipe.optim.epochs // default_runtime(experiment.scale).validate_epochs
    views = validations * count[Split.VAL]
    flops = float((_TRAINING * clips + views) * clip.flops)
    for protocol in experiment.protocols.values():
        tested = count[protocol.split] * protocol.clips * protocol.crops
        views += tested
        flops += tested * costs[recipe.model, _view(recipe, protocol)].flops
    # AdamW has two moments, SGD one; an average is another model
    moments = 2 if recipe.optim.optimizer is Optimizer.ADAMW else 1
    models = 1 if recipe.optim.ema_decay is None else 2
    weights = _FLOAT * clip.params + clip.buffer_bytes
    predictions = sum(count[protocol.split] for protocol in experiment.protocols.values())
    predictions *= recipe.model.num_classes * _FLOAT
    return Workload(
        steps=steps,
        clips=clips,
        views=views,
        flops=flops,
        disk=_CHECKPOINTS * (models * weights + moments * _FLOAT * clip.params)
        + weights
        + predictions
        + steps * _JOURNAL_LINE,
    )


def videos(dataset: str) -> Mapping[Split, int]:
    """The number of videos in every split: those that lie here, else as many as are published."""
    from vswin.data.annotations import DataError, VideoList
    from vswin.data.formats.layout import Layout
    from vswin.data.moving_digits import TASKS

    known: Mapping[Split, int] = {f"moving-digits/{task.name}": task.videos for task in TASKS}.get(dataset, {})
    if dataset in _VIDEOS:
        known = dict(zip((Split.TRAIN, Split.VAL), _VIDEOS[dataset], strict=True))
    try:
        splits = Layout.of(folders.data() / dataset).files
        here = {split: len(VideoList.of_split(folders.data(), dataset=dataset, split=split)) for split in splits}
    except DataError:
        if not known:
            raise
        return known
    # where a split is missing: vswin check says so
    return {**known, **here}


# ------------------------------------------------------------------------------------------------------ rate


def given_rate(clips_per_second: float, *, scale: Scale) -> Rate:
    """A device that trains on so many clips a second of the reference model."""
    recipe = find_variant(REFERENCE).at(scale)
    [cost] = totals([(recipe.model, training_clip(recipe))])
    source = f"{clips_per_second:g} clips/s of {REFERENCE} in training"
    return Rate(_TRAINING * cost.flops * clips_per_second, Basis.GIVEN, source)


def measured_rate(experiments: Sequence[Experiment], actual: Mapping[str, Actual]) -> Rate | None:
    """The measured rate, from the nearest thing to whole runs; None where nothing was measured.

    Runs that are done; else runs that have begun; else, at scale paper, ``make bench-gpu``: steps alone, without data.
    """
    ran = [experiment for experiment in experiments if experiment.recipe.signature in actual]
    rates = [
        done.flops / (3600 * actual[experiment.recipe.signature].device_hours)
        for experiment, done in zip(ran, work(ran), strict=True)
    ]
    if rates:
        runs = sum(actual[experiment.recipe.signature].done for experiment in ran)
        return Rate(statistics.median(rates), Basis.MEASURED, f"the median of {runs} finished runs of {len(ran)} rows")
    rates = [rate for experiment in experiments for run in existing([experiment]) if (rate := _so_far(run))]
    if rates:
        return Rate(statistics.median(rates), Basis.MEASURED, f"the median of {len(rates)} runs that have begun")
    benched = _benched() if experiments and default_runtime(experiments[0].scale).on_gpu else []
    return max(benched, key=lambda rate: rate.flops, default=None)


def _so_far(run: Run) -> float | None:
    """The rate of a run that is not done, by the last line of its journal."""
    last = run.look().last
    if last is None or not last.metrics.get("time/wall"):
        return None
    recipe = run.experiment.recipe
    [cost] = totals([(recipe.model, training_clip(recipe))])
    try:
        processes: int = read_json(run.directory.machine, remedy="")["processes"]
    except DamagedError:
        return None
    return _TRAINING * last.step * recipe.optim.batch_size * cost.flops / (last.metrics["time/wall"] * processes)


def _benched() -> list[Rate]:
    """Training steps that ``make bench-gpu`` timed."""
    rates = []
    for file in sorted((folders.results() / "bench").glob("model-*.json")):
        report = json.loads(file.read_text())
        device = report["machine"].get("accelerator")
        for line in report["lines"] if device else ():
            case = line["case"]
            model = MODELS[case["model"]]
            if case["work"] == "training step" and not case["overrides"] and not isinstance(model, Swin2DConfig):
                [cost] = totals([(model, Input(case["frames"], case["size"]))])
                flops = _TRAINING * case["batch"] * cost.flops / line["seconds"]["fast"]["median"]
                rates.append(
                    Rate(flops, Basis.MEASURED, f"make bench-gpu, {case['model']} in {case['precision']} on {device}")
                )
    return rates


def assumed_rate(scale: Scale) -> Rate:
    """A guess, said to be one."""
    return _ASSUMED_GPU if default_runtime(scale).on_gpu else _ASSUMED_CORE[scale]


def actuals(experiments: Iterable[Experiment]) -> dict[str, Actual]:
    """By signature, what the runs of ``experiments`` took that left a record, here or in the results folder."""
    spent: dict[str, dict[int, tuple[float, float]]] = {}
    wanted = {experiment.recipe.signature: experiment for experiment in experiments}
    for experiment in wanted.values():
        files = [folders.results() / experiment.scale / "runs"]
        paths = [path for folder in files for path in folder.glob(f"{experiment.recipe.signature}-*.json")]
        paths += [path for run in existing([experiment]) if _complete(run) for path in run.directory.results()]
        for path in paths:
            # only what is needed, without the packages that validate a record
            try:
                content = read_fields(path)
            except DamagedError:
                # status and verify name it; a forecast does without
                continue
            if content["seed"] is None:
                continue
            came_from = content["provenance"]
            took = spent.setdefault(experiment.recipe.signature, {})
            # of several tests of a run the last one has all its time
            hours = max(came_from["wall_seconds"] / 3600, took.get(content["seed"], (0.0, 0.0))[1])
            took[content["seed"]] = hours * came_from["processes"], hours
    return {
        signature: Actual(len(runs), *(statistics.mean(values) for values in zip(*runs.values(), strict=True)))
        for signature, runs in spent.items()
    }


def _complete(run: Run) -> bool:
    return all(run.directory.result(protocol).exists() for protocol in run.experiment.protocols)
