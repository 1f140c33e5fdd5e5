"""What a launch would do, and why: a pure function of experiments, seeds and how their runs stand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from . import folders, upstream
from .jobs import FRUITLESS_LIMIT, Failure, Jobs
from .recipe import Scale
from .registry import Experiment
from .runs import RunDirectory, State


class Mode(StrEnum):
    """What a launch does about runs that have been tried before.

    ``cached`` does what is missing and leaves alone what failed by its own error; ``retry`` tries that again, too;
    ``force`` does everything again that is named, and moves what was there aside; ``read-only`` starts nothing.
    """

    CACHED = "cached"
    RETRY = "retry"
    FORCE = "force"
    READ_ONLY = "read-only"


class Action(StrEnum):
    """What to do about a run."""

    DONE = "DONE"
    RUNNING = "RUNNING"
    PENDING = "PENDING"
    RESUME = "RESUME"
    RETRY = "RETRY"
    SUBMIT = "SUBMIT"
    BLOCKED = "BLOCKED"
    FAILED = "FAILED"

    @property
    def needs_work(self) -> bool:
        """Whether a launch starts a job for it at once; one that is BLOCKED starts after what it waits for."""
        return self in (Action.RESUME, Action.RETRY, Action.SUBMIT)


_DECISIONS = {
    State.DONE: (Action.DONE, "finished"),
    State.RUNNING: (Action.RUNNING, "a process is working on it"),
    State.PENDING: (Action.PENDING, "submitted, not started yet"),
    State.INTERRUPTED: (Action.RESUME, "stopped before its end; goes on from its newest checkpoint"),
    State.FAILED: (Action.RETRY, "the last attempt failed"),
    State.UNTESTED: (Action.RESUME, "trained, but not yet tested under every protocol of its rows"),
    State.NEW: (Action.SUBMIT, "never started"),
}
_AGAIN = "--mode retry tries it again"


def decide(state: State, mode: Mode, failure: Failure | None = None, fruitless: int = 0) -> tuple[Action, str]:
    """What to do about a run in ``state`` whose last attempt ended by ``failure``, and why.

    ``fruitless``: how many attempts in a row ended by a failure of the machine without a step forward.
    """
    action, why = _DECISIONS[state]
    if state is State.DONE and mode is Mode.FORCE:
        return Action.RETRY, "done; is moved aside and done again"
    if not action.needs_work:
        return action, why
    tried_again = mode in (Mode.RETRY, Mode.FORCE)
    if state is State.FAILED:
        return (action, why) if tried_again else (Action.FAILED, f"{why}; {_AGAIN}")
    if failure is Failure.OWN_ERROR:
        why = "its job failed before the run began (see vswin logs)"
        return (Action.RETRY, why) if tried_again else (Action.FAILED, f"{why}; {_AGAIN}")
    if failure is None or state is State.UNTESTED:
        return action, why
    if failure.is_of_the_machine and fruitless >= FRUITLESS_LIMIT and not tried_again:
        return Action.FAILED, f"{failure}, {fruitless} times in a row without a step forward; {_AGAIN}"
    goes_on = "goes on from its newest checkpoint" if state is State.INTERRUPTED else "never started"
    return action if state is State.INTERRUPTED else Action.RETRY, f"{failure}; {goes_on}"


@dataclass(frozen=True)
class Step:
    """One run of the plan. ``waits_for`` are the upstream runs that are not done, in the order they are needed."""

    experiment: Experiment
    seed: int
    action: Action
    why: str
    waits_for: tuple[RunDirectory, ...] = ()

    @property
    def run(self) -> RunDirectory:
        """Where this run lives."""
        return RunDirectory(self.experiment.scale, self.experiment.recipe.signature, self.seed)

    def name_of(self, source: RunDirectory) -> str:
        """The row whose run in ``waits_for`` this is."""
        return next(each.name for each in self.experiment.upstream if each.recipe.signature == source.signature)

    def state(self) -> State:
        """How the run stands now, which may be further than when it was planned."""
        return self.run.state(self.experiment.protocols)


def plan(
    experiments: Iterable[Experiment],
    *,
    seeds: Iterable[int],
    state: Callable[[RunDirectory, Collection[str]], State],
    mode: Mode = Mode.CACHED,
    failure: Callable[[RunDirectory], Failure | None] = lambda run: None,
    fruitless: Callable[[RunDirectory], int] = lambda run: 0,
    recorded: Callable[[RunDirectory, Collection[str]], bool] = lambda run, protocols: False,
) -> list[Step]:
    """One step per experiment and seed, seed by seed, so that every variant has a first result early.

    Before them, once, what they start from (see ``upstream``): an upstream run has one seed, whatever ``seeds`` are.
    A run that was never started here but has its records is done, too; one that others start from only if none of them
    has work left, since its weights are no record.
    """
    experiments = list(experiments)
    named = {experiment.recipe.signature for experiment in experiments}
    first = {source.recipe.signature: source for experiment in experiments for source in experiment.upstream}
    todo = [(source, upstream.SEED) for source in first.values()]
    todo += [
        (experiment, seed)
        for seed in seeds
        for experiment in experiments
        if not is_upstream(experiment) or (seed == upstream.SEED and experiment.recipe.signature not in first)
    ]
    states: dict[RunDirectory, State] = {}

    def state_of(experiment: Experiment, seed: int) -> State:
        run = directory(experiment, seed)
        if run not in states:
            states[run] = state(run, experiment.protocols)
        return states[run]

    def only_recorded(experiment: Experiment, seed: int) -> bool:
        return (
            mode is not Mode.FORCE
            and state_of(experiment, seed) is State.NEW
            and recorded(directory(experiment, seed), experiment.protocols)
        )

    needed = {
        source.recipe.signature
        for experiment, seed in todo
        if state_of(experiment, seed) is not State.DONE and not only_recorded(experiment, seed)
        for source in experiment.upstream
    }
    steps: list[Step] = []
    # done, and to be done again
    anew: set[RunDirectory] = set()
    for experiment, seed in todo:
        run = directory(experiment, seed)
        if only_recorded(experiment, seed) and experiment.recipe.signature not in needed:
            steps.append(Step(experiment, seed, Action.DONE, "recorded in the results folder; --mode force runs it"))
            continue
        # only what was asked for is done again
        own = Mode.RETRY if mode is Mode.FORCE and experiment.recipe.signature not in named else mode
        action, why = decide(state_of(experiment, seed), own, failure(run), fruitless(run))
        if action.needs_work and state_of(experiment, seed) is State.DONE:
            anew.add(run)
        sources = [
            source
            for source in experiment.upstream
            if state_of(source, upstream.SEED) is not State.DONE or directory(source, upstream.SEED) in anew
        ]
        if sources and action.needs_work:
            action, why = Action.BLOCKED, _blocked(sources, steps)
        waits_for = tuple(directory(source, upstream.SEED) for source in sources) if action is Action.BLOCKED else ()
        steps.append(Step(experiment, seed, action, why, waits_for))
    return steps


def plan_now(experiments: Iterable[Experiment], *, seeds: Iterable[int], mode: Mode = Mode.CACHED) -> list[Step]:
    """``plan`` as things stand: what the run directories say, and Slurm of the jobs they were submitted to."""
    experiments, seeds = list(experiments), list(seeds)
    needed = [directory(each, seed) for each in experiments for seed in seeds]
    needed += {directory(source, upstream.SEED): None for each in experiments for source in each.upstream}
    jobs = Jobs(needed)
    return plan_of(experiments, seeds=seeds, jobs=jobs, mode=mode)


def plan_of(
    experiments: Iterable[Experiment], *, seeds: Iterable[int], jobs: Jobs, mode: Mode = Mode.CACHED
) -> list[Step]:
    """``plan`` by what ``jobs`` and the results folder say."""
    experiments = list(experiments)
    recorded = {scale: _recorded(scale) for scale in {experiment.scale for experiment in experiments}}
    return plan(
        experiments,
        seeds=seeds,
        state=jobs.state,
        mode=mode,
        failure=jobs.failure,
        fruitless=jobs.fruitless,
        recorded=lambda run, protocols: all(
            (run.signature, protocol, f"seed{run.seed}") in recorded[run.scale] for protocol in protocols
        ),
    )


def _recorded(scale: Scale) -> set[tuple[str, str, str]]:
    """What the names of records say, on whatever videos: signature, protocol and seed."""
    names = [path.stem.split("-") for path in folders.records(scale).glob("*-seed*.json")]
    return {(name[0], name[1], name[-1]) for name in names}


def directory(experiment: Experiment, seed: int) -> RunDirectory:
    """Where the run of ``experiment`` with ``seed`` lives."""
    return RunDirectory(experiment.scale, experiment.recipe.signature, seed)


def is_upstream(experiment: Experiment) -> bool:
    """Whether it exists for others to start from, and so has one seed only."""
    return experiment.variants[0].table == upstream.TABLE_ID


def _blocked(sources: list[Experiment], before: list[Step]) -> str:
    for step in before:
        if step.action is Action.FAILED and step.experiment in sources:
            return f"{step.experiment.name} failed: {step.run.last_error() or step.why}"
    return f"waits for {' and '.join(source.name for source in sources)}"
