"""The mirror of the journals in MLflow. The only file that imports mlflow.

A journal is the truth and MLflow a copy of it: everything here can be repeated at any time, since MLflow's SQL store
keeps one of several equal points (key, value, step, time stamp).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from . import folders, journal
from .recipe import Scale, difference, flatten
from .registry import Experiment, Variant, find_table
from .runs import RunDirectory, State, locked, write_json

# Read once, when mlflow is imported: no usage data leaves the machine.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
# A server that is away must not hold up a launch: by default a call is tried for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus
from mlflow.exceptions import MlflowException

_METRICS_PER_CALL = 1000
_FOLLOW_SECONDS = 5.0
_STATUS = {
    State.NEW: RunStatus.SCHEDULED,
    State.PENDING: RunStatus.SCHEDULED,
    State.RUNNING: RunStatus.RUNNING,
    State.INTERRUPTED: RunStatus.KILLED,
    State.FAILED: RunStatus.FAILED,
    State.UNTESTED: RunStatus.KILLED,
    State.DONE: RunStatus.FINISHED,
}


def experiment_name(scale: Scale) -> str:
    """The MLflow experiment that holds the runs of ``scale``."""
    return f"vswin-{scale}"


class Mirror:
    """Copies journals into the tracking store at ``uri``."""

    def __init__(self, uri: str | None = None) -> None:
        self.uri = uri or folders.tracking_uri()
        self.failure = ""
        self._seen: set[str] = set()
        self._followed_at = 0.0

    @cached_property
    def _client(self) -> MlflowClient:
        if self.uri.startswith("sqlite:///"):
            Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return MlflowClient(self.uri)

    def prepare(self, scale: Scale) -> None:
        """Create store and experiment before any job starts; like ``attempt``, it stops nothing."""
        self._survive(lambda: self.experiment_id(scale))

    def follow(self, runs: Iterable[tuple[RunDirectory, Experiment]]) -> None:
        """``attempt`` each of ``runs``, at most every few seconds: for calling often while they train."""
        if time.monotonic() - self._followed_at < _FOLLOW_SECONDS:
            return
        for run, experiment in runs:
            self.attempt(run, experiment)
        self._followed_at = time.monotonic()

    def experiment_id(self, scale: Scale) -> str:
        """The id of ``scale``'s experiment, created (with the whole store) on first use."""
        name = experiment_name(scale)
        if found := self._client.get_experiment_by_name(name):
            return str(found.experiment_id)
        # a server keeps artifacts where it was told to; without one they lie beside the database
        local = self.uri.startswith("sqlite:")
        location = (folders.runs() / "mlflow-artifacts" / scale).as_uri() if local else None
        return str(self._client.create_experiment(name, artifact_location=location))

    def attempt(self, run: RunDirectory, experiment: Experiment) -> None:
        """``push``, but a store that is away stops nothing: the first failure is kept in ``failure``."""
        self._survive(lambda: self.push(run, experiment))

    def push(self, run: RunDirectory, experiment: Experiment) -> None:
        """Bring MLflow up to date with ``run``: new points, its status, and the artifacts of a finished run."""
        if not run.path.exists():
            return
        # two processes that find no run in the store would both create one
        with locked(run.path / ".tracking.lock"):
            self._push(run, experiment)

    def _survive(self, act: Callable[[], object]) -> None:
        if self.failure:
            # given up for this launch: the journals hold everything
            return
        try:
            act()
        except Exception as error:  # whatever a database or a server may raise
            self.failure = f"{type(error).__name__}: {error}"

    def _push(self, run: RunDirectory, experiment: Experiment) -> None:
        told = self._told(run, experiment)
        status = run.state(experiment.protocols)
        offset = told["offset"]
        metrics: list[Metric] = []
        entries = list(journal.read(run.journal, offset=offset))
        for entry, after in entries:
            for name, value in entry.metrics.items():
                metrics.append(Metric(name, value, round(entry.time * 1000), entry.step))
            offset = after
        for start in range(0, len(metrics), _METRICS_PER_CALL):
            self._client.log_batch(told["run_id"], metrics=metrics[start : start + _METRICS_PER_CALL])
        if offset == told["offset"] and status == told["status"]:
            return
        if status != told["status"]:
            if status is State.DONE:
                self._log_artifacts(run, told["run_id"])
            if status in (State.DONE, State.FAILED, State.INTERRUPTED, State.UNTESTED):
                ended = round(entries[-1][0].time * 1000) if entries else None
                self._client.set_terminated(told["run_id"], RunStatus.to_string(_STATUS[status]), end_time=ended)
            else:
                self._client.update_run(told["run_id"], status=RunStatus.to_string(_STATUS[status]))
        write_json(run.tracking, {**told, "offset": offset, "status": status})

    def _told(self, run: RunDirectory, experiment: Experiment) -> dict[str, Any]:
        """What this store already knows of ``run``; the run is created there if it knows nothing."""
        if run.tracking.exists():
            told: dict[str, Any] = json.loads(run.tracking.read_text())
            if told["uri"] == self.uri and self._has(told["run_id"]):
                return told
        experiment_id = self.experiment_id(run.scale)
        found = self._find(experiment_id, run)
        if found is None:
            found = self._client.create_run(
                experiment_id,
                run_name=f"{experiment.name} seed {run.seed}",
                tags=_tags(run, experiment),
                start_time=_started(run),
            )
            parameters = {**flatten(experiment.recipe), "seed": run.seed}
            self._client.log_batch(
                found.info.run_id,
                params=[
                    Param(name, value if isinstance(value, str) else json.dumps(value))
                    for name, value in parameters.items()
                ],
            )
        # offset 0: telling a store again what it knows changes nothing there
        return {"uri": self.uri, "run_id": found.info.run_id, "offset": 0, "status": ""}

    def _has(self, run_id: str) -> bool:
        """Whether the store still has this run; asked once a run, since a store may be deleted and begun anew."""
        if run_id not in self._seen:
            try:
                found = self._client.get_run(run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return False
            if found.info.lifecycle_stage != "active":
                return False
            self._seen.add(run_id)
        return True

    def _find(self, experiment_id: str, run: RunDirectory) -> Run | None:
        query = f"tags.signature = '{run.signature}' AND tags.seed = '{run.seed}'"
        found = self._client.search_runs([experiment_id], query, max_results=1)
        return found[0] if found else None

    def _log_artifacts(self, run: RunDirectory, run_id: str) -> None:
        tests = sorted(path for path in run.path.glob("tests/*") if path.is_file())
        for path in (run.recipe, run.journal, *tests):
            self._client.log_artifact(run_id, str(path))


def _started(run: RunDirectory) -> int | None:
    """When the first attempt began, in milliseconds since the epoch; None (now) before the first step is known."""
    first = next(journal.read(run.journal), None)
    return round((first[0].time - first[0].metrics.get("time/wall", 0.0)) * 1000) if first else None


def _tags(run: RunDirectory, experiment: Experiment) -> dict[str, str]:
    tags = {
        "signature": run.signature,
        "protocol": experiment.recipe.protocol_signature,
        "seed": str(run.seed),
        "variant": experiment.name,
        "mlflow.note.content": "\n\n".join(_describe(variant, run.scale) for variant in experiment.variants),
    }
    for variant in experiment.variants:
        # a run can be two rows of one table, as Swin-L under two protocols
        before = f"{tags[variant.table]}; " if variant.table in tags else ""
        tags[variant.table] = before + variant.label
    return tags


def _describe(variant: Variant, scale: Scale) -> str:
    table = find_table(variant.table)
    baseline = table.baseline_of(variant)
    changes = difference(variant.at(scale), baseline.at(scale)) if baseline else {}
    lines = [f"**{variant.id}**: {variant.label}. {table.question}"]
    lines += [f"- `{path}`: {old} in the baseline, {new} here" for path, (old, new) in sorted(changes.items())]
    if variant.paper:
        top5 = "-" if variant.paper.top5 is None else variant.paper.top5
        lines.append(f"- the paper reports {variant.paper.top1} / {top5} (top-1 / top-5, {table.source})")
    return "\n".join(lines)
