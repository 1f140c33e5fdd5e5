"""One table of all cells and seeds, for programs."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from experiments.cli.main import app
from experiments.registry.catalogue import tables_at
from experiments.registry.recipe import Scale
from experiments.results.comparison import Results, compare
from experiments.results.tidy import COLUMNS, tidy, to_csv
from tests.support.places import CLONE


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VSWIN_RESULTS", str(CLONE / "results"))
        results = Results.load(Scale.MINI)
        rows = [row for table in tables_at(Scale.MINI) for row in compare(table, results)]
        return pd.read_csv(io.StringIO(to_csv(tidy(Scale.MINI, rows))))


def test_every_seed_is_a_line(frame: pd.DataFrame) -> None:
    assert list(frame) == list(COLUMNS)
    seeds = frame[(frame["id"] == "table4/split") & (frame["quantity"] == "top1") & frame["seed"].notna()]
    assert seeds["seed"].tolist() == [0, 1, 2, 3, 4]
    mean = frame[
        (frame["id"] == "table4/split") & (frame["quantity"] == "top1") & (frame["source"] == "ours")
    ].set_index("seed")
    [row] = mean[mean.index.isna()].to_dict("records")
    assert row["value"] == pytest.approx(seeds["value"].mean())
    assert row["low"] < row["value"] < row["high"]
    assert row["seeds"] == 5
    assert row["did_not_learn"] == "row"


def test_small_p_is_not_zero_and_differences_name_their_baseline(frame: pd.DataFrame) -> None:
    differences = frame[(frame["quantity"] == "difference") & (frame["source"] == "ours")].set_index("id")
    assert 0 < differences.loc["table4/split", "p_holm"] < 1e-6
    assert (differences["p"].dropna() > 0).all()
    assert differences.loc["table4/split", ["baseline", "baseline_seeds", "verdict"]].tolist() == [
        "table4/joint",
        5,
        "did not learn",
    ]
    assert differences.loc["table9/center", "needs"].endswith(" seeds")
    printed = frame[(frame["quantity"] == "difference") & (frame["source"] == "paper")].set_index("id")
    assert printed.loc["table4/split", "value"] == -2.4


def test_a_parquet_file_holds_the_same(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "new" / "all.parquet"
    answer = CliRunner().invoke(app, ["tables", "--scale", "paper", "--parquet", str(target)])
    assert answer.exit_code == 0, answer.output
    found = pd.read_parquet(target)
    assert found["seed"].dtype == "Int64"
    written = pd.read_csv(home / "results" / "paper" / "tables" / "all.csv")
    values = found["value"].astype(float).tolist()
    assert values == pytest.approx(written["value"].tolist(), nan_ok=True)
    assert set(written["source"]) == {"ours", "paper"}
    assert set(written.loc[written["source"] == "ours", "verdict"]) == {"not run"}
