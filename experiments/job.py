"""What a job does: plain functions that turn (scale, variant, signature, seed) into a finished run directory.

Importing this module imports no torch, so the launcher can name these functions cheaply. A run may be computed by
several processes (torchrun, or srun under Slurm): each of them calls the same function.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from vswin.config import InitConfig, Split, VideoInitConfig

from . import folders, provenance, slurm
from .clock import Clock
from .energy import gpus
from .follow import Follower
from .journal import Journal, read
from .recipe import Recipe, Scale, to_dict
from .record import Batches, Checkpoint, Kind
from .registry import Experiment, find_experiment, find_variant
from .runs import FencedError, Ownership, RunDirectory, State, write_json, write_text
from .runtime import Runtime
from .signals import Stop, stop_signals
from .system_metrics import SystemMetrics, visible_gpus
from .testing import StoppedError, TestBench, leave_record
from .upstream import SEED, origin, weights_name
from .weights import weights_file, where_to_get

if TYPE_CHECKING:
    from torch import nn

    from vswin.data.annotations import VideoList
    from vswin.training.distributed import World

OnStep = Callable[[int, Mapping[str, float]], None]


class SignatureError(RuntimeError):
    """The code of a job derives another recipe than the launcher did."""


class NoGpuError(RuntimeError):
    """Scale paper was asked for where torch sees no GPU."""


class UpstreamError(RuntimeError):
    """The run that this one starts from is not done."""


class OtherDataError(RuntimeError):
    """The videos a run is trained on changed since it began."""


class WrongCodeError(RuntimeError):
    """A job was started with other code than it was pinned to."""


class RunsFailedError(RuntimeError):
    """Some of the runs that share a job failed; each left its ``error.txt``."""


class StopRequested(SystemExit):
    """The run was asked to stop and has saved its state; it can be resumed."""


def work(runs: list[tuple[str, str, str, int]], runtime: Mapping[str, Any], code: str | None = None) -> None:
    """Train and test each of ``runs`` (scale, variant, signature, seed), one after another: the body of a job.

    ``code`` is the clone that the job is pinned to. A run that fails does not keep the others from being done. Started
    again by Slurm, it goes on where it was: what is done is not done again, nor what failed by its own error.

    Raises WrongCodeError where this is other code, whatever a single run raises, and RunsFailedError for several.
    """
    if code is not None:
        check_pinned(code)
    with _following(runs):
        _work(runs, Runtime(**runtime))


def _work(runs: list[tuple[str, str, str, int]], runtime: Runtime) -> None:
    from vswin.training.distributed import World

    failed = []
    with stop_signals() as stop:
        for scale, variant, signature, seed in runs:
            run = RunDirectory(Scale(scale), signature, seed)
            name = f"{variant} seed {seed}"
            if _failed_in_this_job(run):
                print(f"{name} failed in an earlier start of this job and is left alone", flush=True)
                failed.append(name)
                continue
            if stop.requested:
                # it came when the run before was as good as done
                _end_stopped(stop, is_first=World.from_environment().is_first)
                raise StopRequested(f"stopped before {name}")
            try:
                run_one(run.scale, variant, signature, seed, runtime=runtime, stop=stop)
            except Exception as error:
                # ranks that are out of step could not go on together
                if len(runs) == 1 or World.from_environment().size > 1 or isinstance(error, FencedError):
                    raise
                traceback.print_exc()
                failed.append(name)
    if failed:
        raise RunsFailedError(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}")


def check_pinned(code: str) -> None:
    """See that this process computes with the clone ``code``; raises WrongCodeError."""
    import vswin

    for package, file in (("vswin", vswin.__file__), ("experiments", __file__)):
        if Path(code).resolve() not in Path(file).resolve().parents:
            raise WrongCodeError(f"{package} should come from {code}, but comes from {Path(file).parent}")


def _failed_in_this_job(run: RunDirectory) -> bool:
    attempt, own = run.last_attempt(), slurm.own_job()
    # not in the same start: a shell in a job may try again
    return bool(run.error.exists() and attempt and own and attempt.job == own[0] and attempt.restart < own[1])


@contextmanager
def _following(runs: list[tuple[str, str, str, int]]) -> Iterator[None]:
    """On a cluster the launcher does not stay, so jobs keep a tracking server up to date themselves.

    Where there is none they write journals only, and collect or sync on the login node feeds MLflow.
    """
    from vswin.training.distributed import World

    launched_here = os.environ.get("SUBMITIT_EXECUTOR") != "slurm"
    if launched_here or not folders.tracking_uri().startswith("http") or not World.from_environment().is_first:
        yield
        return
    follower = Follower(Scale(runs[0][0]))
    for scale, variant, signature, seed in runs:
        follower.add(RunDirectory(Scale(scale), signature, seed), find_experiment(Scale(scale), find_variant(variant)))
    try:
        yield
    finally:
        if missing_there := follower.finish():
            print(f"MLflow: {missing_there}; nothing is lost, vswin sync tells it the rest", flush=True)


def run_one(
    scale: Scale,
    variant: str,
    signature: str,
    seed: int,
    *,
    runtime: Runtime,
    on_step: OnStep = lambda step, metrics: None,
    stop: Stop | None = None,
) -> None:
    """Train and test one run, from its newest checkpoint if there is one. Leaves its records or ``error.txt``.

    Raises SignatureError if ``variant`` is not what the launcher meant, AlreadyRunningError while another process
    works on the run, StopRequested after a stop signal, and whatever went wrong. ``on_step`` is told what the journal
    is told.
    """
    from vswin.training.distributed import DistributedError, World

    run = RunDirectory(scale, signature, seed)
    world = World.from_environment()
    experiment = find_experiment(scale, find_variant(variant))
    same = experiment.recipe.signature == signature
    if same and run.state(experiment.protocols) is State.DONE:
        return
    # the first process owns the directory; the others only compute
    owner = Ownership(run) if world.is_first else None
    with nullcontext(stop) if stop else stop_signals() as stop:
        try:
            if not same:
                raise SignatureError(
                    f"{variant} at scale {scale} is {experiment.recipe.signature} here, but {signature} was launched: "
                    "the code changed in between; launch again"
                )
            _train_and_test(run, experiment, owner, world=world, runtime=runtime, stop=stop, on_step=on_step)
        except StopRequested:
            if owner:
                owner.stopped()
            _end_stopped(stop, is_first=world.is_first)
            raise
        except DistributedError as error:
            if stop.requested and owner is None:
                stop.await_end()
            if owner and not run.error.exists():
                print(f"another process of this run is gone, which is no fault of the run: {error}", flush=True)
                owner.lost_a_rank()
            raise
        except Exception:
            if owner:
                owner.check()
            # whichever process it is: what the first one notices is only that another is gone
            write_text(run.error, traceback.format_exc())
            raise


def _end_stopped(stop: Stop, *, is_first: bool) -> None:
    """Leave it to Slurm to start this job again, where it will; all is saved."""
    if is_first:
        stop.hand_over()
    else:
        stop.await_end()


def check_ready(experiments: Collection[Experiment]) -> None:
    """See that what ``experiments`` read is there before any job starts; raises vswin.data's DataError if not."""
    from vswin.data.annotations import DataError

    for message in missing(experiments):
        raise DataError(message)


def missing(experiments: Collection[Experiment]) -> Iterator[str]:
    """What ``experiments`` read and what is not there, in words, each with what to do about it."""
    from vswin.data.annotations import DataError, VideoList
    from vswin.data.moving_digits import is_outdated

    names = {weights_name(experiment.recipe.init) or "" for experiment in experiments} - {""}
    for name in sorted(names):
        # what is trained here need not be there yet
        if origin(name) is None and not weights_file(name).exists():
            yield f"{weights_file(name)}: the weights to start from are missing; {where_to_get(name)}"
    read = {(experiment.recipe.data.dataset, split) for experiment in experiments for split in _splits(experiment)}
    for dataset in sorted({dataset for dataset, _ in read}):
        if is_outdated(folders.data(), dataset=dataset):
            yield (
                f"{folders.data() / dataset}: made by another version of this code, with other videos; make it again: "
                f"vswin data generate {dataset}"
            )
    for dataset, split in sorted(read):
        try:
            videos = VideoList.of_split(folders.data(), dataset=dataset, split=split)
            _ = videos.fingerprint
            for experiment in experiments:
                if experiment.recipe.data.dataset == dataset:
                    _check_fits(experiment, videos, training=split is Split.TRAIN)
        except DataError as error:
            yield str(error)


def _check_fits(experiment: Experiment, videos: VideoList, *, training: bool) -> None:
    """See that a recipe can be trained on these videos, which of one's own are easily too few, or of more classes."""
    from vswin.data.annotations import DataError

    recipe = experiment.recipe
    classes = len(videos.classes) or max(videos.labels) + 1
    if classes > recipe.model.num_classes:
        raise DataError(
            f"{videos.source}: {classes} classes, but {experiment.name} tells {recipe.model.num_classes} apart; set "
            "model.num_classes in its recipe"
        )
    if training and len(videos) < recipe.optim.batch_size:
        raise DataError(
            f"{videos.source}: {len(videos)} videos, fewer than a batch of {experiment.name}, "
            f"{recipe.optim.batch_size}; set optim.batch_size in its recipe"
        )


def _train_and_test(
    run: RunDirectory,
    experiment: Experiment,
    owner: Ownership | None,
    *,
    world: World,
    runtime: Runtime,
    stop: Stop,
    on_step: OnStep,
) -> None:
    import torch

    from vswin.data.annotations import VideoList
    from vswin.data.datasets import TrainClips
    from vswin.data.loaders import train_loader
    from vswin.data.sampler import TrainBatches
    from vswin.models import save_weights
    from vswin.training.determinism import make_deterministic
    from vswin.training.distributed import process_group
    from vswin.training.train import End, train

    recipe = experiment.recipe
    code = provenance.commit()

    # ------------------------------------------------------------------ where
    miniature = run.scale is not Scale.PAPER
    on_cpu = miniature or runtime.cpu
    if not on_cpu and not torch.cuda.is_available():
        raise NoGpuError(
            "scale paper needs a GPU and torch sees none; see vswin doctor, or use --scale mini, or --cpu for a model "
            "of your own that is small enough"
        )
    device = world.device("cpu" if on_cpu else "cuda")
    if miniature:
        # one thread: as many runs at once as there are cores, and the same bits on any number of cores
        torch.set_num_threads(1)
    make_deterministic(device)
    clock = Clock(_last_metrics(run), gpus=gpus(world, device=device))

    def warn(message: str) -> None:
        print(f"warning: {message}", flush=True)

    # ------------------------------------------------------------------- what
    _insist_on_upstream(experiment)
    model = initial_model(recipe, scale=run.scale, seed=run.seed, runtime=runtime)
    videos = {
        split: VideoList.of_split(folders.data(), dataset=recipe.data.dataset, split=split)
        for split in _splits(experiment)
    }
    bench = TestBench(
        scale=run.scale,
        recipe=recipe,
        videos=videos,
        device=device,
        world=world,
        runtime=runtime,
        warn=warn,
        should_stop=lambda: stop.requested,
        on_batch=owner.show_life if owner else lambda: None,
    )
    clips = TrainClips(videos[Split.TRAIN], config=recipe.data, seed=run.seed, keep_decoded=bench.keep_decoded)
    batches = TrainBatches(
        num_videos=len(clips),
        batch_size=recipe.optim.batch_size,
        epochs=recipe.optim.epochs,
        seed=run.seed,
        rank=world.rank,
        world_size=world.size,
    )

    system = SystemMetrics(gpus=visible_gpus(device))
    with ExitStack() as stack:
        journal: Journal | None = None
        manifests = {}
        started_from: Checkpoint | None = None
        if owner:
            manifests = {split.value: some.manifest() for split, some in videos.items()}
            started_from = _started_from(recipe, scale=run.scale)
            _same_start(run, {"train": videos[Split.TRAIN].fingerprint}, started_from)
            write_json(run.recipe, to_dict(recipe))
            if code.dirty and code.is_known and (diff := provenance.uncommitted()):
                write_text(run.code_diff, diff)
            write_json(run.datasets, manifests)
            write_json(run.code, asdict(code))
            write_text(run.environment, "".join(f"{item}\n" for item in provenance.installed()))
            compared_after = _compared_after(run, {**bench.machine(), "micro_batch": runtime.micro_batch})
            journal = stack.enter_context(
                Journal(
                    run.journal,
                    check_owner=owner.check,
                    compared_after=compared_after,
                    # not every kernel and every exchange between GPUs adds up in the same order each time
                    on_difference=None if device.type == "cpu" else warn,
                )
            )
        stack.enter_context(process_group(world, device=device))

        def log(step: int, metrics: Mapping[str, float]) -> None:
            if journal:
                metrics = {**metrics, **clock.metrics(), **system.due()}
                journal.write(step, metrics)
                on_step(step, metrics)

        def before_save() -> None:
            # a checkpoint is never ahead of the journal, and never replaces a later attempt's
            if owner and journal:
                owner.check()
                journal.sync()
                # where checkpoints were lost it is trained again, and what was made of the weights then is not of these
                run.drop_products()

        def stop_now() -> NoReturn:
            # a signal does not reach all ranks at the same time
            for number in world.gather(stop.number):
                if number is not None and not stop.requested:
                    stop.note(number)
            if journal:
                journal.sync()
            raise StopRequested(f"stopped at step {run.last_step()} of {len(batches)}; saved")

        # --------------------------------------------------------------- train
        outcome = train(
            model,
            lambda step: train_loader(
                clips,
                batches=batches.starting_at(step),
                workers=runtime.workers,
                limit=runtime.broken_videos,
                warn=warn,
            ),
            config=recipe.optim,
            steps_per_epoch=batches.steps_per_epoch,
            seed=run.seed,
            directory=run.checkpoints,
            device=device,
            world=world,
            micro_batch=runtime.micro_batch,
            classes=videos[Split.TRAIN].classes,
            describe=lambda rows: ", ".join(videos[Split.TRAIN].names[row] for row in rows.tolist()),
            log=log,
            warn=warn,
            before_save=before_save,
            should_stop=lambda: stop.requested,
            checkpoint_seconds=60 * runtime.checkpoint_minutes,
            validate=bench.validate,
            validate_epochs=runtime.validate_epochs,
        )
        if outcome.end is End.STOPPED:
            stop_now()

        if owner and not run.weights.exists():
            # the file alone says what it is and how to show it videos
            save_weights(
                outcome.model,
                run.weights,
                classes=videos[Split.TRAIN].classes,
                metadata={"recipe": json.dumps(to_dict(recipe))},
            )

        # ---------------------------------------------------------------- test
        for signature, protocol in experiment.protocols.items():
            result = run.result(signature)
            if result.exists():
                continue
            # other videos make other scores: what was scored on them is left aside
            partial = run.partial_result(signature, videos=videos[protocol.split].fingerprint)
            try:
                predictions = bench.predict(outcome.model, protocol, partial=partial)
            except StoppedError:
                stop_now()
            if owner is None or predictions is None:
                continue
            # after the lines of tests that are done, in whatever order they come
            step = outcome.step + len(run.results()) + 1
            name = f"test/{protocol.views}"
            log(step, {f"{name}/top1": predictions.top(1), f"{name}/top5": predictions.top(5)})
            owner.check()
            leave_record(
                result,
                predictions,
                bench=bench,
                protocol=protocol,
                kind=Kind.TRAINED,
                code=code,
                dataset=manifests,
                clock=clock,
                partial=partial,
                seed=run.seed,
                batches=_batches(recipe, world=world, runtime=runtime),
                started_from=started_from,
                attempts=owner.number,
                steps=outcome.step,
            )


def _splits(experiment: Experiment) -> list[Split]:
    """The splits that are read: to train, to validate along the way, and to test."""
    tested = {protocol.split for protocol in experiment.protocols.values()}
    return [split for split in Split if split in tested | {Split.TRAIN, Split.VAL}]


def _insist_on_upstream(experiment: Experiment) -> None:
    for source in experiment.upstream:
        run = RunDirectory(experiment.scale, source.recipe.signature, SEED)
        if not run.weights.exists():
            raise UpstreamError(
                f"{experiment.name} starts from {source.name}, which is not trained yet; "
                f"vswin run {source.name} --scale {experiment.scale}"
            )


def initial_model(recipe: Recipe, *, scale: Scale, seed: int, runtime: Runtime) -> nn.Module:
    import torch

    from vswin.models import build, inflate, load_checkpoint, read_checkpoint
    from vswin.models.checkpoints import HeadLoading

    torch.manual_seed(seed)
    model = build(recipe.model, activation_checkpointing=runtime.recompute)
    match recipe.init:
        case InitConfig(image=str(name), embedding=embedding, bias=bias):
            print(
                inflate(read_checkpoint(weights_file(name, scale=scale)), model, embedding=embedding, bias=bias),
                flush=True,
            )
        case VideoInitConfig(video=name):
            print(load_checkpoint(model, weights_file(name, scale=scale), head=HeadLoading.KEEP), flush=True)
    return model


def _started_from(recipe: Recipe, *, scale: Scale) -> Checkpoint | None:
    """The file of weights that a training of ``recipe`` starts from; None from scratch."""
    name = weights_name(recipe.init)
    if name is None:
        return None
    with weights_file(name, scale=scale).open("rb") as file:
        return Checkpoint(file=name, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _same_start(run: RunDirectory, videos: Mapping[str, str], weights: Checkpoint | None) -> None:
    """Note the videos a run is trained on and the weights it starts from at its first attempt, and insist on them."""
    found = {**videos, **({"weights": weights.sha256} if weights else {})}
    if not run.data.exists():
        write_json(run.data, found)
        return
    noted = json.loads(run.data.read_text())
    changes = [name for name in sorted(found | noted) if found.get(name) != noted.get(name)]
    if changes:
        what = "the weights it started from" if changes == ["weights"] else "the videos"
        raise OtherDataError(
            f"{what} are others than when this run began; bring them back, or delete {run.path} to start over"
        )


def _compared_after(run: RunDirectory, machine: Mapping[str, Any]) -> int:
    """Note what the bits of this attempt depend on; the last step of the journal that it is not compared with.

    That is the newest one when a run went on elsewhere, for all later attempts: a checkpoint before it may be of
    either machine.
    """
    before = json.loads(run.machine.read_text()) if run.machine.exists() else machine
    changes = [f"{name} {before.get(name)} -> {value}" for name, value in machine.items() if before.get(name) != value]
    compared_after: int = before.get("compared_after", 0)
    if changes:
        print(
            f"goes on elsewhere than it began ({', '.join(changes)}): steps computed again are not compared", flush=True
        )
        compared_after = run.last_step()
    write_json(run.machine, {**machine, "compared_after": compared_after})
    return compared_after


def _batches(recipe: Recipe, *, world: World, runtime: Runtime) -> Batches:
    own = recipe.optim.batch_size // world.size
    micro = min(runtime.micro_batch or own, own)
    return Batches(
        effective=recipe.optim.batch_size, processes=world.size, accumulation=math.ceil(own / micro), micro=micro
    )


def _last_metrics(run: RunDirectory) -> Mapping[str, float]:
    """The last value of every metric: not every line has all."""
    last: dict[str, float] = {}
    for entry, _ in read(run.journal):
        last |= entry.metrics
    return last
