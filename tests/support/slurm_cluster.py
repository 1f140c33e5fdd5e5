"""A real Slurm for the tests of a session: two nodes of two cores, accounting, quick to requeue.

A test file that wants it says ``pytest_plugins = ["tests.support.slurm_cluster"]``, marks its tests ``slow`` and
takes the fixture ``slurm_cluster``. However many files do, a session starts one cluster.

PYTEST_DONT_REWRITE: test files import this one before pytest takes it as a plugin.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.patience import eventually
from tests.support.places import CLONE

DEV_CLUSTER = CLONE / "slurm" / "dev-cluster"
_FOLDERS = Path(tempfile.gettempdir())


def dev_cluster(folder: Path, *arguments: str, code: int = 0) -> str:
    """What ``slurm/dev-cluster`` prints for ``arguments``."""
    command = [sys.executable, str(DEV_CLUSTER), "--folder", str(folder), *arguments]
    answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert answer.returncode == code, f"exit code {answer.returncode} of {arguments}\n{answer.stdout}"
    return answer.stdout


def skip_without_slurm() -> None:
    if not shutil.which("slurmctld"):
        pytest.skip("slurmctld is not installed: apt-get install munge mariadb-server slurmdbd slurm-wlm")
    if os.geteuid() != 0:
        pytest.skip("a Slurm cluster of one's own wants root")


@dataclass(frozen=True)
class Attempt:
    """One attempt at a job, as the accounting remembers it; it forgets some times of requeued jobs: None."""

    state: str
    nodes: str
    start: datetime | None
    end: datetime | None


@dataclass(frozen=True)
class SlurmCluster:
    folder: Path

    def call(self, *command: str) -> str:
        """The output of one of Slurm's commands."""
        answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert answer.returncode == 0, f"exit code {answer.returncode} of {command}\n{answer.stdout}"
        return answer.stdout

    def submit(self, script: str, *options: str, output: Path) -> str:
        """The number of a job that appends what it prints to ``output``."""
        always = ("--parsable", "--open-mode=append", f"--output={output}")
        return self.call("sbatch", *always, *options, f"--wrap={script}").strip()

    def attempts(self, job: str) -> list[Attempt]:
        """Every attempt at ``job``, oldest first; the last may be pending."""
        fields = "--format=State,NodeList,Start,End"
        rows = self.call("sacct", "-nPX", "--duplicates", fields, f"--jobs={job}").splitlines()
        attempts = []
        for row in rows:
            state, nodes, *times = row.split("|")
            start, end = (None if time in ("None", "Unknown") else datetime.fromisoformat(time) for time in times)
            attempts.append(Attempt(state.split()[0], nodes, start, end))
        return sorted(attempts, key=lambda attempt: attempt.end or datetime.max)

    def ended(self, job: str) -> list[Attempt]:
        """Every attempt at ``job``, which is over, once the accounting has heard of it: that takes a moment."""

        def look() -> list[Attempt]:
            attempts = self.attempts(job)
            return attempts if all(attempt.start and attempt.end for attempt in attempts) else []

        return eventually(f"the accounting knows when job {job} began and ended", look, seconds=60)

    def steps(self, job: str) -> dict[str, str]:
        """State of each step of ``job``: what ``srun`` started is ``0``, the script is ``batch``."""
        rows = self.call("sacct", "-nP", "--format=JobID,State", f"--jobs={job}").splitlines()
        named = [row.rpartition(".")[2].split("|") for row in rows if "." in row]
        return {name: state.split()[0] for name, state in named}

    def wait(self, job: str, *states: str) -> list[Attempt]:
        """The attempts at ``job`` once their states are ``states``."""

        def look() -> list[Attempt] | None:
            attempts = self.attempts(job)
            return attempts if tuple(attempt.state for attempt in attempts) == states else None

        try:
            return eventually(f"job {job} has been {states}", look)
        except AssertionError as error:
            raise AssertionError(f"{error}, but {self.attempts(job)}") from None


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[SlurmCluster]:
    """A running cluster that ``$SLURM_CONF`` points to until the session ends."""
    skip_without_slurm()
    # one folder per process of tests, so that several may run; what a killed one left behind goes first
    for left in _FOLDERS.glob("vswin-slurm-*"):
        if not Path("/proc", left.name.rpartition("-")[2]).exists():
            dev_cluster(left, "down")
    folder = _FOLDERS / f"vswin-slurm-{os.getpid()}"
    with pytest.MonkeyPatch.context() as patch:
        try:
            dev_cluster(folder, "up")
            patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
            yield SlurmCluster(folder)
        finally:
            dev_cluster(folder, "down")
