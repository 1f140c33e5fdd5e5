"""One thread per test process: the tests run side by side, and the same bits come out on any number of cores."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from experiments.files import locked
from tests.support.command_line import Vswin, vswin_command
from tests.support.tiny_runs import make_runs

os.environ["OMP_NUM_THREADS"] = "1"

# A shell that starts the tests in the background has them ignore Ctrl-C, and what they start would inherit that.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the data sets of scale ``tiny``, made once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    # the processes of one test run have folders side by side
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "vswin-data"
    names = ("tiny", "tiny-stills", "tiny-stills-large")
    command = vswin_command("data", "generate", *(f"moving-digits/{name}" for name in names))
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "VSWIN_DATA": str(folder)})
    return folder


@pytest.fixture(scope="session")
def tiny_upstream(tiny_data: Path) -> Path:
    """A runs folder with the image model that tables 4 to 9 start from at scale ``tiny``, trained once."""
    folder = tiny_data.with_name("vswin-upstream")
    with locked(folder.with_suffix(".lock")):
        command = vswin_command("run", "upstream/image-t-small", "--scale", "tiny")
        variables = {"VSWIN_DATA": str(tiny_data), "VSWIN_RUNS": str(folder), "VSWIN_RESULTS": str(folder / "results")}
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **variables})
    return folder


@pytest.fixture(scope="session")
def tiny_runs(tiny_data: Path, tiny_upstream: Path) -> Path:
    """A runs folder of scale ``tiny`` with a run that is done and one that was stopped, made once."""
    folder = tiny_data.with_name("vswin-tiny-runs")
    with locked(folder.with_suffix(".lock")):
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            make_runs(partial, data=tiny_data, upstream=tiny_upstream)
            partial.rename(folder)
    return folder


@pytest.fixture
def empty_home(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs, results and tracking of a test in folders of its own; the data sets of scale ``tiny``."""
    monkeypatch.setenv("VSWIN_DATA", str(tiny_data))
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("VSWIN_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def home(empty_home: Path, tiny_upstream: Path) -> Path:
    """As ``empty_home``, and the image model that tables 4 to 9 start from is trained already."""
    for run in (tiny_upstream / "tiny").glob("*/seed-0"):
        copy = empty_home / "runs" / "tiny" / run.parent.name / run.name
        # MLflow is another one, too
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns("tracking.json"))
    return empty_home


@pytest.fixture
def vswin(home: Path) -> Vswin:
    """The command line in a process of its own, as a user has it."""

    def call(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        answer = subprocess.run(vswin_command(*arguments), capture_output=True, text=True, cwd=home, check=False)
        assert answer.returncode == code, f"exit code {answer.returncode}\n{answer.stdout}\n{answer.stderr}"
        assert "Traceback" not in answer.stderr, answer.stderr
        return answer

    return call
