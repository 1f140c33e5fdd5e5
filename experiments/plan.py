"""What a launch would do, and why: a pure function of experiments, seeds and the states of their runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from .registry import Experiment
from .runs import RunDirectory, State


class Action(StrEnum):
    """What to do about a run."""

    DONE = "DONE"
    RUNNING = "RUNNING"
    PENDING = "PENDING"
    RESUME = "RESUME"
    RETRY = "RETRY"
    SUBMIT = "SUBMIT"

    @property
    def needs_work(self) -> bool:
        """Whether a launch starts a job for it."""
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


@dataclass(frozen=True)
class Step:
    """One run of the plan."""

    experiment: Experiment
    seed: int
    action: Action
    why: str

    @property
    def run(self) -> RunDirectory:
        """Where this run lives."""
        return RunDirectory(self.experiment.scale, self.experiment.recipe.signature, self.seed)

    def state(self) -> State:
        """How the run stands now, which may be further than when it was planned."""
        return self.run.state(self.experiment.protocols)


def plan(
    experiments: Iterable[Experiment],
    *,
    seeds: Iterable[int],
    state: Callable[[RunDirectory, Iterable[str]], State],
) -> list[Step]:
    """One step per experiment and seed, seed by seed, so that every variant has a first result early."""
    experiments = list(experiments)
    steps = []
    for seed in seeds:
        for experiment in experiments:
            run = RunDirectory(experiment.scale, experiment.recipe.signature, seed)
            steps.append(Step(experiment, seed, *_DECISIONS[state(run, experiment.protocols)]))
    return steps
