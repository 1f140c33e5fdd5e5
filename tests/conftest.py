"""One thread per test process: the tests run side by side, and the same bits come out on any number of cores."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from command_line import Vswin, vswin_command

os.environ["OMP_NUM_THREADS"] = "1"

# A shell that starts the tests in the background has them ignore Ctrl-C, and what they start would inherit that.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the data set of scale ``tiny``, made once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    # the processes of one test run have folders side by side
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "vswin-data"
    command = vswin_command("data", "generate", "moving-digits/tiny")
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "VSWIN_DATA": str(folder)})
    return folder


@pytest.fixture
def home(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs, results and tracking of a test in folders of its own; the data set of scale ``tiny``."""
    monkeypatch.setenv("VSWIN_DATA", str(tiny_data))
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("VSWIN_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def vswin(home: Path) -> Vswin:
    """The command line in a process of its own, as a user has it."""

    def call(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        answer = subprocess.run(vswin_command(*arguments), capture_output=True, text=True, cwd=home, check=False)
        assert answer.returncode == code, f"exit code {answer.returncode}\n{answer.stdout}\n{answer.stderr}"
        assert "Traceback" not in answer.stderr, answer.stderr
        return answer

    return call
