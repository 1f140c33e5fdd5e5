"""The plan is a pure function of experiments, seeds and states."""

import pytest

from experiments.plan import Action, Mode, decide, plan
from experiments.recipe import Scale
from experiments.registry import experiments, find_table
from experiments.runs import RunDirectory, State
from experiments.slurm import Failure

TABLE4 = experiments(Scale.TINY, [find_table("table4")])


def test_every_state_has_an_action() -> None:
    expected = {
        State.NEW: Action.SUBMIT,
        State.PENDING: Action.PENDING,
        State.RUNNING: Action.RUNNING,
        State.INTERRUPTED: Action.RESUME,
        State.FAILED: Action.FAILED,
        State.UNTESTED: Action.RESUME,
        State.DONE: Action.DONE,
    }
    assert set(expected) == set(State)
    for state, action in expected.items():
        [step] = plan(TABLE4[:1], seeds=[0], state=lambda run, protocols, state=state: state)  # type: ignore[misc]
        assert (step.action, bool(step.why)) == (action, True)
    assert [action for action in Action if action.needs_work] == [Action.RESUME, Action.RETRY, Action.SUBMIT]


def test_seed_by_seed_in_table_order() -> None:
    steps = plan(TABLE4, seeds=range(2), state=lambda run, protocols: State.DONE if run.seed == 0 else State.NEW)
    assert [(step.experiment.name, step.seed, step.action) for step in steps] == [
        ("table4/joint", 0, Action.DONE),
        ("table4/split", 0, Action.DONE),
        ("table4/factorized", 0, Action.DONE),
        ("table4/joint", 1, Action.SUBMIT),
        ("table4/split", 1, Action.SUBMIT),
        ("table4/factorized", 1, Action.SUBMIT),
    ]
    assert steps[0].run == RunDirectory(Scale.TINY, TABLE4[0].recipe.signature, 0)


@pytest.mark.parametrize(
    ("state", "failure", "fruitless", "cached", "retry"),
    [
        (State.FAILED, Failure.OWN_ERROR, 1, Action.FAILED, Action.RETRY),
        # a line of a profile's set-up failed: the run itself never began
        (State.NEW, Failure.OWN_ERROR, 0, Action.FAILED, Action.RETRY),
        (State.NEW, Failure.NODE_FAILURE, 0, Action.RETRY, Action.RETRY),
        (State.NEW, Failure.CANCELLED, 0, Action.RETRY, Action.RETRY),
        (State.NEW, Failure.DEPENDENCY, 0, Action.RETRY, Action.RETRY),
        (State.INTERRUPTED, Failure.PREEMPTED, 0, Action.RESUME, Action.RESUME),
        (State.INTERRUPTED, Failure.OUT_OF_MEMORY, 2, Action.RESUME, Action.RESUME),
        (State.INTERRUPTED, Failure.OUT_OF_MEMORY, 3, Action.FAILED, Action.RESUME),
        (State.INTERRUPTED, Failure.CANCELLED, 3, Action.RESUME, Action.RESUME),
        (State.INTERRUPTED, None, 0, Action.RESUME, Action.RESUME),
        (State.UNTESTED, Failure.KILLED, 3, Action.RESUME, Action.RESUME),
    ],
)
def test_what_failed_by_itself_is_told_from_what_a_machine_did(
    state: State, failure: Failure | None, fruitless: int, cached: Action, retry: Action
) -> None:
    assert decide(state, Mode.CACHED, failure, fruitless)[0] is cached
    assert decide(state, Mode.READ_ONLY, failure, fruitless)[0] is cached
    assert decide(state, Mode.RETRY, failure, fruitless)[0] is retry
    action, why = decide(state, Mode.CACHED, failure, fruitless)
    assert ("--mode retry tries it again" in why) is (action is Action.FAILED)


def test_only_force_does_again_what_is_done() -> None:
    actions = {mode: decide(State.DONE, mode)[0] for mode in Mode}
    assert actions == {mode: Action.RETRY if mode is Mode.FORCE else Action.DONE for mode in Mode}
    assert decide(State.RUNNING, Mode.FORCE)[0] is Action.RUNNING
