"""Looks for what would make runs fail or mean something else, before they cost anything.

Without models everything takes milliseconds a variant. With ``take_steps`` each model is built, loads its initial
weights and trains for one step on one real batch; a step that went well is not taken again while code, recipe, videos,
weights and kind of device are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cache
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from vswin.config import InitConfig, Swin3DConfig, TimeSformerConfig, VideoInitConfig

from . import folders
from .cost import Totals, totals, training_clip
from .expected_cost import expected_change, formula
from .forecast import Basis, Place, Rate, actuals, assumed_rate, forecast, measured_rate, work
from .plan import Step
from .profiles import Profile
from .recipe import Recipe, Scale, difference
from .registry import Experiment, Variant, find_table
from .runs import write_json
from .runtime import Runtime, default_runtime
from .status import in_words
from .upstream import origin, weights_name
from .weights import weights_file, where_to_get

if TYPE_CHECKING:
    from vswin.data.annotations import VideoList

_GIB = 2**30
# Until a job has imported torch, read its lists and taken a first step.
_START_SECONDS = 60


class Aspect(StrEnum):
    """What is looked at, in this order."""

    ISOLATES = "isolates"
    COST = "cost"
    WEIGHTS = "weights"
    STEP = "one step"
    DATA = "data"
    DISK = "disk"
    PROFILE = "profile"


class Outcome(StrEnum):
    """What came of it. ``SKIPPED`` is no failure; its detail says why it could not be looked at."""

    OK = "ok"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
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
    profile: Profile | None = None,
    rate: Rate | None = None,
    runtime: Runtime | None = None,
    on_step: Callable[[Experiment], None] = lambda experiment: None,
) -> list[Finding]:
    """Everything that was found: variant by variant, then data sets, disk and profile.

    ``variants`` are the rows to speak of, by default all that share ``experiments``. ``runs`` is how many runs are to
    be started, by signature. ``profile`` is where, None on this machine, and ``rate`` what a device does there.
    ``look_at_data``: at every video; False where that has been done. ``on_step`` is told of every experiment whose
    step is about to be taken.
    """
    order = {variant.id: rank for rank, variant in enumerate(variants)}
    findings: list[Finding] = []
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
            step = _step(
                experiment,
                weights[0],
                data=lists[dataset],
                runtime=runtime_of_a_process(experiment, runtime or default_runtime(experiment.scale), profile),
            )
        for row in rows:
            findings.append(Finding(row.id, Aspect.ISOLATES, *_isolates(row, experiment.scale)))
            findings.append(Finding(row.id, Aspect.COST, *_cost(row, experiment.scale, cost)))
            findings.append(Finding(row.id, Aspect.WEIGHTS, *weights))
            if step:
                findings.append(Finding(row.id, Aspect.STEP, *step))
    findings.sort(key=lambda finding: order.get(finding.about, 0))
    for name, data in lists.items() if look_at_data else ():
        recipes = [experiment.recipe for experiment in experiments if experiment.recipe.data.dataset == name]
        findings.append(Finding(name, Aspect.DATA, *_data_finding(data, recipes)))
    if counted:
        findings.append(Finding("runs", Aspect.DISK, *_disk(experiments, runs)))
        if profile:
            rate = rate or assumed_rate(experiments[0].scale)
            findings.append(Finding("jobs", Aspect.PROFILE, *_profile(experiments, profile, rate)))
    return findings


def before_launch(steps: Sequence[Step], *, profile: Profile | None, runtime: Runtime) -> list[Finding]:
    """What would make a launch of ``steps`` fail, besides missing files: those are looked at anyway.

    For a cluster, where a fault would show after hours in a queue, training steps are taken, too (half a second each
    at scale mini, once). On this machine a run shows its own fault as soon. Runs at scale tiny, which is for tests, are
    over before they are checked: there steps are never taken, and nothing is looked at for this machine.
    """
    experiments = {step.run.signature: step.experiment for step in steps}
    if not experiments or (profile is None and steps[0].run.scale is Scale.TINY):
        return []
    scale = steps[0].run.scale
    findings = check(
        list(experiments.values()),
        runs=Counter(step.run.signature for step in steps),
        take_steps=profile is not None and scale is not Scale.TINY,
        look_at_data=False,
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
    recipe = variant.at(scale)
    by_hand = formula(recipe)
    if by_hand is not None and by_hand != cost:
        return Outcome.FAILED, (
            f"expected {by_hand.params:,} parameters and {by_hand.flops:,} FLOPs by the sizes of its paper, "
            f"got {cost.params:,} and {cost.flops:,}: the model is another than its recipe says"
        )
    baseline = find_table(variant.table).baseline_of(variant)
    whole = f"{_short(cost.params)} parameters, {_short(cost.flops)} FLOPs"
    if baseline is None or baseline == variant:
        return Outcome.OK, whole
    there = _counted(baseline.at(scale))
    if isinstance(there, Exception):
        return Outcome.FAILED, f"{baseline.id} cannot be built: {_in_a_line(there)}"
    params, flops = cost.params - there.params, cost.flops - there.flops
    expected = expected_change(recipe, baseline.at(scale))
    if expected is None:
        return Outcome.OK, f"{_change(params, flops)}; no formula says what to expect"
    if (params, flops) != (expected.params, expected.flops):
        return Outcome.FAILED, (
            f"expected {expected.params:+,} parameters and {expected.flops:+,} FLOPs beside {baseline.id} "
            f"({expected.source}), got {params:+,} and {flops:+,}"
        )
    return Outcome.OK, _change(params, flops)


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
    from vswin.data.annotations import DataError, Split, VideoList
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


def _disk(experiments: Sequence[Experiment], runs: Mapping[str, int]) -> tuple[Outcome, str]:
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


def unsuited(experiments: Sequence[Experiment], profile: Profile) -> str | None:
    """Why jobs of ``profile`` could never compute these runs: processes that cannot share a batch, no GPU, no time."""
    processes = profile.processes_per_run
    for experiment in experiments:
        if experiment.recipe.optim.batch_size % processes:
            return (
                f"batches of {experiment.recipe.optim.batch_size} clips ({experiment.name}) cannot be shared out among "
                f"{processes} processes; change nodes, gpus or processes of the profile"
            )
    if experiments[0].scale is Scale.PAPER and not profile.gpus:
        return "scale paper needs a GPU: set gpus in the profile"
    if 60 * profile.minutes <= profile.signal_seconds + _START_SECONDS:
        return (
            f"a job of {profile.minutes} min is told to save {profile.signal_seconds} s before its end, before it has "
            "trained at all; raise time or lower signal_seconds"
        )
    return None


def _profile(experiments: Sequence[Experiment], profile: Profile, rate: Rate) -> tuple[Outcome, str]:
    """Whether jobs of ``profile`` can compute these runs, and within their time."""
    if reason := unsuited(experiments, profile):
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


# -------------------------------------------------------------------------------------------- one step


def forget_steps() -> None:
    """Have steps taken again that went well before."""
    shutil.rmtree(_passed(""), ignore_errors=True)


def _loaded(experiment: Experiment, found: tuple[Outcome, str]) -> tuple[Outcome, str]:
    """What came of loading the weights that were ``found``."""
    recipe, scale = experiment.recipe, experiment.scale
    file = _file_to_load(experiment)
    if file is None or found[0] is not Outcome.OK:
        return found
    passed = _passed(_digest("weights", recipe.signature, _code(), *_stamp(file)))
    if not passed.exists():
        from .job import initial_model

        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                initial_model(recipe, scale=scale, seed=0, runtime=Runtime())
        except Exception as error:
            return Outcome.FAILED, (
                f"{file} cannot be loaded: {_in_a_line(error)}. {where_to_get(file.stem)}; "
                f"expected in it: {expected_shapes(recipe)}"
            )
        write_json(passed, {"said": said.getvalue().strip()})
    return Outcome.OK, str(json.loads(passed.read_text())["said"])


def _file_to_load(experiment: Experiment) -> Path | None:
    """The weights that a training starts from, None from scratch and where they are still to be trained."""
    name = weights_name(experiment.recipe.init)
    file = name and weights_file(name, scale=experiment.scale)
    return None if not file or (origin(name) and not file.exists()) else file


def runtime_of_a_process(experiment: Experiment, runtime: Runtime, profile: Profile | None) -> Runtime:
    """As ``runtime``, with no more clips in memory at once than one of the processes of ``profile`` would have."""
    if profile is None:
        return runtime
    own = max(1, experiment.recipe.optim.batch_size // profile.processes_per_run)
    return replace(runtime, micro_batch=min(runtime.micro_batch or own, own))


def _step(
    experiment: Experiment, weights: Outcome, *, data: Mapping[str, VideoList] | str, runtime: Runtime
) -> tuple[Outcome, str]:
    if weights is Outcome.FAILED:
        return Outcome.SKIPPED, "no weights to start from"
    if isinstance(data, str):
        return Outcome.SKIPPED, "no videos"
    import torch

    on_gpu = experiment.scale is Scale.PAPER and not runtime.cpu
    if on_gpu and not torch.cuda.is_available():
        return Outcome.SKIPPED, "torch sees no GPU here; run vswin check on a machine of the cluster that has one"
    file = _file_to_load(experiment)
    passed = _passed(
        _digest(
            "step",
            experiment.recipe.signature,
            _code(),
            *(found.fingerprint for found in data.values()),
            *(_stamp(file) if file else ()),
            json.dumps(asdict(runtime), sort_keys=True),
            torch.__version__,
            torch.cuda.get_device_name() if on_gpu else "cpu",
        )
    )
    if passed.exists():
        return Outcome.OK, "taken before"
    began = time.monotonic()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            loss = _take_step(experiment, data, runtime)
    except Exception as error:
        return Outcome.FAILED, _in_a_line(error)
    seconds = time.monotonic() - began
    write_json(passed, {"variant": experiment.name, "seconds": seconds, "loss": loss})
    return Outcome.OK, f"loss {loss:.2f}, {seconds:.1f} s"


def _take_step(experiment: Experiment, data: Mapping[str, VideoList], runtime: Runtime) -> float:
    """Train the model of ``experiment`` for one step as a job does, checkpoint included; its loss."""
    import torch

    from vswin.data.annotations import Split
    from vswin.data.datasets import TrainClips
    from vswin.data.loaders import train_loader
    from vswin.data.sampler import TrainBatches
    from vswin.training.determinism import make_deterministic
    from vswin.training.train import train

    from .job import initial_model

    recipe = experiment.recipe
    if _file_to_load(experiment) is None:
        # what is trained first takes a step of its own
        recipe = replace(recipe, init=InitConfig())
    found = data[Split.TRAIN.value]
    device = torch.device("cuda" if experiment.scale is Scale.PAPER and not runtime.cpu else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    make_deterministic(device)
    clips = TrainClips(found, config=recipe.data, seed=0, keep_decoded=False)
    batches = TrainBatches(
        num_videos=len(clips), batch_size=recipe.optim.batch_size, epochs=recipe.optim.epochs, seed=0
    )
    losses: list[float] = []
    folders.runs().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".check-", dir=folders.runs()) as folder:
        train(
            initial_model(recipe, scale=experiment.scale, seed=0, runtime=runtime),
            lambda step: train_loader(clips, batches=batches.starting_at(step), limit=runtime.broken_videos),
            config=recipe.optim,
            steps_per_epoch=batches.steps_per_epoch,
            seed=0,
            directory=Path(folder),
            device=device,
            micro_batch=runtime.micro_batch,
            log=lambda step, metrics: losses.append(metrics["train/loss"]),
            warn=lambda message: None,
            should_stop=lambda: bool(losses),
        )
    return losses[0]


def _passed(digest: str) -> Path:
    """The note that something went well."""
    return folders.runs() / "cache" / "steps" / (f"{digest}.json" if digest else "")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _stamp(file: Path) -> tuple[str, ...]:
    """Tells a file from a later one of the same name."""
    found = file.stat()
    return str(file), str(found.st_size), str(found.st_mtime_ns)


@cache
def _code() -> str:
    """A digest of both packages as they lie here: uncommitted changes count, too."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(path for package in ("vswin", "experiments") for path in (root / package).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


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
