"""Launches without a terminal: ``launch`` and ``run`` do what the commands of these names do, from any Python process.

Both return what happened, and tell an ``Observer`` of it on the way; neither prints.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vswin.errors import ExplainedError, UsageError

from .. import folders
from ..files import locked
from ..registry.catalogue import Experiment, experiments_named, find_experiment, find_variant
from ..registry.recipe import Scale
from ..registry.stand_ins import SEED
from ..runs.jobs import Jobs
from ..runs.run import Run
from ..runs.runtime import Runtime, default_runtime
from ..runs.slurm import SlurmError
from ..runs.state import RunState
from .plan import Action, Ended, Mode, Step, plan_now, plan_of, runs_of
from .profiles import LOCAL, Profile, find_profile

if TYPE_CHECKING:
    from .cluster import Outlook
    from .repair import Repair


# Neither done nor to be started: the user decides, or Slurm has to answer first.
_LEFT_ALONE = (Action.FAILED, Action.DAMAGED, Action.UNKNOWN)


class NotReadyError(ExplainedError, RuntimeError):
    """A launch that would not work; the message says why."""


class BusyError(ExplainedError, RuntimeError):
    """A run that something else works on, or waits to."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a launch runs, and how it computes.

    ``profile``: ``local`` is this machine. ``jobs``: how many runs at once there; default: one per core, or per GPU at
    scale paper. ``runtime``: default: what suits the scale and the machine. ``allow_dirty``: whether a cluster may run
    uncommitted code, which is then kept with every run.
    """

    profile: str = LOCAL
    jobs: int | None = None
    runtime: Runtime | None = None
    allow_dirty: bool = False


@dataclass(frozen=True, kw_only=True)
class Launched:
    """The outcome of a launch.

    ``adopted``: jobs of an earlier launch that died before it had noted them. ``repaired``: damage to runs that was
    repaired before they went on. ``skipped``: runs that failed before, in
    mode read-only everything that is not done, and where a launch on this machine finds all other runs on a cluster,
    those; also runs that Slurm could not be asked about. ``on_cluster``: runs that wait or work there. On this machine
    runs are ``started``, and end as ``finished`` or ``failed``; on a cluster they are ``submitted`` as ``jobs``, except
    for ``blocked`` ones, whose upstream runs failed, and for those that are ``left`` to a later launch because the
    queue is ``full``. ``behind``: what MLflow has not been told, in words; empty if nothing.
    """

    scale: Scale
    steps: tuple[Step, ...]
    adopted: tuple[str, ...] = ()
    repaired: tuple[Repair, ...] = ()
    skipped: tuple[Step, ...] = ()
    on_cluster: tuple[Step, ...] = ()
    started: tuple[Step, ...] = ()
    finished: tuple[Ended, ...] = ()
    failed: tuple[Ended, ...] = ()
    submitted: tuple[Step, ...] = ()
    jobs: tuple[str, ...] = ()
    blocked: tuple[Step, ...] = ()
    left: tuple[Step, ...] = ()
    full: str = ""
    behind: str = ""

    @property
    def undone(self) -> tuple[Step, ...]:
        """The runs that were not done when it was planned."""
        return tuple(step for step in self.steps if step.action is not Action.DONE)

    @property
    def ok(self) -> bool:
        """True where everything is done, on its way on a cluster, or left to a later launch."""
        return not (self.skipped or self.failed or self.blocked)


@dataclass(frozen=True, kw_only=True)
class Preview:
    """The plan of a launch: its ``steps``, the ``scripts`` that it would give to sbatch, and what is ``missing``.

    ``outlook``: the word of Slurm, None where nothing would be submitted.
    """

    steps: tuple[Step, ...]
    scripts: tuple[str, ...] = ()
    outlook: Outlook | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RunHere:
    """A run that is done: its ``records``, one for each test, and what MLflow has not been told (empty if nothing).

    ``repaired``: damage to it, or to what it starts from, that was repaired before.
    """

    run: Run
    records: tuple[Path, ...]
    behind: str = ""
    repaired: tuple[Repair, ...] = ()


class Observer:
    """Hears of a launch while it goes on. Every method does nothing here: override those that you need."""

    def waiting(self) -> None:
        """Another launch of this scale is under way, and is waited for."""

    def planned(self, launched: Launched) -> None:
        """There is a plan; nothing has been started."""

    def starting(self, steps: Sequence[Step], *, jobs: int) -> None:
        """The checks went well: ``steps`` are started on this machine, at most ``jobs`` at once."""

    def started(self, step: Step) -> None:
        """A job for ``step`` is started, or is waited for."""

    def polled(self, running: Sequence[Step]) -> None:
        """Called a few times a second while ``running`` are under way."""

    def logged(self, step: int, metrics: Mapping[str, float]) -> None:
        """The run in this process has logged the metrics of a training step."""

    def ended(self, end: Ended) -> None:
        """A run has ended, well or not."""


def preview(
    tables: Iterable[str],
    *,
    scale: Scale = Scale.MINI,
    seeds: int | Collection[int] = 3,
    mode: Mode = Mode.CACHED,
    target: Target | None = None,
) -> Preview:
    """Plan a launch and stop. Needs no data, no weights and no Slurm: what is missing is listed.

    The arguments are those of ``launch``.
    """
    from .repair import found

    target = target or Target()
    profile = find_profile(target.profile)
    chosen = experiments_named(scale, tables)
    runs = runs_of(chosen, numbers(seeds))
    steps = todo = plan_of(
        chosen, seeds=numbers(seeds), jobs=(jobs := Jobs(runs)), mode=mode, damages=found(runs, jobs)
    )
    scripts: list[str] = []
    outlook = None
    if profile:
        from . import pinned
        from .cluster import ask, submittable
        from .cluster import scripts as scripts_of

        todo = submittable(steps)
        if todo:
            places = pinned.tables_folder()
            code = _clone(target)
            scripts = scripts_of(todo, profile=profile, code=code, tables=places[1] if places else None)
            outlook = ask(todo, profile=profile, code=code)
    return Preview(
        steps=tuple(steps),
        scripts=tuple(scripts),
        outlook=outlook,
        missing=tuple(dict.fromkeys(_missing(todo, target=target, profile=profile, outlook=outlook))),
    )


def numbers(seeds: int | Collection[int]) -> Collection[int]:
    """The seeds that ``launch`` means: of a number, so many from 0 on."""
    return range(seeds) if isinstance(seeds, int) else seeds


def launch(
    tables: Iterable[str],
    *,
    scale: Scale = Scale.MINI,
    seeds: int | Collection[int] = 3,
    mode: Mode = Mode.CACHED,
    target: Target | None = None,
    observer: Observer | None = None,
) -> Launched:
    """Run every variant of ``tables`` once for each of ``seeds``; done runs are kept.

    ``tables`` may also be single variants (``table4``, ``table4/split``); ``seeds`` are numbers, or how many from 0 on.
    On this machine it waits for the runs to end; KeyboardInterrupt has them save first. On a cluster it submits them
    and returns. Raises ExplainedError where it could not work: a name, data, weights, memory, uncommitted code.
    """
    from .cluster import adopt
    from .repair import repair

    target, observer = target or Target(), observer or Observer()
    chosen = experiments_named(scale, tables)
    profile = find_profile(target.profile)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folders.runs() / scale / ".launch.lock", on_wait=observer.waiting))
        except OSError as error:
            raise _cannot_write(error) from error
        adopted = adopt(scale)
        read_only = mode is Mode.READ_ONLY
        runs = runs_of(chosen, numbers(seeds))
        repaired = () if read_only else tuple(repair(runs, Jobs(runs)))
        steps = tuple(plan_now(chosen, seeds=numbers(seeds), mode=mode))
        launched = Launched(scale=scale, steps=steps, adopted=tuple(adopted), repaired=repaired)
        skipped = tuple(step for step in launched.undone if read_only or step.action in _LEFT_ALONE)
        launched = replace(launched, skipped=skipped)
        observer.planned(launched)
        todo = [step for step in launched.undone if step not in skipped]
        if not todo:
            return launched
        if profile:
            return _launch_on_cluster(launched, todo, mode=mode, target=target, profile=profile)
        return _launch_here(launched, todo, mode=mode, target=target, observer=observer)


def run(
    variant: str,
    *,
    seed: int = 0,
    scale: Scale = Scale.MINI,
    runtime: Runtime | None = None,
    observer: Observer | None = None,
) -> RunHere | None:
    """Train and test ``variant`` (such as ``table4/split``) in this process, after the runs that it starts from.

    Resumes from the newest checkpoint; a failed run is retried. Under torchrun or srun the processes share every
    batch, and all but the first return None. Raises BusyError while something else works on the run.
    """
    from vswin.training.distributed import World

    from ..job.body import run_one
    from ..results.collect import records_of
    from ..tracking.follow import Follower
    from .check import unwritable
    from .repair import repair

    observer = observer or Observer()
    runtime = runtime or default_runtime(scale)
    experiment = find_experiment(scale, find_variant(variant))
    if experiment.is_upstream and seed != SEED:
        raise UsageError(f"{variant} has one run, of seed {SEED}, shared by all that starts from it")
    world = World.from_environment()
    repaired: list[Repair] = []
    if world.size == 1:
        # of several processes none may see the directory change while it plans
        runs = runs_of([experiment], [seed])
        repaired = repair(runs, Jobs(runs))
    steps = plan_now([experiment], seeds=[seed], mode=Mode.RETRY)
    todo = [step for step in steps if step.action is not Action.DONE]
    is_first = world.is_first
    if is_first:
        for step in todo:
            if step.action in (Action.RUNNING, Action.PENDING, Action.DAMAGED, Action.UNKNOWN):
                raise BusyError(f"{step.run.name} is {step.action}: {step.why}")
        _check_ready(todo)
        if todo and (reason := unwritable()):
            raise NotReadyError(reason)
    behind: list[str] = []
    for step in todo:
        each = step.run
        order = (scale, each.experiment.name, each.signature, each.seed)
        if not is_first:
            run_one(*order, runtime=runtime)
            continue
        follower = Follower(scale)
        follower.add(each)
        observer.started(step)
        try:
            run_one(*order, runtime=runtime, on_step=observer.logged)
        finally:
            behind.append(follower.finish())
            observer.ended(Ended(step, each.state(), None))
    if not is_first:
        return None
    asked = steps[-1].run
    records = []
    for protocol in experiment.protocols:
        result = asked.directory.result(protocol)
        records += [result] if result.exists() else records_of(asked, protocol)
    return RunHere(run=asked, records=tuple(records), behind="; ".join(filter(None, behind)), repaired=tuple(repaired))


# ---------------------------------------------------------------------------------------------------- this machine


def _launch_here(launched: Launched, todo: list[Step], *, mode: Mode, target: Target, observer: Observer) -> Launched:
    from ..tracking.follow import Follower
    from ..tracking.told import is_behind
    from .cluster import is_on_cluster
    from .local import launch_local, places

    on_cluster = tuple(step for step in todo if is_on_cluster(step))
    launched = replace(launched, on_cluster=on_cluster)
    todo = [step for step in todo if step not in on_cluster]
    if not todo:
        return replace(launched, skipped=(*launched.skipped, *on_cluster))
    _check_ready(todo)
    runtime = target.runtime or default_runtime(launched.scale)
    jobs = target.jobs or places(runtime)
    _check(todo, profile=None, runtime=runtime)
    _set_aside(todo, mode)
    observer.starting(todo, jobs=jobs)
    started: list[Step] = []
    ends: list[Ended] = []
    with Follower(launched.scale) as follower:
        for step in launched.steps:
            # what an earlier launch that was killed has left
            if step not in todo and is_behind(step.run):
                follower.add(step.run)

        def start(step: Step) -> None:
            started.append(step)
            follower.add(step.run)
            observer.started(step)

        with closing(launch_local(todo, jobs=jobs, runtime=runtime, on_start=start, on_poll=observer.polled)) as ended:
            for end in ended:
                ends.append(end)
                observer.ended(end)
    return replace(
        launched,
        started=tuple(started),
        finished=tuple(end for end in ends if end.state is RunState.DONE),
        failed=tuple(end for end in ends if end.state is not RunState.DONE),
        behind=follower.finish(),
    )


# --------------------------------------------------------------------------------------------------------- cluster


def _launch_on_cluster(
    launched: Launched, todo: list[Step], *, mode: Mode, target: Target, profile: Profile
) -> Launched:
    from . import pinned
    from .cluster import RefusedError, Submitted, is_on_cluster, launch_on_slurm, note_refusal, submittable

    if any(step.action.needs_work for step in todo):
        _check_ready(todo)
    runtime = target.runtime or default_runtime(launched.scale, cores=profile.cpus)
    ready = submittable(launched.steps)
    submitted = Submitted()
    if ready:
        _ask_slurm(ready, target=target, profile=profile)
    _check(todo, profile=profile, runtime=runtime)
    if ready:
        code, tables = pinned.pin(allow_dirty=target.allow_dirty), pinned.pin_tables()
        aside = _set_aside(ready, mode)
        try:
            submitted = launch_on_slurm(
                ready, name=target.profile, profile=profile, runtime=runtime, code=code, tables=tables
            )
        except RefusedError as error:
            _put_back(aside)
            note_refusal(error.steps, name=target.profile, reason=str(error))
            raise
        finally:
            _put_back(aside)
    return replace(
        launched,
        submitted=submitted.steps,
        jobs=submitted.jobs,
        on_cluster=tuple(step for step in launched.steps if is_on_cluster(step)),
        blocked=tuple(step for step in launched.steps if step.action is Action.BLOCKED and step not in ready),
        left=submitted.left,
        full=submitted.why,
    )


def _ask_slurm(steps: list[Step], *, target: Target, profile: Profile) -> None:
    """See that Slurm would take the jobs; raises NotReadyError, and keeps with the runs what it says against them."""
    from .check import unsuited
    from .cluster import ask, note_refusal

    if reason := unsuited([step.run.experiment for step in steps], profile, target.runtime):
        # said better here than by Slurm
        raise NotReadyError(f"profile {target.profile} would not work; see vswin check\n  {reason}")
    outlook = ask(steps, profile=profile, code=_clone(target))
    if outlook.unasked:
        raise SlurmError(f"could not ask Slurm, so nothing is submitted: {outlook.unasked}")
    if outlook.refused:
        reasons = "\n  ".join(outlook.refused)
        note_refusal(steps, name=target.profile, reason="; ".join(outlook.refused))
        raise NotReadyError(
            f"Slurm would refuse these jobs, so nothing is submitted; correct profile {target.profile}:\n  {reasons}"
        )


def _clone(target: Target) -> Path:
    """Where the clone of the code belongs, for a script that is only shown."""
    from . import pinned

    try:
        return pinned.folder(allow_dirty=target.allow_dirty)[0]
    except pinned.UncommittedCodeError:
        # it is listed as missing
        return pinned.folder(allow_dirty=True)[0]
    except pinned.PinError:
        return Path("CLONE")


def _missing(
    steps: Sequence[Step], *, target: Target, profile: Profile | None, outlook: Outlook | None
) -> Iterable[str]:
    """Everything that a launch of ``steps`` would stop at, in words."""
    from ..job.ready import missing
    from .check import unsuited, unwritable, without_gpu

    yield from missing(_experiments(steps))
    if reason := unwritable():
        yield reason
    if profile is None:
        runtime = target.runtime or (default_runtime(steps[0].run.scale) if steps else None)
        if runtime and runtime.on_gpu and any(step.action.needs_work for step in steps) and (reason := without_gpu()):
            yield reason
        return
    from . import pinned

    if reason := unsuited([step.run.experiment for step in steps], profile, target.runtime) if steps else None:
        yield f"{target.profile}: {reason}"
    if absent := [program for program in ("sbatch", "srun", "squeue") if not shutil.which(program)]:
        yield f"{', '.join(absent)}: not on this machine; launch where Slurm's commands are"
    elif outlook:
        yield from (f"{target.profile}: Slurm would refuse the jobs: {reason}" for reason in outlook.refused)
        if outlook.unasked:
            yield f"could not ask Slurm: {outlook.unasked}"
    try:
        pinned.folder(allow_dirty=target.allow_dirty)
    except (pinned.PinError, pinned.UncommittedCodeError) as error:
        yield str(error)


# ---------------------------------------------------------------------------------------------------------- checks


def _cannot_write(error: OSError) -> NotReadyError:
    from .check import unwritable

    return NotReadyError(unwritable() or f"cannot write to {error.filename or folders.runs()}: {error.strerror}")


def _check_ready(steps: Sequence[Step]) -> None:
    """See that data and weights are there before anything starts; raises vswin's DataError."""
    from ..job.ready import check_ready

    check_ready([step.run.experiment for step in steps])


def _check(steps: Sequence[Step], *, profile: Profile | None, runtime: Runtime) -> None:
    """See that every model can take a step and fits into memory; raises NotReadyError."""
    from .check import before_launch

    todo = [step for step in steps if step.action.needs_work or step.action is Action.BLOCKED]
    if found := before_launch(todo, profile=profile, runtime=runtime):
        told = dict.fromkeys(f"{finding.aspect}, {finding.about}: {finding.detail}" for finding in found)
        raise NotReadyError("\n  ".join(["this would not work; see vswin check", *told]))


def _experiments(steps: Sequence[Step]) -> list[Experiment]:
    """The experiments that still have to read data and weights."""
    return [step.run.experiment for step in steps if step.action.needs_work or step.action is Action.BLOCKED]


def _set_aside(steps: Iterable[Step], mode: Mode) -> dict[Run, Path]:
    """Move aside what is done and is to be repeated; returns where it lies now."""
    return {
        step.run: step.run.directory.set_aside()
        for step in (steps if mode is Mode.FORCE else ())
        if step.run.directory.path.exists() and step.run.state() is RunState.DONE
    }


def _put_back(aside: Mapping[Run, Path]) -> None:
    """Undo ``_set_aside`` for runs that were not submitted."""
    for run, folder in aside.items():
        if folder.exists() and not run.directory.path.exists():
            folder.rename(run.directory.path)
