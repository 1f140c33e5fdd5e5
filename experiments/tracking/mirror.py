"""The mirror of the journals in MLflow. The only file that imports mlflow.

A journal is the truth and MLflow a copy of it: everything here can be repeated at any time, by anybody. MLflow's SQL
store keeps one of several equal points (key, value, step, time stamp) and one of several equal dataset entries; tags
and artifacts are replaced; and a run is found by its tags before one is created.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import sqlite3
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from vswin.errors import ExplainedError

from .. import folders
from ..files import Damage, DamagedError, locked
from ..registry.catalogue import tables, tables_at
from ..registry.recipe import Scale
from ..registry.table import Table
from ..results.comparison import Results
from ..runs import journal
from ..runs.attempts import is_running
from ..runs.directory import RunDirectory
from ..runs.run import Run
from ..runs.state import RunState
from . import saved_views
from .card import Card, card, differs_tag
from .confusion import draw_confusions
from .summaries import FINGERPRINT_TAG, TABLE_TAG, RowSummary, summaries
from .told import Told

if TYPE_CHECKING:
    import pandas as pd

# Read once, when mlflow is imported: no usage data leaves the machine.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
# Standard output is for answers.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# By default a call is tried for minutes. Who calls here tries again, and wants to know.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
# A value that does not fit is an error, not a shorter value.
os.environ.setdefault("MLFLOW_TRUNCATE_LONG_VALUES", "false")

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunStatus, RunTag
from mlflow.entities import Experiment as MlflowExperiment
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import MlflowHostCreds

# What the store takes in one call.
_METRICS_PER_CALL = 1000
_PARAMETERS_PER_CALL = 100
_DATASET_DIGEST = 36
_TAIL_BYTES = 4096
# by split, in the words that MLflow's pages use; others have their own
_CONTEXTS = {"train": "training", "val": "validation"}
_STATUS = {
    RunState.NEW: RunStatus.SCHEDULED,
    RunState.PENDING: RunStatus.SCHEDULED,
    RunState.RUNNING: RunStatus.RUNNING,
    RunState.INTERRUPTED: RunStatus.KILLED,
    RunState.FAILED: RunStatus.FAILED,
    RunState.DAMAGED: RunStatus.FAILED,
    RunState.UNTESTED: RunStatus.KILLED,
    RunState.DONE: RunStatus.FINISHED,
}


def experiment_name(scale: Scale) -> str:
    """The MLflow experiment that holds the runs of ``scale``."""
    return f"vswin-{scale}"


@dataclass
class Pushed:
    """The outcome of a round over runs: points sent, runs that changed, repaired status by run, and failures."""

    runs: int = 0
    changed: int = 0
    points: int = 0
    repaired: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class SupersededError(ExplainedError, RuntimeError):
    """Another training of the same recipe with the same seed, which began later, stands for the run in MLflow."""


class Mirror:
    """Copies journals into the tracking store at ``uri``.

    ``state`` tells the state of a run, ``on_call`` is told after every answer of the store.
    """

    def __init__(
        self,
        uri: str | None = None,
        *,
        state: Callable[[Run], RunState] = Run.state,
        on_call: Callable[[], None] = lambda: None,
    ) -> None:
        self.uri = uri or folders.tracking_uri()
        # what is noted with a run, which others may read
        self._address = folders.without_credentials(self.uri)
        self._state = state
        self._on_call = on_call
        self._experiments: dict[Scale, str] = {}
        # what the store says of a run, asked once: nobody else changes it while we are at it
        self._status: dict[str, str] = {}

    @cached_property
    def _client(self) -> MlflowClient:
        if self.uri.startswith("sqlite:///"):
            database = folders.sqlite_file(self.uri)
            _create(database)
            _check(database)
        return MlflowClient(self.uri)

    @property
    def secret(self) -> str | None:
        """The password or token that MLflow's client shows the server; None if it has none."""
        found: MlflowHostCreds = get_default_host_creds(self.uri)  # type: ignore[no-untyped-call]
        named = urllib.parse.urlsplit(self.uri).password
        return found.password or found.token or (urllib.parse.unquote(named) if named else None)

    def experiment_id(self, scale: Scale) -> str:
        """The id of ``scale``'s experiment, created (with the whole store, and a view per table) on first use."""
        if scale not in self._experiments:
            name = experiment_name(scale)
            # a server keeps artifacts where it was told to; without one they lie with the runs
            local = not self.uri.startswith("http")
            location = (folders.mlflow_artifacts() / scale).as_uri() if local else None
            found = self._client.get_experiment_by_name(name)
            if found is None:
                try:
                    self._client.create_experiment(name, artifact_location=location)
                except MlflowException as error:
                    # somebody else was quicker
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                found = self._client.get_experiment_by_name(name)
                assert found is not None
            if found.lifecycle_stage != "active":
                # deleted in the UI; its name is not free for a new one
                self._client.restore_experiment(found.experiment_id)
            self._tag_experiment(found, dict(_experiment_tags(scale)))
            self._experiments[scale] = str(found.experiment_id)
        return self._experiments[scale]

    def _tag_experiment(self, experiment: MlflowExperiment, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            if experiment.tags.get(key) == value:
                continue
            try:
                self._client.set_experiment_tag(experiment.experiment_id, key, value)
            except MlflowException:
                # two at once: one of them finds that the tag is there all of a sudden
                again = self._client.get_experiment(experiment.experiment_id)
                if again.tags.get(key) != value:
                    raise

    def round(self, runs: Iterable[Run]) -> Pushed:
        """``push`` each of ``runs``. What fails is noted and left for the next round; so are all where nobody answers.

        Raises nothing that a database, a server or a disk may raise.
        """
        pushed = Pushed()
        away = ""
        for run in runs:
            if not run.directory.path.exists():
                continue
            pushed.runs += 1
            if not away:
                try:
                    self.push(run, pushed=pushed)
                except Exception as error:
                    self._status.clear()
                    pushed.failures[run.name] = _in_a_line(error)
                    away = self._away(run.scale)
            else:
                pushed.failures[run.name] = away
        return pushed

    def _away(self, scale: Scale) -> str:
        """The reason why the store never answers, so that nobody waits for it once per run; empty if it does."""
        self._experiments.clear()
        try:
            self.experiment_id(scale)
        except Exception as error:
            return _in_a_line(error)
        return ""

    def push(self, run: Run, *, pushed: Pushed | None = None) -> None:
        """Bring MLflow up to date with ``run``: its points, status, description, datasets and artifacts."""
        pushed = pushed if pushed is not None else Pushed()
        # two processes that find no run in the store would both create one
        with locked(run.directory.path / ".tracking.lock"):
            before = Told.read(run)
            if before and before.offset and not run.directory.journal.exists():
                # somebody cleaned up, and MLflow has more than is left here
                return
            journal.sync(run.directory.journal)
            status = self._state(run)
            told = self._found(run, before)
            points, told = self._push_points(run, told)
            told = self._push_card(run, told, card(run))
            if status not in (RunState.PENDING, RunState.RUNNING):
                told = self._push_artifacts(run, told)
            self._push_status(run, told, status, pushed)
            told = replace(told, status=status)
            if told != before:
                told.write(run)
                pushed.changed += 1
            pushed.points += points

    def push_rows(self, chosen: Iterable[Table], results: Results, pushed: Pushed) -> None:
        """Have the store show the rows of ``chosen`` as ``results`` have them, and no others of these tables."""
        mine = {table.id for table in chosen}
        try:
            wanted = {(row.table, row.row): row for table in chosen for row in summaries(table, results)}
            for found in self._search(results.scale, f"tags.`{TABLE_TAG}` LIKE '%'"):
                table = found.data.tags[TABLE_TAG]
                row = wanted.pop((table, found.data.tags.get("variant", "")), None)
                if row and found.data.tags.get(FINGERPRINT_TAG) != row.fingerprint:
                    self._push_row(found.info.run_id, row)
                elif row is None and (table in mine or table not in tables()):
                    # its records are gone, or two came at once and this is the second
                    self._client.delete_run(found.info.run_id)
            for row in wanted.values():
                created = self._client.create_run(
                    self.experiment_id(results.scale), run_name=row.name, tags={"mlflow.user": _user()}
                )
                self._push_row(created.info.run_id, row)
                self._client.set_terminated(created.info.run_id, "FINISHED")
        except Exception as error:
            pushed.failures["rows of the tables"] = _in_a_line(error)

    def _push_row(self, run_id: str, row: RowSummary) -> None:
        now = round(time.time() * 1000)
        self._client.update_run(run_id, name=row.name)
        self._client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, 0) for name, value in row.metrics.items()],
            tags=[RunTag(name, value) for name, value in row.tags.items()],
        )
        # last of all: what was told in part is told again
        self._client.set_tag(run_id, FINGERPRINT_TAG, row.fingerprint)
        self._on_call()

    def repair_orphans(self, scale: Scale, known: Iterable[Run], pushed: Pushed) -> None:
        """End runs that MLflow takes for running, whose directory is here, and at which nothing works.

        They are of recipes that the tables no longer have; ``push`` sees to the others.
        """
        ours = {run.directory for run in known}
        try:
            for found in self._search(scale, "attributes.status = 'RUNNING'"):
                tags = found.data.tags
                if "signature" not in tags or not tags.get("seed", "").isdecimal():
                    continue
                run = RunDirectory(scale, tags["signature"], int(tags["seed"]))
                if run not in ours and run.path.exists() and not is_running(run):
                    self._client.set_terminated(found.info.run_id, "KILLED")
                    pushed.repaired[f"{run.signature} seed {run.seed}"] = "RUNNING -> KILLED"
        except Exception as error:
            pushed.failures["runs of other recipes"] = _in_a_line(error)

    def _found(self, run: Run, told: Told | None) -> Told:
        """Find ``run`` in this store: as noted if that is still so, else by its tags, or else as a new run.

        Where two create it at once, on machines that do not see each other's locks, both then see both, and take the
        one whose id sorts first.
        """
        began = _identity(run).get("began", "")
        if told and told.uri == self._address and told.began == began:
            if told.status and RunStatus.to_string(_STATUS[RunState(told.status)]) != self._status.get(told.run_id):
                # somebody else has told the store something
                self._status.pop(told.run_id, None)
            if self._is_ours(told.run_id, run):
                if told.tail == _tail(run, told.offset):
                    return told
                # the end of the journal was lost, as by a power failure, or replaced by that of an older copy
                self._client.delete_run(told.run_id)
        matching = self._matching(run)
        if not matching:
            created = self._client.create_run(
                self.experiment_id(run.scale),
                run_name=card(run).name,
                tags={**_identity(run), "mlflow.user": _user()},
                start_time=_started(run),
            )
            self._on_call()
            # a new run counts as running, which nobody has said of it
            self._status[created.info.run_id] = ""
            matching = self._matching(run) or [created]
        ours, *others = sorted(matching, key=lambda item: item.info.run_id)
        for other in others:
            self._client.delete_run(other.info.run_id)
        self._status.setdefault(ours.info.run_id, ours.info.status)
        # nothing told: telling a store again what it knows changes nothing there
        return Told(uri=self._address, run_id=ours.info.run_id, began=began)

    def _is_ours(self, run_id: str, run: Run) -> bool:
        """True where the store still has this run; asked once, since a store may be deleted and begun anew."""
        if run_id not in self._status:
            try:
                found = self._client.get_run(run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return False
            tags, began = found.data.tags, _identity(run).get("began")
            if found.info.lifecycle_stage != "active" or tags.get("signature") != run.signature:
                return False
            if tags.get("began") not in (None, began):
                return False
            self._status[run_id] = found.info.status
        return True

    def _matching(self, run: Run) -> list[MlflowRun]:
        """The runs in the store that are this one; an earlier training that was done over is set aside.

        That is when the later one has done its first step. Raises SupersededError if this is the earlier one.
        """
        query = f"tags.signature = '{run.signature}' AND tags.seed = '{run.seed}'"
        began = _identity(run).get("began")
        matching = []
        for found in self._search(run.scale, query):
            theirs = found.data.tags.get("began")
            if theirs is None or theirs == began:
                matching.append(found)
            elif began and int(theirs) > int(began) and theirs not in _replaced(run):
                raise SupersededError(
                    f"another training of it, which began later, stands for it in MLflow (run {found.info.run_id})"
                )
            elif began:
                self._set_aside(found)
        return matching

    def _set_aside(self, found: MlflowRun) -> None:
        """Leave a run in the store, but out of every table."""
        for name in found.data.tags.keys() & {"signature", *_table_tags()}:
            self._client.delete_tag(found.info.run_id, name)
        self._client.set_tag(found.info.run_id, "superseded", found.data.tags["signature"])

    def _search(self, scale: Scale, query: str) -> Iterator[MlflowRun]:
        token: str | None = None
        while True:
            page = self._client.search_runs([self.experiment_id(scale)], query, page_token=token)
            self._on_call()
            yield from page
            token = page.token
            if not token:
                return

    def _push_points(self, run: Run, told: Told) -> tuple[int, Told]:
        """Send what the journal has after ``told.offset``, noting how far it came after every call."""
        batch: list[Metric] = []
        offset = told.offset
        points = 0

        def send() -> None:
            nonlocal told, points
            for start in range(0, len(batch), _METRICS_PER_CALL):
                self._client.log_batch(told.run_id, metrics=batch[start : start + _METRICS_PER_CALL])
                self._on_call()
            points += len(batch)
            batch.clear()
            told = replace(told, offset=offset, tail=_tail(run, offset))
            told.write(run)

        for entry, after in journal.read(run.directory.journal, offset=offset):
            new = [Metric(name, value, round(entry.time * 1000), entry.step) for name, value in entry.metrics.items()]
            if batch and len(batch) + len(new) > _METRICS_PER_CALL:
                send()
            batch += new
            offset = after
        if batch:
            send()
        return points, told

    def _push_card(self, run: Run, told: Told, current: Card) -> Told:
        """Describe the run, where the description is not what it was told."""
        datasets = list(_datasets(run))
        identity = _identity(run)
        stamp = hashlib.sha256(
            json.dumps([current.fingerprint, identity, [item.dataset.digest for item in datasets]]).encode()
        ).hexdigest()[:16]
        if told.card == stamp:
            return told
        known = self._client.get_run(told.run_id).data
        if "superseded" in known.tags:
            self._status.pop(told.run_id, None)
            raise SupersededError("another training of it, which began later, stands for it in MLflow")
        # parameters cannot be changed: those of a protocol that the tables no longer have stay as they were
        new = [Param(name, value) for name, value in current.parameters.items() if name not in known.params]
        tags = [RunTag(name, value) for name, value in {**current.tags, **identity}.items()]
        for start in range(0, max(len(new), 1), _PARAMETERS_PER_CALL):
            self._client.log_batch(told.run_id, params=new[start : start + _PARAMETERS_PER_CALL], tags=tags)
        for name in known.tags.keys() & _table_tags() - current.tags.keys():
            # a table of one's own may have lost this row
            self._client.delete_tag(told.run_id, name)
        self._client.update_run(told.run_id, name=current.name)
        if datasets:
            self._client.log_inputs(told.run_id, datasets=datasets)
        self._client.log_text(told.run_id, current.note, "description.md")
        self._on_call()
        return replace(told, card=stamp)

    def _push_artifacts(self, run: Run, told: Told) -> Told:
        """Leave with the run the files it wrote, each again only after it has changed."""
        there = run.directory
        files = [
            *(there.recipe, there.journal, there.environment, there.code),
            *(there.code_diff, there.datasets, there.error),
        ]
        wanted = {path: "" for path in files if path.exists()}
        # not what a kill left half written
        wanted |= {path: "tests" for path in sorted(run.directory.path.glob("tests/[!.]*")) if path.is_file()}
        prints = {path: f"{path.stat().st_size} {path.stat().st_mtime_ns}" for path in wanted}
        due = [path for path in wanted if told.files.get(path.name) != prints[path]]
        for path in due:
            self._client.log_artifact(told.run_id, str(path), wanted[path] or None)
            self._on_call()
        if any(path.suffix == ".npz" for path in due):
            with tempfile.TemporaryDirectory(prefix="vswin-") as folder:
                for picture in draw_confusions(run, Path(folder)):
                    self._client.log_artifact(told.run_id, str(picture), "tests")
                    self._on_call()
        return replace(told, files={path.name: prints[path] for path in wanted})

    def _push_status(self, run: Run, told: Told, state: RunState, pushed: Pushed) -> None:
        """Set the run's status to what it is, whatever the store had."""
        status = RunStatus.to_string(_STATUS.get(state, RunStatus.SCHEDULED))
        current = self._status[told.run_id]
        if status == current:
            return
        if status in ("FINISHED", "FAILED", "KILLED"):
            if current == "RUNNING" and status == "KILLED":
                pushed.repaired[run.name] = f"{current} -> {status}"
            self._client.set_terminated(told.run_id, status, end_time=_ended(run))
        else:
            self._client.update_run(told.run_id, status=status)
        self._on_call()
        self._status[told.run_id] = status


def _create(database: Path) -> None:
    """Make MLflow's tables in ``database``, where it is not there yet; others see it whole or not at all.

    MLflow changes a new database in many steps. Two processes at it at once trip over each other, and a kill in
    between would leave one that it refuses for good.
    """
    if database.exists():
        return
    with locked(database.with_name(f".{database.name}.lock")):
        if database.exists():
            return
        partial = database.with_name(f".{database.name}.{os.getpid()}.partial")
        partial.unlink(missing_ok=True)
        MlflowClient(folders.sqlite_uri(partial)).search_experiments(max_results=1)
        # MLflow makes it as the umask says; others read runs through a server, and never write
        partial.chmod(0o600)
        partial.rename(database)


def _check(database: Path) -> None:
    """See that SQLite can read ``database``; raises DamagedError."""
    remedy = "it is a mirror of the journals: delete it, and vswin sync tells a new one everything"
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as connection:
            [problem] = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and database.is_file():
            # busy, on a full disk, not ours to write: it may be whole
            return
        raise DamagedError(Damage(database, str(error), remedy)) from error
    if problem != "ok":
        raise DamagedError(Damage(database, " ".join(problem.split()), remedy))


def search_runs(uri: str, scale: Scale, query: str = "") -> pd.DataFrame:
    """Runs of ``scale`` in the store at ``uri`` that match MLflow's search ``query``, by run id, in the order of names.

    Columns: ``name``, ``status``, and by MLflow's words ``params.*``, ``metrics.*`` (the last value) and ``tags.*``.
    """
    import pandas as pd

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(experiment_name(scale))
    lines = {}
    token: str | None = None
    while experiment:
        page = client.search_runs([experiment.experiment_id], query, page_token=token)
        for run in page:
            lines[run.info.run_id] = {
                "name": run.info.run_name,
                "status": run.info.status,
                **{f"params.{name}": value for name, value in run.data.params.items()},
                **{f"metrics.{name}": value for name, value in run.data.metrics.items()},
                **{f"tags.{name}": value for name, value in run.data.tags.items()},
            }
        token = page.token
        if not token:
            break
    frame = pd.DataFrame.from_dict(lines, orient="index")
    return frame.sort_values("name") if lines else frame


def metric_history(uri: str, run_id: str, metric: str) -> pd.DataFrame:
    """Every point of a metric of a run in the store at ``uri``: ``step``, ``value``."""
    import pandas as pd

    points = MlflowClient(uri).get_metric_history(run_id, metric)
    return pd.DataFrame({"step": [point.step for point in points], "value": [point.value for point in points]})


def _experiment_tags(scale: Scale) -> Iterator[tuple[str, str]]:
    # the UI otherwise guesses what the experiment is about, and may offer pages for language models
    yield "mlflow.experimentKind", "custom_model_development"
    yield (
        "mlflow.note.content",
        f"The paper's tables at scale {scale}. Saved views: runs by row, or row by row.",
    )
    for table in tables_at(scale):
        yield saved_views.tag(table, scale)
        yield saved_views.rows_tag(table)


def _table_tags() -> set[str]:
    return {name for table in tables() for name in (table, differs_tag(table))}


def _identity(run: Run) -> dict[str, str]:
    """Tags that tell a training from every other, also from an earlier one with the same seed that was done over."""
    began = _began(run.directory.journal)
    return {"signature": run.signature, "seed": str(run.seed), **({"began": began} if began else {})}


def _replaced(run: Run) -> set[str]:
    """``began`` of the trainings that this one was put in the place of, whatever the clocks of their machines said."""
    folder = run.directory.path
    journals = (path / run.directory.journal.name for path in folder.parent.glob(f"replaced-{folder.name}-*"))
    return {began for path in journals if (began := _began(path))}


def _began(file: Path) -> str:
    """The time of the first line of a journal, in milliseconds since the epoch; empty where there is none."""
    first = next(journal.read(file), None)
    return str(round(first[0].time * 1000)) if first else ""


def _started(run: Run) -> int | None:
    """When the first attempt began, in milliseconds since the epoch; None (now) before the first step is known."""
    first = next(journal.read(run.directory.journal), None)
    return round((first[0].time - first[0].metrics.get("time/wall", 0.0)) * 1000) if first else None


def _ended(run: Run) -> int | None:
    """When the last line was written, in milliseconds since the epoch."""
    last = journal.last(run.directory.journal)
    return round(last.time * 1000) if last else None


def _tail(run: Run, offset: int) -> str:
    """A fingerprint of the last bytes of the journal before ``offset``; empty at its beginning."""
    if not offset:
        return ""
    with run.directory.journal.open("rb") as file:
        file.seek(max(0, offset - _TAIL_BYTES))
        return hashlib.sha256(file.read(min(offset, _TAIL_BYTES))).hexdigest()[:16]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # in a container whose system does not know this user's number
        return str(os.getuid())


def _datasets(run: Run) -> Iterator[DatasetInput]:
    if not run.directory.datasets.exists():
        return
    name = json.loads(run.directory.recipe.read_text())["data"]["dataset"]
    for split, manifest in json.loads(run.directory.datasets.read_text()).items():
        dataset = Dataset(
            name=f"{name}, {split}",
            # as much of the fingerprint as MLflow takes; the profile has all of it
            digest=manifest["fingerprint"][:_DATASET_DIGEST],
            source_type="local",
            source=json.dumps({"uri": manifest["source"]}),
            profile=json.dumps({key: value for key, value in manifest.items() if key not in ("classes", "source")}),
        )
        yield DatasetInput(dataset, [InputTag("mlflow.data.context", _CONTEXTS.get(split, split))])


def _in_a_line(error: BaseException) -> str:
    if isinstance(error, DamagedError):
        return str(error)
    text = folders.without_credentials(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:300]}{'...' if len(text) > 300 else ''}"
