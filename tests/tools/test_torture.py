"""A small part of ``make torture``: kills and full disks at every kind of call, and runs that end as if undisturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_few_faults_leave_no_trace(tmp_path: Path) -> None:
    # a process of its own: it forks, which must come before torch has computed anything
    command = [sys.executable, "-m", "experiments.tools.torture", "--kills", "16", "--seed", "3"]
    variables = {"VSWIN_RESULTS": str(tmp_path / "results")}
    answer = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    [file] = (tmp_path / "results" / "torture").glob("*.json")
    report = json.loads(file.read_text())
    assert report["problems"] == []
    assert report["kills"] >= 16
    assert report["runs"] > 0
    assert len(report["faults"]) > 3
