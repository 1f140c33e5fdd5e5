"""One training is tested under every protocol of its rows, and a new protocol costs no new training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.files import write_json
from experiments.job.body import run_one
from experiments.launch.plan import Action, plan
from experiments.registry import paper, scales
from experiments.registry.catalogue import Experiment, find_experiment, find_variant, tables
from experiments.registry.recipe import Recipe, Scale
from experiments.registry.recipes import SWIN_T_K400
from experiments.registry.table import Block, Row, Table, Variant
from experiments.results.record import load
from experiments.runs.directory import RunDirectory
from experiments.runs.journal import read
from experiments.runs.run import Run
from experiments.runs.runtime import Runtime
from experiments.runs.state import RunState
from vswin.config import Precision, Protocol


def views_table(*rows: Row, isolates: tuple[str, ...]) -> Table:
    return Table(
        id="views",
        caption="Test views.",
        question="Do more views help?",
        source="",
        blocks=(Block(baseline=SWIN_T_K400, isolates=isolates, rows=(Row("few"), *rows)),),
    )


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tables of a test, in place of the paper's; its protocols reach scale ``tiny`` as they are."""

    def tiny(self: Variant, scale: Scale) -> Recipe:
        assert self.recipe is not None
        small = scales.tiny(self.recipe)
        return replace(
            small,
            protocol=replace(
                small.protocol, clips=self.recipe.protocol.clips, precision=self.recipe.protocol.precision
            ),
        )

    monkeypatch.setattr(Variant, "at", tiny)
    yield
    tables.cache_clear()


def show(monkeypatch: pytest.MonkeyPatch, *rows: Row) -> Experiment:
    isolates = tuple({path for row in rows for path in row.changes}) or ("protocol.clips",)
    monkeypatch.setattr(paper, "TABLES", (views_table(*rows, isolates=isolates), paper.upstream.TABLE))
    tables.cache_clear()
    return find_experiment(Scale.TINY, find_variant("views/few"))


MORE = Row("more", {"protocol.clips": 2})


def train(experiment: Experiment) -> RunDirectory:
    run_one(Scale.TINY, experiment.name, experiment.recipe.signature, 0, runtime=Runtime())
    run = RunDirectory(Scale.TINY, experiment.recipe.signature, 0)
    # as if this process had ended
    write_json(run.attempt, {**json.loads(run.attempt.read_text()), "boot": "an earlier one"})
    return run


def scores(run: RunDirectory, variant: Variant) -> NDArray[np.float32]:
    [result] = [path for path in run.results() if load(path).protocol == variant.at(Scale.TINY).protocol_signature]
    with np.load(result.with_suffix(".npz")) as arrays:
        return np.asarray(arrays["scores"])


@pytest.mark.usefixtures("register")
def test_rows_that_differ_in_views_share_one_training(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = show(monkeypatch, MORE)
    assert [protocol.views for protocol in experiment.protocols.values()] == ["4x1", "2x1"]
    run = train(experiment)
    assert Run(experiment, 0).state() is RunState.DONE
    records = [load(path) for path in run.results()]
    assert {record.protocol for record in records} == set(experiment.protocols)
    assert len({record.signature for record in records}) == 1
    *steps, first, second = [entry for entry, _ in read(run.journal)]
    assert {name for name in first.metrics if name.startswith("test/")} == {"test/4x1/top1", "test/4x1/top5"}
    assert {name for name in second.metrics if name.startswith("test/")} == {"test/2x1/top1", "test/2x1/top5"}
    assert (first.step, second.step) == (len(steps) + 1, len(steps) + 2)


@pytest.mark.usefixtures("register")
def test_a_test_computes_in_the_precision_of_its_protocol(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row("low", {"protocol.precision": Precision.BF16})
    experiment = show(monkeypatch, row)
    # bf16 has eight bits where fp32 has 24
    high, low = (scores(train(experiment), find_variant(name)) for name in ("views/few", "views/low"))
    assert 1e-6 < np.abs(high - low).max() < 0.05


@pytest.mark.usefixtures("register")
def test_a_row_added_later_is_tested_without_training_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train(show(monkeypatch))
    [first] = run.results()
    before = (first.read_text(), run.weights.stat().st_mtime_ns, len(list(read(run.journal))))
    experiment = show(monkeypatch, MORE)
    *_, step = plan([experiment], seeds=[0], state=Run.state)
    assert (step.run.directory, step.action, step.why) == (
        run,
        Action.RESUME,
        "trained, but not yet tested under every protocol of its rows",
    )
    train(experiment)
    assert step.run.state() is RunState.DONE
    assert len(run.results()) == 2
    assert (first.read_text(), run.weights.stat().st_mtime_ns, len(list(read(run.journal))) - 1) == before


@pytest.mark.usefixtures("register")
def test_a_protocol_that_comes_before_one_that_is_done_has_a_line_of_its_own(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(show(monkeypatch))
    before = list(read(run.journal))
    experiment = show(monkeypatch, MORE)
    turned = dict(reversed(experiment.protocols.items()))
    monkeypatch.setattr(Experiment, "protocols", property(lambda _: turned))
    train(experiment)
    assert Run(experiment, 0).state() is RunState.DONE
    [(line, _)] = list(read(run.journal))[len(before) :]
    assert line.step == before[-1][0].step + 1
    assert {name for name in line.metrics if name.startswith("test/")} == {"test/2x1/top1", "test/2x1/top5"}


def test_the_published_views_have_names_of_the_paper() -> None:
    assert (Protocol().views, Protocol(clips=10, crops=5).views) == ("4x3", "10x5")
