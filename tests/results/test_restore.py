"""What records still know of a run can be told to MLflow, through the mirror that journals go through."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.figures.runs import parameters_that_differ
from experiments.registry.catalogue import find_table
from experiments.registry.recipe import Scale
from experiments.results import restore
from experiments.results.comparison import Results
from experiments.runs.journal import read
from experiments.runs.state import RunState
from experiments.tracking.mirror import Mirror, metric_history, search_runs
from tests.support.places import CLONE


@pytest.mark.slow
def test_committed_records_become_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWIN_RESULTS", str(CLONE / "results"))
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path))
    uri, table = f"sqlite:///{tmp_path}/mlflow.db", find_table("table6")
    results = Results.load(Scale.MINI)
    runs = list(restore.restore([table], results, every=50))
    assert len(runs) == sum(len(results.trained(variant)) for variant in table.at(Scale.MINI)) > 0
    assert {run.state() for run in runs} == {RunState.DONE}
    again = [(run.directory.journal.stat().st_mtime_ns, run) for run in restore.restore([table], results, every=50)]
    assert again == [(run.directory.journal.stat().st_mtime_ns, run) for run in runs]

    for _ in range(2):
        assert not Mirror(uri).round(restore.restore([table], results, every=50)).failures
    found = search_runs(uri, Scale.MINI, "tags.table6 LIKE '%'")
    assert len(found) == len(runs)
    assert set(found["status"]) == {"FINISHED"}
    [top1, *_] = [name for name in found if name.startswith("metrics.test/") and name.endswith("/top1")]
    assert sorted(found[top1]) == sorted(
        record.top1 for variant in table.at(Scale.MINI) for record in results.trained(variant)
    )
    run_id = found.index[0]
    [run] = [run for run in runs if run.signature == found.loc[run_id, "tags.signature"]][:1]
    lines = [entry.metrics for entry, _ in read(run.directory.journal)]
    assert len(metric_history(uri, run_id, "train/loss")) == sum("train/loss" in line for line in lines)
    rows = found[found["params.seed"] == "0"]
    assert parameters_that_differ(found, *rows.index[:2]).index.tolist() == ["model.shift"]
    assert search_runs(uri, Scale.PAPER).empty
