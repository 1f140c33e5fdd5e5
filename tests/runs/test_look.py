"""One look at a run's directory tells everything that planning asks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from experiments.launch.plan import plan_of
from experiments.launch.status import standing_json, standings
from experiments.registry.catalogue import find_experiment, find_variant
from experiments.registry.recipe import Scale
from experiments.runs import look
from experiments.runs.jobs import Jobs
from experiments.runs.look import Look
from experiments.runs.run import Run
from experiments.runs.state import RunState
from tests.support.finished_runs import finished_run

VARIANT = find_variant("table4/split")


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("VSWIN_RESULTS", str(tmp_path / "results"))


def test_status_reads_the_notes_of_a_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished_run(VARIANT, seed=0, top1=70.0)
    read: Counter[Path] = Counter()
    names = look._names

    def counted(folder: Path) -> set[str]:
        read[folder] += 1
        return names(folder)

    monkeypatch.setattr(look, "_names", counted)
    jobs = Jobs([run])
    [item] = [item for item in standings(plan_of([run.experiment], seeds=[0], jobs=jobs), jobs) if item.step.run == run]
    assert standing_json(item)["top1"] == {"2x1": 70.0}
    assert (read[run.directory.path], read[run.directory.path / "tests"]) == (1, 1)


def test_what_was_never_started_has_nothing() -> None:
    run = Run(find_experiment(Scale.MINI, VARIANT), 0)
    assert run.look() == Look(run.directory)
    assert run.state() is RunState.NEW


@pytest.mark.parametrize("link", [True, False])
def test_something_else_in_place_of_the_directory_is_damage(link: bool) -> None:
    run = Run(find_experiment(Scale.MINI, VARIANT), 0)
    path = run.directory.path
    path.parent.mkdir(parents=True)
    if link:
        path.symlink_to("nowhere")
    else:
        path.write_text("")
    assert run.state() is RunState.DAMAGED
    found = run.look().damage
    assert found
    assert found.file == path
