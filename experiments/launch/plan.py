"""The plan of a launch: what it would do about each run, and why. A pure function of runs and their states."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from ..files import Damage
from ..registry.catalogue import Experiment
from ..registry.stand_ins import SEED
from ..results.recorded import recorded_tests
from ..runs.jobs import FRUITLESS_LIMIT, Failure, Jobs
from ..runs.run import Run
from ..runs.state import RunState
from ..runs.weights import lost_weights


class Mode(StrEnum):
    """The treatment of runs that were attempted before.

    ``cached`` does what is missing and skips runs that failed by their own error; ``retry`` retries those, too;
    ``force`` repeats everything that is named, and moves what was there aside; ``read-only`` starts nothing.
    """

    CACHED = "cached"
    RETRY = "retry"
    FORCE = "force"
    READ_ONLY = "read-only"


class Action(StrEnum):
    """The next thing to do about a run."""

    DONE = "DONE"
    RUNNING = "RUNNING"
    PENDING = "PENDING"
    UNKNOWN = "UNKNOWN"
    RESUME = "RESUME"
    RETRY = "RETRY"
    SUBMIT = "SUBMIT"
    BLOCKED = "BLOCKED"
    FAILED = "FAILED"
    DAMAGED = "DAMAGED"

    @property
    def needs_work(self) -> bool:
        """True where a launch starts a job for it at once; one that is BLOCKED starts after what it waits for."""
        return self in (Action.RESUME, Action.RETRY, Action.SUBMIT)


_DECISIONS = {
    RunState.DONE: (Action.DONE, "finished"),
    RunState.RUNNING: (Action.RUNNING, "a process is working on it"),
    RunState.PENDING: (Action.PENDING, "submitted, not started yet"),
    RunState.UNKNOWN: (Action.UNKNOWN, "Slurm could not be asked about its job"),
    RunState.INTERRUPTED: (Action.RESUME, "stopped before its end"),
    RunState.FAILED: (Action.RETRY, "the last attempt failed"),
    RunState.DAMAGED: (Action.DAMAGED, "a file of it cannot be read"),
    RunState.UNTESTED: (Action.RESUME, "trained, but not yet tested under every protocol of its rows"),
    RunState.NEW: (Action.SUBMIT, "never started"),
}
_AGAIN = "--mode retry retries it"


def decide(
    state: RunState, mode: Mode, failure: Failure | None = None, fruitless: int = 0, *, saved: bool = True
) -> tuple[Action, str]:
    """The action for a run in ``state`` whose last attempt ended by ``failure``, and why.

    ``fruitless``: how many attempts in a row ended by a failure of the machine without a step forward. ``saved``:
    whether there is a checkpoint to resume from.
    """
    action, why = _DECISIONS[state]
    resumes = "resumes from its newest checkpoint" if saved else "starts again, no checkpoint was saved"
    if state is RunState.INTERRUPTED:
        why = f"stopped before its end; {resumes}"
    if state is RunState.DONE and mode is Mode.FORCE:
        return Action.RETRY, "done; moved aside and repeated"
    if not action.needs_work:
        return action, why
    tried_again = mode in (Mode.RETRY, Mode.FORCE)
    if state is RunState.FAILED:
        return (action, why) if tried_again else (Action.FAILED, f"{why}; {_AGAIN}")
    if failure is Failure.OWN_ERROR:
        why = "its job failed before the run began (see vswin logs)"
        return (Action.RETRY, why) if tried_again else (Action.FAILED, f"{why}; {_AGAIN}")
    if failure is None or state is RunState.UNTESTED:
        return action, why
    if failure.is_of_the_machine and fruitless >= FRUITLESS_LIMIT and not tried_again:
        return Action.FAILED, f"{failure}, {fruitless} times in a row without a step forward; {_AGAIN}"
    next_ = resumes if state is RunState.INTERRUPTED else "never started"
    return action if state is RunState.INTERRUPTED else Action.RETRY, f"{failure}; {next_}"


@dataclass(frozen=True)
class Step:
    """One run of the plan. ``waits_for`` are the upstream runs that are not done, in the order they are needed."""

    run: Run
    action: Action
    why: str
    waits_for: tuple[Run, ...] = ()


@dataclass(frozen=True)
class Ended:
    """A step that has ended, in ``state``. ``log`` is its job's output, None where this launch started no job for it.

    ``blocked`` is the upstream run that failed, where this one was never started because of it.
    """

    step: Step
    state: RunState
    log: Path | None
    blocked: Run | None = None


def plan(
    experiments: Iterable[Experiment],
    *,
    seeds: Iterable[int],
    state: Callable[[Run], RunState],
    mode: Mode = Mode.CACHED,
    failure: Callable[[Run], Failure | None] = lambda run: None,
    fruitless: Callable[[Run], int] = lambda run: 0,
    recorded: Callable[[Run], bool] = lambda run: False,
    damage: Callable[[Run], Damage | None] = lambda run: None,
    lost_weights: Callable[[Run], bool] = lambda run: False,
    note: Callable[[Run], str] = lambda run: "",
    saved: Callable[[Run], bool] = lambda run: True,
) -> list[Step]:
    """One step per experiment and seed, seed by seed, so that every variant has a first result early.

    Before them, once, what they start from (see ``upstream``): an upstream run has one seed, whatever ``seeds`` are.
    A run that was never started here but has its records is done, too; one that others start from only if none of them
    has work left, since its weights are no record. One that has lost its weights is not done while others need them.
    """
    experiments = list(experiments)
    named = {experiment.recipe.signature for experiment in experiments}
    todo = runs_of(experiments, seeds)
    states = {run: state(run) for run in todo}
    only_recorded = {run for run in todo if mode is not Mode.FORCE and states[run] is RunState.NEW and recorded(run)}
    undone = [run for run in todo if states[run] is not RunState.DONE and run not in only_recorded]
    # the weights of an upstream run are no record: while others have work left, it has to be there
    needed = {source for run in undone for source in run.upstream}
    asked = {run for run in todo if run.experiment.is_upstream and run.signature in named}
    lost = {source for source in needed | asked if states[source] is RunState.DONE and lost_weights(source)}
    states |= dict.fromkeys(lost, RunState.UNTESTED)
    steps: list[Step] = []
    # done, and to be done again
    anew: set[Run] = set()
    for run in todo:
        if run in only_recorded and run not in needed:
            steps.append(Step(run, Action.DONE, "recorded in the results folder; --mode force runs it"))
            continue
        # only what was asked for is done again
        own = Mode.RETRY if mode is Mode.FORCE and run.signature not in named else mode
        action, why = decide(states[run], own, failure(run), fruitless(run), saved=saved(run))
        if action is Action.DAMAGED:
            why = str(damage(run) or why)
        if run in lost:
            why = "its weights are missing or damaged; they are made again from its newest checkpoint"
        if (told := note(run)) and (action is Action.UNKNOWN or action.needs_work):
            action, why = (Action.RETRY if action is Action.SUBMIT else action), told
        if action.needs_work and states[run] is RunState.DONE:
            anew.add(run)
        sources = tuple(source for source in run.upstream if states[source] is not RunState.DONE or source in anew)
        if sources and action.needs_work:
            steps.append(Step(run, Action.BLOCKED, _blocked(sources, steps), sources))
        else:
            steps.append(Step(run, action, why))
    return steps


def runs_of(experiments: Sequence[Experiment], seeds: Iterable[int]) -> list[Run]:
    """The runs of a plan in its order: first what others start from, then seed by seed."""
    upstream = list(dict.fromkeys(Run(source, SEED) for each in experiments for source in each.upstream))
    own = [
        Run(experiment, seed)
        for seed in seeds
        for experiment in experiments
        if not experiment.is_upstream or seed == SEED
    ]
    return list(dict.fromkeys([*upstream, *own]))


def plan_now(experiments: Iterable[Experiment], *, seeds: Iterable[int], mode: Mode = Mode.CACHED) -> list[Step]:
    """``plan`` as things stand: what the run directories say, and Slurm of the jobs they were submitted to."""
    experiments, seeds = list(experiments), list(seeds)
    return plan_of(experiments, seeds=seeds, jobs=Jobs(runs_of(experiments, seeds)), mode=mode)


def plan_of(
    experiments: Iterable[Experiment],
    *,
    seeds: Iterable[int],
    jobs: Jobs,
    mode: Mode = Mode.CACHED,
    damages: Mapping[Run, Damage] = MappingProxyType({}),
) -> list[Step]:
    """``plan`` by what ``jobs``, the results folder and a closer look at the files of runs (``damages``) say."""
    experiments = list(experiments)
    # a damaged record counts for nothing: it is made again
    recorded = {scale: recorded_tests(scale) for scale in {experiment.scale for experiment in experiments}}
    return plan(
        experiments,
        seeds=seeds,
        state=lambda run: RunState.DAMAGED if run in damages else jobs.state(run),
        mode=mode,
        failure=jobs.failure,
        fruitless=jobs.fruitless,
        damage=lambda run: damages.get(run) or jobs.damage(run),
        lost_weights=lambda run: lost_weights(run.directory),
        note=jobs.note,
        saved=lambda run: any(run.directory.checkpoints.glob("*")),
        recorded=lambda run: all(
            (run.signature, protocol, f"seed{run.seed}") in recorded[run.scale] for protocol in run.experiment.protocols
        ),
    )


def _blocked(sources: Collection[Run], before: list[Step]) -> str:
    for step in before:
        if step.action in (Action.FAILED, Action.DAMAGED, Action.UNKNOWN) and step.run in sources:
            return f"{step.run.experiment.name} {step.action.lower()}: {step.run.look().error or step.why}"
    return f"waits for {' and '.join(source.experiment.name for source in sources)}"
