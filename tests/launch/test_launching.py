"""A launch works from any Python process, as from a cell of a notebook: no terminal, no typer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.launch.launching import Launched, Observer, Target, launch, preview, run
from experiments.launch.plan import Action, Mode
from experiments.registry.catalogue import find_experiment, find_variant
from experiments.registry.recipe import Scale
from experiments.runs.run import Run
from tests.support.places import CLONE
from vswin.errors import ExplainedError, UsageError

SCRIPT = """
import json, sys
from experiments.launch.launching import Observer, launch, run
from experiments.registry.recipe import Scale

class Diary(Observer):
    def __init__(self): self.seen = []
    def planned(self, launched): self.seen.append(f"planned {len(launched.undone)}")
    def starting(self, steps, *, jobs): self.seen.append(f"starting {len(steps)}, {jobs} at once")
    def started(self, step): self.seen.append(f"started {step.run.name}")
    def logged(self, step, metrics): self.seen.append("logged")
    def ended(self, end): self.seen.append(f"ended {end.step.run.name} {end.state}")

diary, alone = Diary(), Diary()
done = run("table6/full", scale=Scale.TINY, observer=alone)
launched = launch(["table6"], scale=Scale.TINY, seeds=1, observer=diary)
again = launch(["table6"], scale=Scale.TINY, seeds=1)
assert not {"typer", "rich"} & sys.modules.keys(), "a launch needs no terminal"
print(json.dumps({
    "alone": [alone.seen[0], alone.seen.count("logged") > 10, alone.seen[-1]],
    "records": len(done.records),
    "diary": diary.seen,
    "ok": launched.ok,
    "finished": sorted(end.step.run.name for end in launched.finished),
    "behind": done.behind + launched.behind,
    "again": [again.ok, len(again.undone), len(again.started)],
}), file=open(sys.argv[1], "w"))
"""


def test_launch_from_a_plain_process(home: Path, tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    environment = {**os.environ, "PYTHONPATH": str(CLONE)}
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(answer)], env=environment, check=True, capture_output=True, text=True
    )
    found = json.loads(answer.read_text())
    assert found["alone"] == ["started table4/joint seed 0", True, "ended table4/joint seed 0 done"]
    assert found["records"] == 1
    assert found["diary"][:2] == ["planned 2", f"starting 2, {len(os.sched_getaffinity(0))} at once"]
    rows = ["table6/none seed 0", "table6/spatial seed 0"]
    assert sorted(found["diary"][2:]) == sorted(
        [f"{verb} {row}{end}" for row in rows for verb, end in (("started", ""), ("ended", " done"))]
    )
    assert (found["ok"], found["finished"], found["behind"]) == (True, rows, "")
    assert found["again"] == [True, 0, 0]
    # nothing but what models say of the weights that they start from
    assert "finished" not in said.stdout


@pytest.fixture
def no_data(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWIN_DATA", str(empty_home / "nothing"))


@pytest.mark.usefixtures("no_data")
def test_preview_names_what_a_launch_would_lack() -> None:
    found = preview(["table4"], scale=Scale.TINY, seeds=2)
    assert [step.action for step in found.steps] == [Action.SUBMIT, *[Action.BLOCKED] * 6]
    assert any("moving-digits/tiny" in line for line in found.missing)
    assert found.scripts == ()
    [script] = preview(["table6"], scale=Scale.TINY, seeds=1, target=Target(profile="dev")).scripts[:1]
    assert script.startswith("#!")


@pytest.mark.usefixtures("no_data")
def test_launch_says_what_is_missing_before_anything_starts() -> None:
    class Never(Observer):
        def starting(self, steps: object, *, jobs: int) -> None:
            raise AssertionError("nothing can be started")

    with pytest.raises(ExplainedError, match="moving-digits"):
        launch(["table4"], scale=Scale.TINY, seeds=1, observer=Never())
    with pytest.raises(UsageError, match="did you mean 'table4'"):
        launch(["tabel4"], scale=Scale.TINY)
    with pytest.raises(UsageError, match="upstream/image-t-small has one run, of seed 0"):
        run("upstream/image-t-small", seed=1, scale=Scale.TINY)


@pytest.mark.usefixtures("empty_home")
def test_failed_runs_are_skipped_and_named() -> None:
    experiment = find_experiment(Scale.TINY, find_variant("table4/joint"))
    for each in (*Run(experiment, 0).upstream, *(Run(find_experiment(Scale.TINY, row), 0) for row in rows())):
        each.directory.path.mkdir(parents=True, exist_ok=True)
        each.directory.error.write_text("RuntimeError: no luck\n")
    launched = launch(["table4"], scale=Scale.TINY, seeds=1)
    assert not launched.ok
    assert {step.action for step in launched.skipped} == {Action.FAILED}
    assert len(launched.skipped) == len(launched.undone) == 4
    read_only: Launched = launch(["table6"], scale=Scale.TINY, seeds=1, mode=Mode.READ_ONLY)
    assert read_only.skipped == read_only.undone
    assert read_only.started == ()


def rows() -> list[object]:
    return [find_variant(f"table4/{name}") for name in ("joint", "split", "factorized")]
