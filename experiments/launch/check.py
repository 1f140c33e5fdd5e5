"""Looks for everything that would make runs fail or mean something else, before they cost anything.

Without models everything takes milliseconds a variant. With ``take_steps`` each model also trains for one step.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from vswin.config import InitConfig, Split, Swin3DConfig, TimeSformerConfig, VideoInitConfig
from vswin.errors import ExplainedError

from .. import folders
from ..registry.catalogue import Experiment, find_table
from ..registry.cost import Totals, totals, training_clip
from ..registry.recipe import Recipe, Scale, difference
from ..registry.stand_ins import origin, weights_name
from ..registry.table import Variant
from ..runs.run import Run
from ..runs.runtime import Runtime, default_runtime
from ..runs.weights import weights_file, where_to_get
from ..words import in_words
from .first_step import NoStepError, initial_weights, load_weights, of_one_process, take_step
from .forecast import Basis, Place, Rate, actuals, assumed_rate, forecast, measured_rate, work
from .plan import Action, Step
from .profiles import Profile

if TYPE_CHECKING:
    from vswin.data.annotations import VideoList

_GIB = 2**30
# Until a job has imported torch, read its lists and taken a first step.
_START_SECONDS = 60


class Aspect(StrEnum):
    """Everything that is looked at, in this order."""

    ISOLATES = "isolates"
    COST = "cost"
    WEIGHTS = "weights"
    STEP = "one step"
    DATA = "data"
    DISK = "disk"
    DEVICE = "device"
    PROFILE = "profile"
    CODE = "code"
    SLURM = "Slurm"


class Outcome(StrEnum):
    """``SKIPPED`` is no failure; the detail says why it could not be looked at."""

    OK = "ok"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True)
class CheckResult:
    """One aspect of the variant ``about``, of a data set or of the disk. ``detail`` says what to do where it failed."""

    about: str
    aspect: Aspect
    outcome: Outcome
    detail: str


def check(
    experiments: Sequence[Experiment],
    *,
    variants: Sequence[Variant] = (),
    runs: Mapping[str, int],
    take_steps: bool,
    look_at_data: bool = True,
    rehearse: bool = True,
    profile: Profile | None = None,
    rate: Rate | None = None,
    runtime: Runtime | None = None,
    on_step: Callable[[Experiment], None] = lambda experiment: None,
) -> list[CheckResult]:
    """Check everything: variant by variant, then data sets, disk and profile.

    ``variants`` are the rows to report on, by default all that share ``experiments``. ``runs`` is the number of runs
    to be started, by signature; ``profile`` where, None on this machine, and ``rate`` the speed of a device there.
    ``look_at_data``: at every video; ``rehearse`` a submission, so code is pinned and Slurm asked; False where that has
    been done. ``on_step`` is told of every experiment whose
    step is about to be taken.
    """
    order = {variant.id: rank for rank, variant in enumerate(variants)}
    findings: list[CheckResult] = []
    lists: dict[str, Mapping[str, VideoList] | str] = {}
    counted = True
    for experiment in experiments:
        rows = [variant for variant in experiment.variants if not variants or variant in variants]
        cost = _counted(experiment.recipe)
        counted = counted and isinstance(cost, Totals)
        weights = _weights(experiment.recipe, experiment.scale)
        dataset = experiment.recipe.data.dataset
        if dataset not in lists and (look_at_data or take_steps):
            lists[dataset] = _data(dataset)
        step: tuple[Outcome, str] | None = None
        if take_steps:
            on_step(experiment)
            weights = _loaded(experiment, weights)
            there = runtime or default_runtime(experiment.scale)
            there = of_one_process(there, recipe=experiment.recipe, profile=profile)
            step = _step(experiment, weights[0], data=lists[dataset], runtime=there)
        for row in rows:
            findings.append(CheckResult(row.id, Aspect.ISOLATES, *_isolates(row, experiment.scale)))
            findings.append(CheckResult(row.id, Aspect.COST, *_cost(row, experiment.scale, cost)))
            findings.append(CheckResult(row.id, Aspect.WEIGHTS, *weights))
            if step:
                findings.append(CheckResult(row.id, Aspect.STEP, *step))
    findings.sort(key=lambda finding: order.get(finding.about, 0))
    for name, data in lists.items() if look_at_data else ():
        recipes = [experiment.recipe for experiment in experiments if experiment.recipe.data.dataset == name]
        findings.append(CheckResult(name, Aspect.DATA, *_data_finding(data, recipes)))
    if counted:
        findings.append(CheckResult("runs", Aspect.DISK, *_disk(experiments, runs)))
        if profile:
            rate = rate or assumed_rate(experiments[0].scale)
            findings.append(CheckResult("jobs", Aspect.PROFILE, *_profile(experiments, profile, rate, runtime)))
    if profile is None and (runtime or default_runtime(experiments[0].scale)).on_gpu:
        findings.append(CheckResult("this machine", Aspect.DEVICE, *_device()))
    if profile and rehearse:
        findings.append(CheckResult("jobs", Aspect.CODE, *_pinned()))
    if profile and rehearse and sum(runs.values()):
        findings.append(CheckResult("jobs", Aspect.SLURM, *_slurm(experiments, runs, profile)))
    return findings


def before_launch(steps: Sequence[Step], *, profile: Profile | None, runtime: Runtime) -> list[CheckResult]:
    """Failed checks of a launch of ``steps``, but for missing files: those are looked for anyway.

    For a cluster, where a fault would show after hours in a queue, training steps are taken, too (half a second each
    at scale mini, once). On this machine a run shows its own fault as soon. Runs at scale tiny, which is for tests, are
    over before they are checked: there steps are never taken, and nothing is looked at for this machine.
    """
    experiments = {step.run.signature: step.run.experiment for step in steps}
    if not experiments or (profile is None and steps[0].run.scale is Scale.TINY):
        return []
    scale = steps[0].run.scale
    findings = check(
        list(experiments.values()),
        runs=Counter(step.run.signature for step in steps),
        take_steps=profile is not None and scale is not Scale.TINY,
        look_at_data=False,
        rehearse=False,
        profile=profile,
        rate=measured_rate(list(experiments.values()), actuals(experiments.values())),
        runtime=runtime,
    )
    return [finding for finding in findings if finding.outcome is Outcome.FAILED]


# ---------------------------------------------------------------------------------- what needs no model


def _isolates(variant: Variant, scale: Scale) -> tuple[Outcome, str]:
    table = find_table(variant.table)
    baseline = table.baseline_of(variant)
    if baseline is None:
        return Outcome.OK, "stands by itself"
    if baseline == variant:
        return Outcome.OK, "the baseline"
    [block] = [
        block for block, rows in zip(table.blocks, table.by_block, strict=True) if variant in rows and baseline in rows
    ]
    changes = sorted(difference(variant.at(scale), baseline.at(scale)))
    stray = [path for path in changes if path not in block.isolates]
    if stray:
        return Outcome.FAILED, f"also changes {', '.join(stray)}; {table.id} isolates {', '.join(block.isolates)}"
    if not changes:
        return Outcome.FAILED, f"is {baseline.id} again at scale {scale}"
    return Outcome.OK, ", ".join(changes)


def _counted(recipe: Recipe) -> Totals | Exception:
    try:
        [cost] = totals([(recipe.model, training_clip(recipe))])
    except Exception as error:
        return error
    return cost


def _cost(variant: Variant, scale: Scale, cost: Totals | Exception) -> tuple[Outcome, str]:
    if isinstance(cost, Exception):
        return Outcome.FAILED, f"the model cannot be built: {_in_a_line(cost)}"
    baseline = find_table(variant.table).baseline_of(variant)
    whole = f"{_short(cost.params)} parameters, {_short(cost.flops)} FLOPs"
    if baseline is None or baseline == variant:
        return Outcome.OK, whole
    there = _counted(baseline.at(scale))
    if isinstance(there, Exception):
        return Outcome.FAILED, f"{baseline.id} cannot be built: {_in_a_line(there)}"
    return Outcome.OK, _change(cost.params - there.params, cost.flops - there.flops)


def _weights(recipe: Recipe, scale: Scale) -> tuple[Outcome, str]:
    name = weights_name(recipe.init)
    if name is None:
        return Outcome.OK, "from scratch"
    file = weights_file(name, scale=scale)
    if file.exists():
        return Outcome.OK, f"{name} is there"
    if trained := origin(name):
        return Outcome.OK, f"{trained[0]} is trained first"
    return Outcome.FAILED, f"{file} is missing; {where_to_get(name)}. Expected in it: {expected_shapes(recipe)}"


def expected_shapes(recipe: Recipe) -> str:
    """Some tensors, by their published names, that tell whether a file fits ``recipe``."""
    model = recipe.model
    shapes: dict[str, list[int]] = {}
    if isinstance(model, Swin3DConfig):
        table = "layers.0.blocks.0.attn.relative_position_bias_table"
        rows = (2 * model.window.height - 1) * (2 * model.window.width - 1)
        width = model.embed_dim * 2 ** (len(model.depths) - 1)
        match recipe.init:
            case InitConfig():
                shapes["patch_embed.proj.weight"] = [model.embed_dim, 3, *model.patch[1:]]
                shapes[table] = [rows, model.num_heads[0]]
                shapes["norm.weight"] = [width]
            case VideoInitConfig():
                shapes["backbone.patch_embed.proj.weight"] = [model.embed_dim, 3, *model.patch]
                shapes[f"backbone.{table}"] = [rows * (2 * model.window.time - 1), model.num_heads[0]]
                shapes["backbone.norm.weight"] = [width]
    elif isinstance(model, TimeSformerConfig):
        shapes["patch_embed.proj.weight"] = [model.embed_dim, 3, model.patch, model.patch]
        shapes["blocks.0.attn.qkv.weight"] = [3 * model.embed_dim, model.embed_dim]
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


def _data(dataset: str) -> Mapping[str, VideoList] | str:
    """The lists of all splits with every file looked at, or what is wrong with them."""
    from vswin.data.annotations import DataError, VideoList
    from vswin.data.formats.layout import Layout

    try:
        splits = [split for split in Split if split in Layout.of(folders.data() / dataset).files or split is Split.VAL]
        lists = {split.value: VideoList.of_split(folders.data(), dataset=dataset, split=split) for split in splits}
        _ = [found.fingerprint for found in lists.values()]
    except DataError as error:
        return str(error)
    return lists


def _data_finding(data: Mapping[str, VideoList] | str, recipes: Sequence[Recipe]) -> tuple[Outcome, str]:
    if isinstance(data, str):
        return Outcome.FAILED, data
    if lacking := {recipe.protocol.split.value for recipe in recipes} - data.keys():
        where = f"{folders.data() / recipes[0].data.dataset}"
        return (
            Outcome.FAILED,
            f"{where} has no videos for {', '.join(lacking)}; vswin data generate makes generated ones",
        )
    labels = max(max(found.labels) for found in data.values())
    classes = min(recipe.model.num_classes for recipe in recipes)
    if labels >= classes:
        return Outcome.FAILED, f"expected labels from 0 to {classes - 1}, as the models have classes, got {labels}"
    batch = max(recipe.optim.batch_size for recipe in recipes)
    if len(data["train"]) < batch:
        return (
            Outcome.FAILED,
            f"expected at least {batch} videos for training, a batch of them, got {len(data['train'])}",
        )
    return Outcome.OK, ", ".join(f"{len(found):,} videos for {split}" for split, found in data.items())


def unwritable() -> str | None:
    """The reason why nothing can be written to the folder of runs, None if it can; makes nothing."""
    place = folders.runs()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return f"{place} is no folder; set $VSWIN_RUNS to one that you can write to"
    if not os.access(place, os.W_OK | os.X_OK):
        return f"{place} cannot be written to; set $VSWIN_RUNS to a folder that you can write to"
    return None


# Of NVIDIA, also on boards (nvmap, nvhost-gpu), of AMD, and of either within Windows.
_DRIVERS = ("nvidiactl", "nvidia0", "nvmap", "nvhost-gpu", "kfd", "dxg")


def _device() -> tuple[Outcome, str]:
    """OK if this machine has what scale paper is computed with."""
    if reason := without_gpu():
        return Outcome.FAILED, reason
    import torch

    return Outcome.OK, torch.cuda.get_device_name()


def without_gpu() -> str | None:
    """The reason why this machine cannot compute scale paper as it is, None if it can."""
    # a driver has its file; without one torch, which takes a second, need not be asked
    if any(Path("/dev", name).exists() for name in _DRIVERS):
        import torch

        if torch.cuda.is_available():
            return None
    return (
        "scale paper needs a GPU and torch sees none here; --on PROFILE launches on a cluster, and --cpu computes "
        "without, for small models of your own"
    )


def _disk(experiments: Sequence[Experiment], runs: Mapping[str, int]) -> tuple[Outcome, str]:
    if reason := unwritable():
        return Outcome.FAILED, reason
    needed = sum(
        runs.get(experiment.recipe.signature, 0) * each.disk
        for experiment, each in zip(experiments, work(experiments), strict=True)
    )
    place = folders.runs()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    text = f"about {needed / _GIB:.1f} GiB needed, {free / _GIB:.0f} GiB free under {folders.runs()}"
    if needed > free:
        return Outcome.FAILED, f"{text}; make room, move $VSWIN_RUNS, or launch fewer tables or seeds at a time"
    return Outcome.OK, text


def unsuited(experiments: Sequence[Experiment], profile: Profile, runtime: Runtime | None = None) -> str | None:
    """The reason why jobs of ``profile`` could never compute these runs: batches that processes cannot share, no GPU,
    no time. None if they can. ``runtime`` is by default that of the scale.
    """
    runtime = runtime or default_runtime(experiments[0].scale)
    processes = profile.processes_per_run
    for experiment in experiments:
        if experiment.recipe.optim.batch_size % processes:
            return (
                f"batches of {experiment.recipe.optim.batch_size} clips ({experiment.name}) cannot be shared out among "
                f"{processes} processes; change nodes, gpus or processes of the profile"
            )
    if runtime.on_gpu and not profile.gpus:
        return f"scale {experiments[0].scale} needs a GPU: set gpus in the profile"
    if 60 * profile.minutes <= profile.signal_seconds + _START_SECONDS:
        return (
            f"a job of {profile.minutes} min is told to save {profile.signal_seconds} s before its end, before it has "
            "trained at all; raise time or lower signal_seconds"
        )
    return None


def _profile(
    experiments: Sequence[Experiment], profile: Profile, rate: Rate, runtime: Runtime | None = None
) -> tuple[Outcome, str]:
    """OK if jobs of ``profile`` can compute these runs, and within their time."""
    if reason := unsuited(experiments, profile, runtime):
        return Outcome.FAILED, reason
    processes, limit = profile.processes_per_run, 60 * profile.minutes
    estimates = forecast(experiments, seeds=1, place=Place(name="", devices=processes), rate=rate, actual={})
    longest = max(estimates, key=lambda item: item.wall_hours)
    seconds = 3600 * longest.wall_hours * profile.runs_per_job
    guess = ", by a guess" if rate.basis is Basis.ASSUMED else ""
    text = f"the longest, {longest.experiment.name}, takes about {in_words(seconds)}{guess}; a job {in_words(limit)}"
    if seconds <= limit:
        return Outcome.OK, text
    if profile.requeue:
        return Outcome.OK, f"{text}: about {ceil(seconds / (limit - profile.signal_seconds))} jobs, one after the other"
    if rate.basis is Basis.ASSUMED:
        return Outcome.SKIPPED, f"{text}, and no requeue: launch again where a run is stopped by its time limit"
    return Outcome.FAILED, f"{text}; raise time, or set requeue = true in the profile"


def _pinned() -> tuple[Outcome, str]:
    """OK if code and own tables can be pinned where the runs lie; they are."""
    from . import pinned

    try:
        code, tables = pinned.pin(allow_dirty=False), pinned.pin_tables()
    except pinned.UncommittedCodeError as error:
        return Outcome.SKIPPED, str(error)
    except (ExplainedError, OSError) as error:
        return Outcome.FAILED, str(error)
    return Outcome.OK, f"{code}{f' with tables {tables}' if tables else ''}"


def _slurm(experiments: Sequence[Experiment], runs: Mapping[str, int], profile: Profile) -> tuple[Outcome, str]:
    """OK if Slurm says that it would take these jobs."""
    from .cluster import ask

    steps = [
        Step(Run(experiment, seed), Action.SUBMIT, "")
        for experiment in experiments
        for seed in range(runs.get(experiment.recipe.signature, 0))
    ]
    outlook = ask(steps, profile=profile, code=folders.CLONE)
    if outlook.unasked:
        return Outcome.SKIPPED, f"could not be asked: {outlook.unasked}"
    if outlook.refused:
        return Outcome.FAILED, f"it would refuse the jobs: {'; '.join(outlook.refused)}"
    if outlook.full:
        return Outcome.OK, f"not all {outlook.jobs} fit into the queue now, launch several times: {outlook.full}"
    return Outcome.OK, f"it would start the first at {outlook.start}" if outlook.start else "it would take them"


# ---------------------------------------------------------------------------------- what trains a step


def _loaded(experiment: Experiment, found: tuple[Outcome, str]) -> tuple[Outcome, str]:
    """The result of loading the weights that were ``found``."""
    file = initial_weights(experiment)
    if file is None or found[0] is not Outcome.OK:
        return found
    try:
        return Outcome.OK, load_weights(experiment, file)
    except Exception as error:
        return Outcome.FAILED, (
            f"{file} cannot be loaded: {_in_a_line(error)}. {where_to_get(file.stem)}; "
            f"expected in it: {expected_shapes(experiment.recipe)}"
        )


def _step(
    experiment: Experiment, weights: Outcome, *, data: Mapping[str, VideoList] | str, runtime: Runtime
) -> tuple[Outcome, str]:
    if weights is Outcome.FAILED:
        return Outcome.SKIPPED, "no weights to start from"
    if isinstance(data, str):
        return Outcome.SKIPPED, "no videos"
    try:
        return Outcome.OK, take_step(experiment, data, runtime=runtime)
    except NoStepError as error:
        return Outcome.SKIPPED, str(error)
    except Exception as error:
        return Outcome.FAILED, _in_a_line(error)


# ---------------------------------------------------------------------------------------------- words


def _in_a_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _short(count: float) -> str:
    """``28.2 M``; thousands, millions or billions."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(count) >= size:
            return f"{count / size:.1f}{unit}"
    return f"{count:.0f}"


def _change(params: int, flops: int) -> str:
    signed = [("+" if value > 0 else "") + _short(value) for value in (params, flops)]
    return f"{signed[0]} parameters, {signed[1]} FLOPs"
