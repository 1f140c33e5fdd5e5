"""The plan is a pure function of experiments, seeds and states."""

from collections.abc import Callable

import pytest

from experiments.launch.plan import Action, Mode, Step, decide, plan
from experiments.registry.catalogue import experiments, find_experiment, find_table, find_variant
from experiments.registry.recipe import Scale
from experiments.runs.run import Run
from experiments.runs.slurm import Failure
from experiments.runs.state import RunState

TABLE4 = experiments(Scale.TINY, [find_table("table4")])
[IMAGE] = TABLE4[0].upstream
CHAIN = find_experiment(Scale.TINY, find_variant("deviations/ssv2"))


def states(changes: dict[str, RunState], *, other: RunState = RunState.NEW) -> Callable[[Run], RunState]:
    """The state of every run of a row in ``changes``, ``other`` for the rest."""
    known = {find_variant(name).at(Scale.TINY).signature: state for name, state in changes.items()}

    def state(run: Run) -> RunState:
        return known.get(run.signature, other)

    return state


def told(steps: list[Step]) -> list[tuple[str, int, Action]]:
    return [(step.run.experiment.name, step.run.seed, step.action) for step in steps]


def test_every_state_has_an_action() -> None:
    expected = {
        RunState.NEW: Action.SUBMIT,
        RunState.UNKNOWN: Action.UNKNOWN,
        RunState.PENDING: Action.PENDING,
        RunState.RUNNING: Action.RUNNING,
        RunState.INTERRUPTED: Action.RESUME,
        RunState.FAILED: Action.FAILED,
        RunState.DAMAGED: Action.DAMAGED,
        RunState.UNTESTED: Action.RESUME,
        RunState.DONE: Action.DONE,
    }
    assert set(expected) == set(RunState)
    for state, action in expected.items():
        known = states({"table4/joint": state, IMAGE.name: RunState.DONE})
        image, step = plan(TABLE4[:1], seeds=[0], state=known)
        assert image.action is Action.DONE
        assert (step.action, bool(step.why)) == (action, True)
    assert [action for action in Action if action.needs_work] == [Action.RESUME, Action.RETRY, Action.SUBMIT]


def test_seed_by_seed_in_table_order_after_what_they_start_from() -> None:
    done = states({IMAGE.name: RunState.DONE})
    steps = plan(TABLE4, seeds=range(2), state=lambda run: done(run) if run.seed == 0 else RunState.NEW)
    assert told(steps) == [
        ("upstream/image-t-small", 0, Action.DONE),
        ("table4/joint", 0, Action.SUBMIT),
        ("table4/split", 0, Action.SUBMIT),
        ("table4/factorized", 0, Action.SUBMIT),
        ("table4/joint", 1, Action.SUBMIT),
        ("table4/split", 1, Action.SUBMIT),
        ("table4/factorized", 1, Action.SUBMIT),
    ]
    assert steps[1].run == Run(TABLE4[0], 0)
    assert all(step.waits_for == () for step in steps)


def test_what_starts_from_a_chain_waits_for_all_of_it() -> None:
    image, video = (Run(source, 0) for source in CHAIN.upstream)
    steps = plan([CHAIN], seeds=[0, 1], state=states({}))
    assert told(steps) == [
        ("upstream/image-b-large", 0, Action.SUBMIT),
        ("upstream/video-b-window16", 0, Action.BLOCKED),
        ("deviations/ssv2", 0, Action.BLOCKED),
        ("deviations/ssv2", 1, Action.BLOCKED),
    ]
    assert [step.waits_for for step in steps] == [(), (image,), (image, video), (image, video)]
    assert steps[-1].why == "waits for upstream/image-b-large and upstream/video-b-window16"
    half = plan([CHAIN], seeds=[0], state=states({"upstream/image-b-large": RunState.DONE}))
    assert [step.action for step in half] == [Action.DONE, Action.SUBMIT, Action.BLOCKED]
    assert half[-1].waits_for == (video,)


def test_the_reason_of_a_failed_upstream_reaches_its_dependants(empty_home: object) -> None:
    run = Run(IMAGE, 0).directory
    run.path.mkdir(parents=True)
    run.error.write_text("Traceback (most recent call last):\n  somewhere\nRuntimeError: no luck\n")
    image, step = plan(TABLE4[:1], seeds=[0], state=Run.state)
    assert (image.action, step.action) == (Action.FAILED, Action.BLOCKED)
    assert step.why == "upstream/image-t-small failed: RuntimeError: no luck"


@pytest.mark.parametrize("state", [RunState.DONE, RunState.RUNNING])
def test_what_is_done_or_under_way_waits_for_nothing(state: RunState) -> None:
    *_, step = plan(TABLE4[:1], seeds=[0], state=states({"table4/joint": state}))
    assert (step.action.value.lower(), step.waits_for) == (state.value, ())


def test_upstream_rows_are_planned_once_whatever_the_seeds() -> None:
    table = experiments(Scale.TINY, [find_table("upstream")])
    steps = plan(table, seeds=range(3), state=states({}))
    assert sorted((step.run.experiment.name, step.run.seed) for step in steps) == sorted(
        (item.name, 0) for item in table
    )


@pytest.mark.parametrize(
    ("state", "failure", "fruitless", "cached", "retry"),
    [
        (RunState.FAILED, Failure.OWN_ERROR, 1, Action.FAILED, Action.RETRY),
        # a line of a profile's set-up failed: the run itself never began
        (RunState.NEW, Failure.OWN_ERROR, 0, Action.FAILED, Action.RETRY),
        (RunState.NEW, Failure.NODE_FAILURE, 0, Action.RETRY, Action.RETRY),
        (RunState.NEW, Failure.CANCELLED, 0, Action.RETRY, Action.RETRY),
        (RunState.NEW, Failure.DEPENDENCY, 0, Action.RETRY, Action.RETRY),
        (RunState.INTERRUPTED, Failure.PREEMPTED, 0, Action.RESUME, Action.RESUME),
        (RunState.INTERRUPTED, Failure.OUT_OF_MEMORY, 2, Action.RESUME, Action.RESUME),
        (RunState.INTERRUPTED, Failure.OUT_OF_MEMORY, 3, Action.FAILED, Action.RESUME),
        (RunState.INTERRUPTED, Failure.CANCELLED, 3, Action.RESUME, Action.RESUME),
        (RunState.INTERRUPTED, None, 0, Action.RESUME, Action.RESUME),
        (RunState.UNTESTED, Failure.KILLED, 3, Action.RESUME, Action.RESUME),
    ],
)
def test_what_failed_by_itself_is_told_from_what_a_machine_did(
    state: RunState, failure: Failure | None, fruitless: int, cached: Action, retry: Action
) -> None:
    assert decide(state, Mode.CACHED, failure, fruitless)[0] is cached
    assert decide(state, Mode.READ_ONLY, failure, fruitless)[0] is cached
    assert decide(state, Mode.RETRY, failure, fruitless)[0] is retry
    action, why = decide(state, Mode.CACHED, failure, fruitless)
    assert ("--mode retry retries it" in why) is (action is Action.FAILED)


def test_only_force_does_again_what_is_done() -> None:
    actions = {mode: decide(RunState.DONE, mode)[0] for mode in Mode}
    assert actions == {mode: Action.RETRY if mode is Mode.FORCE else Action.DONE for mode in Mode}
    assert decide(RunState.RUNNING, Mode.FORCE)[0] is Action.RUNNING


def test_what_starts_from_a_run_that_is_done_again_waits_for_it() -> None:
    named = [IMAGE, *TABLE4[:1]]
    image, dependant = plan(named, seeds=[0], state=states({}, other=RunState.DONE), mode=Mode.FORCE)
    assert (image.action, dependant.action) == (Action.RETRY, Action.BLOCKED)
    assert dependant.waits_for == (image.run,)
    assert dependant.why == f"waits for {IMAGE.name}"
    # not named, and so not done again
    image, dependant = plan(TABLE4[:1], seeds=[0], state=states({}, other=RunState.DONE), mode=Mode.FORCE)
    assert (image.action, dependant.action, dependant.waits_for) == (Action.DONE, Action.RETRY, ())


def test_recorded_runs_are_done_and_what_they_started_from_is_not_needed() -> None:
    def recorded(run: Run) -> bool:
        return run.signature == IMAGE.recipe.signature or run.seed == 0

    steps = plan(TABLE4, seeds=[0], state=states({}), recorded=recorded)
    assert {step.action for step in steps} == {Action.DONE}
    # the weights of what others start from are no record
    image, *rest = plan(TABLE4, seeds=[0, 1], state=states({}), recorded=recorded)
    assert image.action is Action.SUBMIT
    assert [step.action for step in rest] == [Action.DONE] * 3 + [Action.BLOCKED] * 3
    # what is at work goes on, and what was named is done again
    working = states({"table4/split": RunState.RUNNING, IMAGE.name: RunState.DONE})
    assert told(plan(TABLE4, seeds=[0], state=working, recorded=recorded))[2][2] is Action.RUNNING
    forced = plan(TABLE4, seeds=[0], state=states({}), recorded=recorded, mode=Mode.FORCE)
    assert Action.DONE not in {step.action for step in forced}
