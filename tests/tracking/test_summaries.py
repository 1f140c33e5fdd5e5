"""Rows of a table as runs of MLflow: what the records say, told once, and gone with the records."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.registry.catalogue import find_table
from experiments.registry.recipe import Scale
from experiments.results.comparison import Results
from experiments.results.pages import page
from experiments.tracking.mirror import Mirror, Pushed, search_runs
from experiments.tracking.summaries import summaries
from tests.support.mlflow_points import client

TABLE = find_table("table4")


@pytest.fixture(scope="module")
def results() -> Results:
    return Results.load(Scale.MINI)


@pytest.fixture
def uri(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "runs").mkdir()
    shutil.copy(empty_store, tmp_path / "runs" / "mlflow.db")
    return Mirror().uri


def push(results: Results) -> None:
    pushed = Pushed()
    Mirror().push_rows([TABLE], results, pushed)
    assert not pushed.failures


def test_mlflow_shows_the_table_itself(uri: str, results: Results) -> None:
    push(results)
    shown = search_runs(uri, Scale.MINI, "tags.row_of = 'table4'").sort_values("tags.row")
    printed = page(TABLE, results)
    assert list(shown["tags.row.top1"]) == list(printed.cells["top-1, ours (mini)"])
    assert list(shown["tags.row.difference"]) == list(printed.cells["difference"])
    assert list(shown["tags.row.verdict"]) == list(printed.cells["verdict"])
    assert list(shown["tags.row.paper"]) == list(printed.cells["top-1, paper"])
    assert list(shown["metrics.row/top1"]) == pytest.approx(list(printed.numbers["top1"]))
    assert list(shown["name"]) == [f"{row['']}: {row['top-1, ours (mini)']}" for _, row in printed.cells.iterrows()]
    # no average over a row's trainings takes its summary for one of them
    assert search_runs(uri, Scale.MINI, "tags.table4 LIKE '%'").empty


def test_rows_follow_the_records(uri: str, results: Results) -> None:
    push(results)
    before = search_runs(uri, Scale.MINI).set_index("tags.variant")
    push(results)
    again = search_runs(uri, Scale.MINI).set_index("tags.variant")
    assert again.equals(before)
    split = TABLE.variants[1].at(Scale.MINI).signature
    factorized = TABLE.variants[2].at(Scale.MINI).signature
    # one row loses two seeds, another all
    fewer = replace(
        results,
        records=tuple(
            record
            for record in results.records
            if record.signature != factorized and (record.signature != split or record.seed in (0, 1, 2))
        ),
    )
    push(fewer)
    after = search_runs(uri, Scale.MINI).set_index("tags.variant")
    assert set(after.index) == {"table4/joint", "table4/split"}
    assert after.loc["table4/split", "tags.row.seeds"] == "3"
    expected = {row.row: row.metrics["row/top1"] for row in summaries(TABLE, fewer)}
    assert after["metrics.row/top1"].to_dict() == pytest.approx(expected)
    assert expected["table4/split"] != before.loc["table4/split", "metrics.row/top1"]


def test_two_that_told_the_same_row_at_once_leave_one(uri: str, results: Results) -> None:
    push(results)
    [first, *_] = client().search_runs([Mirror().experiment_id(Scale.MINI)])
    client().create_run(first.info.experiment_id, tags=dict(first.data.tags))
    push(results)
    assert len(search_runs(uri, Scale.MINI, "tags.row_of = 'table4'")) == 3
