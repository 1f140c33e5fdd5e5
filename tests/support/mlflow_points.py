"""What MLflow has of a run, and what its journal has, in one shape."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from experiments.folders import sqlite_uri
from experiments.runs import journal
from experiments.runs.run import Run

# by name of the metric: step, value, milliseconds since the epoch
Points = dict[str, list[tuple[int, float, int]]]


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(Path(os.environ["VSWIN_RUNS"]) / "mlflow.db")


def client(uri: str | None = None) -> MlflowClient:
    return MlflowClient(uri or tracking_uri())


def mlflow_run(run: Run, uri: str | None = None) -> MlflowRun:
    """The one run of MLflow that is ``run``."""
    experiment = client(uri).get_experiment_by_name(f"vswin-{run.scale}")
    assert experiment is not None
    query = f"tags.signature = '{run.signature}' AND tags.seed = '{run.seed}'"
    [found] = client(uri).search_runs([experiment.experiment_id], query)
    return found


def mlflow_points(run: Run, uri: str | None = None) -> Points:
    found = mlflow_run(run, uri)
    return {
        name: sorted(
            (point.step, point.value, point.timestamp)
            for point in client(uri).get_metric_history(found.info.run_id, name)
        )
        for name in found.data.metrics
    }


def journal_points(run: Run) -> Points:
    points: Points = {}
    for entry, _ in journal.read(run.directory.journal):
        for name, value in entry.metrics.items():
            points.setdefault(name, []).append((entry.step, value, round(entry.time * 1000)))
    return points
