"""The plan is a pure function of experiments, seeds and states."""

from experiments.plan import Action, plan
from experiments.recipe import Scale
from experiments.registry import experiments, find_table
from experiments.runs import RunDirectory, State

TABLE4 = experiments(Scale.TINY, [find_table("table4")])


def test_every_state_has_an_action() -> None:
    expected = {
        State.NEW: Action.SUBMIT,
        State.PENDING: Action.PENDING,
        State.RUNNING: Action.RUNNING,
        State.INTERRUPTED: Action.RESUME,
        State.FAILED: Action.RETRY,
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
