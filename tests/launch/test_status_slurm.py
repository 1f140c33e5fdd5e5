"""``status``, ``logs`` and ``cancel`` on real Slurm jobs, with the accounting and without."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.registry.catalogue import find_variant
from experiments.registry.recipe import Scale
from experiments.runs.attempts import Attempt
from experiments.runs.directory import RunDirectory
from tests.support.command_line import Vswin
from tests.support.patience import eventually
from tests.support.slurm_cluster import SlurmCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
pytest_plugins = ["tests.support.slurm_cluster"]

PROFILE = """\
[test]
account = "vswin"
memory = "1000MB"
time = "30"
parallel = 2
"""
TINY = ("--scale", "tiny")


def run_of(name: str) -> RunDirectory:
    return RunDirectory(Scale.TINY, find_variant(name).at(Scale.TINY).signature, 0)


def status(vswin: Vswin) -> dict[str, dict[str, Any]]:
    shown = json.loads(vswin("status", "table4", *TINY, "--seeds", "1", "--json").stdout)
    return {item["variants"][0]: item for item in shown}


@pytest.fixture
def cluster(slurm_cluster: SlurmCluster, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    profiles = home / "profiles.toml"
    profiles.write_text(PROFILE)
    monkeypatch.setenv("VSWIN_PROFILES", str(profiles))
    monkeypatch.setenv("COLUMNS", "80")
    yield slurm_cluster
    slurm_cluster.call("scancel", "--user=root")
    eventually("no job is left", lambda: not slurm_cluster.call("squeue", "--noheader"))


@contextlib.contextmanager
def no_accounting(cluster: SlurmCluster) -> Iterator[None]:
    """slurmdbd is dead meanwhile."""
    note = cluster.folder / "pids" / "slurmdbd"
    pid = int(note.read_text())
    environment = dict(
        entry.split("=", 1) for entry in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in entry
    )
    os.kill(pid, signal.SIGKILL)
    eventually("sacct fails", lambda: subprocess.run(["sacct"], capture_output=True, check=False).returncode != 0)
    try:
        yield
    finally:
        # of a shell that ends at once, as a daemon is
        command = "slurmdbd -D < /dev/null > /dev/null 2>&1 & echo $!"
        started = subprocess.run(
            command, shell=True, env=environment, stdout=subprocess.PIPE, text=True, check=True, start_new_session=True
        )
        note.write_text(started.stdout.strip())
        eventually("sacct answers", lambda: subprocess.run(["sacct"], capture_output=True, check=False).returncode == 0)


def test_what_slurm_says_is_in_the_table_and_cancel_reaches_its_jobs(cluster: SlurmCluster, vswin: Vswin) -> None:
    # a profile that cannot share a batch out is refused before anything is submitted
    bad = Path(os.environ["VSWIN_PROFILES"])
    bad.write_text(f"{PROFILE}processes = 3\n")
    refused = vswin("launch", "table4", *TINY, "--seeds", "1", "--on", "test", "--allow-dirty", code=1)
    assert "batches of 8 clips (table4/joint) cannot be shared out among 3 processes" in refused.stderr
    assert not cluster.call("squeue", "--noheader")
    bad.write_text(PROFILE)

    vswin("launch", "table4", *TINY, "--seeds", "1", "--on", "test", "--allow-dirty")
    working = run_of("table4/joint")

    def frozen() -> int | None:
        attempt = Attempt.of(working)
        return attempt.process.pid if attempt and working.last_step() >= 3 else None

    pid = eventually("table4/joint trains", frozen, every=0.02)
    os.kill(pid, signal.SIGSTOP)
    try:
        for accounting in (contextlib.nullcontext(), no_accounting(cluster)):
            with accounting:
                found = status(vswin)
                joint = found["table4/joint"]
                assert (joint["action"], joint["steps"]) == ("RUNNING", 30)
                assert joint["job"]["phase"] == "running"
                assert joint["job"]["nodes"] in ("node1", "node2")
                assert joint["seconds_left"] > 0
                text = vswin("status", "table4", *TINY, "--seeds", "1").stdout
                assert f"job {joint['job']['id']} is running on {joint['job']['nodes']}" in text
                logs = vswin("logs", "table4/joint", *TINY).stdout
                assert f"job {joint['job']['id']} on {joint['job']['nodes']}" in logs.splitlines()[0]
                assert "submitit INFO" in logs
        # two at once: the third waits until one of the others has ended, if it did not end already
        third = status(vswin)["table4/factorized"]
        assert third["action"] in ("PENDING", "RUNNING", "DONE")

        would = vswin("cancel", "table4/joint", *TINY, "--dry-run").stdout
        assert f"job {joint['job']['id']} would be cancelled" in would
        assert status(vswin)["table4/joint"]["action"] == "RUNNING"
        assert f"job {joint['job']['id']} was cancelled" in vswin("cancel", "table4/joint", *TINY).stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    stopped = eventually(
        "the job has ended",
        lambda: found if (found := status(vswin)["table4/joint"])["action"] == "RESUME" else None,
    )
    assert stopped["job"]["phase"] == "ended"
    vswin("cancel", "--all", *TINY)
    eventually("no job is left", lambda: not cluster.call("squeue", "--noheader"))
    assert "nothing to cancel" in vswin("cancel", "--all", *TINY).stdout
    # and a launch goes on from there
    vswin("launch", "table4", *TINY, "--seeds", "1", "--on", "test", "--allow-dirty")
    eventually("table 4 is done", lambda: all(item["action"] == "DONE" for item in status(vswin).values()), seconds=240)
    assert status(vswin)["table4/joint"]["attempts"] == 2
