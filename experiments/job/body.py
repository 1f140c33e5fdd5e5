"""The body of a job: plain functions that turn (scale, variant, signature, seed) into a finished run directory.

Importing this module imports no torch, so the launcher can name these functions cheaply. A run may be computed by
several processes (torchrun, or srun under Slurm): each of them calls the same function.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from vswin.config import Split

from .. import folders
from ..files import write_text
from ..registry.catalogue import Experiment, find_experiment, find_variant
from ..registry.recipe import Recipe, Scale, to_dict
from ..runs import slurm
from ..runs.attempts import Attempt, FencedError, Ownership
from ..runs.directory import RunDirectory
from ..runs.journal import Journal, missing_steps, read
from ..runs.run import Run
from ..runs.runtime import Runtime
from ..runs.state import RunState
from ..runs.weights import lost_weights
from ..tracking.follow import Follower
from . import provenance
from .clock import Clock, gpus
from .errors import RunsFailedError, SignatureError, StoppedError, StopRequested, WrongCodeError
from .ready import check_upstream, read_videos
from .signals import Stop, stop_signals
from .system_metrics import SystemMetrics, visible_gpus
from .testing import Evaluator, TrainedWeights, leave_record
from .training import Training, initial_model, set_up
from .watch import JobWatch, OnStep, OwnerWatch

if TYPE_CHECKING:
    from torch import nn

    from vswin.training.distributed import World
    from vswin.training.train import TrainResult


def work(runs: list[tuple[str, str, str, int]], runtime: Mapping[str, Any], code: str | None = None) -> None:
    """Train and test each of ``runs`` (scale, variant, signature, seed), one after another: the body of a job.

    ``code`` is the clone that the job is pinned to. A run that fails does not stop the others. Started again by Slurm,
    the job resumes: it leaves alone the runs that are done, and those that failed by an error of their own.

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
    """Raise WrongCodeError unless this process computes with the clone ``code``."""
    import vswin

    for package, file in (("vswin", vswin.__file__), ("experiments", __file__)):
        if Path(code).resolve() not in Path(file).resolve().parents:
            raise WrongCodeError(f"{package} should come from {code}, but comes from {Path(file).parent}")


def _failed_in_this_job(run: RunDirectory) -> bool:
    attempt, own = Attempt.of(run), slurm.own_job()
    # not in the same start: a shell in a job may try again
    return bool(run.error.exists() and attempt and own and attempt.job == own[0] and attempt.restart < own[1])


@contextmanager
def _following(runs: list[tuple[str, str, str, int]]) -> Iterator[None]:
    """Keep a tracking server up to date from inside the job: on a cluster the launcher does not stay.

    Where there is no server, jobs write journals only, and collect or sync on the login node feeds MLflow.
    """
    from vswin.training.distributed import World

    launched_here = os.environ.get("SUBMITIT_EXECUTOR") != "slurm"
    if launched_here or not folders.tracking_uri().startswith("http") or not World.from_environment().is_first:
        yield
        return
    follower = Follower(Scale(runs[0][0]))
    for scale, variant, _, seed in runs:
        follower.add(Run(find_experiment(Scale(scale), find_variant(variant)), seed))
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
    # what others start from is no record: it is made again from the newest checkpoint
    lost = same and experiment.is_upstream and lost_weights(run)
    if same and not lost and Run(experiment, seed).state() is RunState.DONE:
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
            _train_and_test(run, experiment, owner, runtime=runtime, stop=stop, on_step=on_step)
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
            # whichever process it is: the first one sees no more than that another is gone
            write_text(run.error, traceback.format_exc())
            raise


def _end_stopped(stop: Stop, *, is_first: bool) -> None:
    """Have Slurm start this job again, where it is allowed to; everything is saved."""
    if is_first:
        stop.hand_over()
    else:
        stop.await_end()


def _train_and_test(
    run: RunDirectory, experiment: Experiment, owner: Ownership | None, *, runtime: Runtime, stop: Stop, on_step: OnStep
) -> None:
    """Train ``run``, keep its weights, and test them under every protocol. The first process is the ``owner``."""
    from vswin.training.distributed import process_group
    from vswin.training.train import End

    # ------------------------------------------------------------------- read
    # before anything is written: what is missing or does not fit leaves no trace but error.txt
    recipe = experiment.recipe
    code = provenance.commit()
    world = set_up(runtime)
    clock = Clock(_last_metrics(run), gpus=gpus(world))
    check_upstream(experiment)
    training = Training(recipe=recipe, seed=run.seed, runtime=runtime, world=world)
    model = initial_model(recipe, scale=run.scale, seed=run.seed, runtime=runtime)
    videos = read_videos(experiment)
    train_videos = videos[Split.TRAIN]

    with ExitStack() as stack:
        watch = JobWatch(stop=stop)
        started_from = None
        if owner:
            started_from = provenance.started_from(run, recipe)
            provenance.note_attempt(run, recipe, videos=videos, weights=started_from, code=code)
            journal = stack.enter_context(_journal(run, owner, training=training, watch=watch))
            system = SystemMetrics(gpus=visible_gpus(world.device))
            watch = OwnerWatch(
                stop=stop, run=run, owner=owner, journal=journal, clock=clock, system=system, on_step=on_step
            )
        stack.enter_context(process_group(world))

        # ----------------------------------------------------------------- train
        evaluator = Evaluator(scale=run.scale, recipe=recipe, videos=videos, world=world, runtime=runtime, watch=watch)
        result = training.run(model, train_videos, directory=run.checkpoints, watch=watch, validate=evaluator.validate)
        if result.end is End.STOPPED:
            _stop_now(run, result, stop=stop, world=world)
        if owner and lost_weights(run):
            _keep_weights(result.model, run, recipe, classes=train_videos.classes)

        # ------------------------------------------------------------------ test
        for signature, protocol in experiment.protocols.items():
            file = run.result(signature)
            if file.exists():
                # an earlier attempt came this far
                continue
            # other videos make other scores: what was scored on them is left aside
            partial = run.partial_result(signature, videos=videos[protocol.split].fingerprint)
            try:
                predictions = evaluator.predict(result.model, protocol, partial=partial)
            except StoppedError:
                _stop_now(run, result, stop=stop, world=world)
            if owner is None or predictions is None:
                continue
            # after the lines of tests that are done, in whatever order they come
            step = result.step + len(run.results()) + 1
            name = f"test/{protocol.views}"
            watch.log(step, {f"{name}/top1": predictions.top(1), f"{name}/top5": predictions.top(5)})
            # a test takes hours at scale paper: long enough for another attempt to take the run over
            owner.check()
            weights = TrainedWeights(
                seed=run.seed,
                steps=result.step,
                attempts=owner.number,
                batches=training.batches,
                started_from=started_from,
                missing_steps=missing_steps(run.journal, last=result.step),
            )
            leave_record(
                file,
                predictions,
                evaluator=evaluator,
                protocol=protocol,
                weights=weights,
                code=code,
                clock=clock,
                partial=partial,
            )


def _keep_weights(model: nn.Module, run: RunDirectory, recipe: Recipe, *, classes: Sequence[str]) -> None:
    from vswin.models import save_weights

    # the file alone says what it is and how to show it videos
    save_weights(model, run.weights, classes=classes, metadata={"recipe": json.dumps(to_dict(recipe))})


def _journal(run: RunDirectory, owner: Ownership, *, training: Training, watch: JobWatch) -> Journal:
    """The journal of ``run``, which compares steps that are computed again with the ones that it has."""
    world = training.world
    machine = {**provenance.machine(world), "micro_batch": training.runtime.micro_batch}
    return Journal(
        run.journal,
        check_owner=owner.check,
        compared_after=provenance.note_machine(run, machine),
        # not every kernel and every exchange between GPUs adds up in the same order each time
        on_difference=None if world.device.type == "cpu" else watch.warn,
        warn=watch.warn,
    )


def _stop_now(run: RunDirectory, result: TrainResult, *, stop: Stop, world: World) -> NoReturn:
    # a signal does not reach all ranks at the same time
    for number in world.gather(stop.number):
        if number is not None and not stop.requested:
            stop.note(number)
    raise StopRequested(f"stopped at step {run.last_step()} of {result.total}; saved")


def _last_metrics(run: RunDirectory) -> Mapping[str, float]:
    """The last value of every metric: not every line has all."""
    last: dict[str, float] = {}
    for entry, _ in read(run.journal):
        last |= entry.metrics
    return last
