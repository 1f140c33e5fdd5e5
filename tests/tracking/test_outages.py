"""A tracker that dies, hangs, fills up or is shared: MLflow ends with exactly the journals' points."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.registry.catalogue import experiments, find_table
from experiments.registry.recipe import Scale
from experiments.runs import journal
from experiments.runs.run import Run, existing
from tests.support.command_line import Vswin, vswin_command
from tests.support.made_up_runs import experiment_of, make_up_run
from tests.support.mlflow_points import journal_points, mlflow_points, mlflow_run
from tests.support.patience import eventually
from tests.support.places import CLONE
from tests.support.tracking_servers import MlflowServer, ServerJob, postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    with postgres(tmp_path) as address:
        yield address


@pytest.fixture
def server(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    """An MLflow server on PostgreSQL, started, which every command is told of."""
    server = MlflowServer(store, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def grid(*tables: str, seeds: int) -> list[Run]:
    chosen = experiments(Scale.TINY, [find_table(table) for table in tables])
    return [Run(item, seed) for item in chosen for seed in range(seeds)]


def launch(*arguments: str) -> subprocess.Popen[str]:
    command = vswin_command("launch", *arguments, "--scale", "tiny", "--jobs", "1")
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def rows(store: str, runs: list[str] | None = None) -> int:
    """How many points the database holds of the runs with these ids, or of all."""
    from sqlalchemy import create_engine, text

    engine = create_engine(store)
    with engine.connect() as connection:
        ids = connection.execute(text("SELECT run_uuid FROM metrics")).scalars().all()
    engine.dispose()
    return sum(runs is None or item in runs for item in ids)


def assert_exactly_the_journals(runs: list[Run], store: str) -> None:
    written = {run: journal_points(run) for run in runs}
    ids = [mlflow_run(run).info.run_id for run in runs]
    for run, points in written.items():
        assert mlflow_points(run) == points
        assert mlflow_run(run).info.status == "FINISHED"
    assert rows(store, ids) == sum(len(values) for points in written.values() for values in points.values())


def finished(runs: list[Run]) -> int:
    return sum(bool(run.directory.results()) for run in runs)


def test_a_server_killed_in_the_middle_of_a_grid_misses_nothing(vswin: Vswin, server: MlflowServer, store: str) -> None:
    runs = grid("table4", "table6", seeds=1)
    launcher = launch("table4", "table6", "--seeds", "1")
    # in the middle: the server knows something of the grid, and not all
    eventually(
        "a run is done and the server knows of one", lambda: finished(runs) >= 1 and rows(store) > 0, seconds=600
    )
    server.kill()
    eventually("three runs are done", lambda: finished(runs) >= 3, seconds=600)
    server.start(wait=False)
    output, _ = launcher.communicate()
    assert launcher.returncode == 0, output
    # within the launch, without anybody's help
    assert "nothing is lost" not in output
    assert_exactly_the_journals(runs, store)

    # and where it comes back after the launch only, by sync
    server.kill()
    more = grid("table4", "table6", seeds=2)
    launcher = launch("table4", "table6", "--seeds", "2")
    output, _ = launcher.communicate()
    assert launcher.returncode == 0, output
    assert "5 of 5 runs are not all there" in output
    assert "nothing is lost: vswin sync" in output
    server.start()
    answer = json.loads(vswin("sync", "--scale", "tiny", "--json").stdout)
    # the others, and what all start from, the first launch has told
    there = len(list(existing(experiments(Scale.TINY))))
    assert (answer["runs"], answer["changed"], answer["failures"]) == (there, 5, {})
    assert_exactly_the_journals(more, store)
    for arguments in ([], ["--again"]):
        vswin("sync", "--scale", "tiny", *arguments)
        assert_exactly_the_journals(more, store)


def test_a_server_that_hangs_holds_no_run_up(vswin: Vswin, server: MlflowServer, store: str) -> None:
    server.signal(signal.SIGSTOP)
    runs = grid("table6", seeds=1)
    output, _ = launch("table6", "--seeds", "1").communicate()
    assert "3 finished, 0 did not" in output
    assert finished(runs) == 3
    # with the run they start from, which was done before
    assert "4 of 4 runs are not all there" in output
    server.signal(signal.SIGCONT)
    vswin("sync", "--scale", "tiny")
    assert_exactly_the_journals(runs, store)


def test_a_store_that_is_full_catches_up_when_there_is_room(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mlflow.db"
    server = MlflowServer(f"sqlite:///{file}", tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    try:
        server.start()
        run = make_up_run("table4/joint")
        subprocess.run(vswin_command("sync", "--scale", "tiny"), check=True)
        # no file of the server's processes may grow beyond what the database has now
        server.limit_files(file.stat().st_size)
        second = make_up_run("table4/split", steps=3000)
        full = subprocess.run(
            vswin_command("sync", "--scale", "tiny", "--json"), capture_output=True, text=True, check=False
        )
        assert full.returncode == 1
        assert list(json.loads(full.stdout)["failures"]) == ["table4/split seed 0"]
        server.limit_files(resource.RLIM_INFINITY)
        subprocess.run(vswin_command("sync", "--scale", "tiny"), check=True)
        for item in (run, second):
            assert mlflow_points(item) == journal_points(item)
    finally:
        server.stop()


WRITER = """
import sys, time
from tests.support.made_up_runs import *
from experiments.tracking.follow import Follower
from experiments.runs.attempts import Ownership
seed, seconds = int(sys.argv[1]), float(sys.argv[2])
run = make_up_run("table4/split", seed=seed, steps=1, done=False)
Ownership(run.directory)
with Follower(Scale.TINY) as follower, Journal(run.directory.journal) as journal:
    follower.add(run)
    # until the follower has the store, which one of them makes: it has not read a point yet
    while not run.directory.tracking.exists():
        time.sleep(0.02)
    until, step = time.monotonic() + seconds, 1
    while time.monotonic() < until:
        step += 1
        journal.write(step, metrics_of(step, seed))
        time.sleep(0.02)
print(follower.finish())
"""


def test_eight_at_once_on_the_sqlite_default(home: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(CLONE / "tests"), str(CLONE)]),
    }
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(seed), "30"], env=environment, stdout=subprocess.PIPE, text=True
        )
        for seed in range(8)
    ]
    said = [writer.communicate()[0].strip() for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 8
    assert said == [""] * 8
    for seed in range(8):
        run = Run(experiment_of("table4/split"), seed)
        assert sum(1 for _ in journal.read(run.directory.journal)) > 100
        assert mlflow_points(run) == journal_points(run)


def test_the_clusters_server_keeps_strangers_out(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(path: str, **headers: str) -> int:
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{job.uri}{path}", headers=headers), timeout=10):
                return 200
        except urllib.error.HTTPError as error:
            return error.code

    # on a name that is not loopback's, though nobody else hears it
    with ServerJob(store, tmp_path, host="127.0.0.2") as job:
        search = "/api/2.0/mlflow/experiments/search?max_results=1"
        assert ask(search) == 401
        assert ask(search, Host="evil.example") == 403
        monkeypatch.setenv("MLFLOW_TRACKING_URI", job.uri)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "owner")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", job.password)
        monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / "runs"))
        run = make_up_run("table4/split")
        subprocess.run(vswin_command("sync", "--scale", "tiny"), check=True)
        assert mlflow_points(run) == journal_points(run)
        # in the address instead, it is the same store, and the password is kept nowhere
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
        monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", job.uri.replace("://", f"://owner:{job.password}@"))
        answer = vswin_command("sync", "--scale", "tiny", "--json")
        said = subprocess.run(answer, check=True, capture_output=True, text=True)
        assert (json.loads(said.stdout)["changed"], json.loads(said.stdout)["failures"]) == (0, {})
        for text in (said.stdout, said.stderr, *(path.read_text() for path in run.directory.path.rglob("*.json"))):
            assert job.password not in text
