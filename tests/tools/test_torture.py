"""A small part of ``make torture``: kills and full disks at every kind of call, and runs that end as if undisturbed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.tools.torture import _differences_in_mlflow, _outcome
from tests.support.tiny_runs import DONE, run_of


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


@pytest.mark.parametrize(
    ("kind", "at", "code", "left"),
    [
        ("kill before", 1, -signal.SIGKILL, {".note.partial": b"ab"}),
        ("kill before", 3, -signal.SIGKILL, {".note.partial": b"abcd"}),
        ("kill after", 3, -signal.SIGKILL, {"note": b"abcd"}),
        ("EIO", 2, 1, {}),
        ("ENOSPC", 9, 0, {"note": b"abcd"}),
    ],
)
def test_a_fault_comes_at_the_call_that_it_is_meant_for(
    kind: str, at: int, code: int, left: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    script = (
        "import sys; from pathlib import Path; from experiments.files import write_bytes\n"
        "from experiments.tools.torture import Fault, _Injector\n"
        f"_Injector(Path({str(folder)!r}), Fault({kind!r}, {at}), Path({str(tmp_path / 'fault')!r})).install()\n"
        f"write_bytes(Path({str(folder / 'note')!r}), b'abcd')\n"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert answer.returncode == code, answer.stderr
    # a file that is under way is named after the process that writes it
    names = {path: ".note.partial" if path.suffix == ".partial" else path.name for path in folder.iterdir()}
    assert {names[path]: path.read_bytes() for path in names} == left
    assert (tmp_path / "fault").exists() is (code != 0)


def test_what_is_compared_sees_a_single_digit(tiny_runs: Path, empty_home: Path) -> None:
    shutil.copytree(tiny_runs, empty_home / "runs")
    run = run_of(DONE).directory
    before = _outcome(run)
    assert before == _outcome(run)
    lines = run.journal.read_text().splitlines()
    entry = json.loads(lines[4])
    entry["metrics"]["train/loss"] += 1e-12
    # a line without a checksum, as earlier versions wrote them, is read as it is
    del entry["crc"]
    lines[4] = json.dumps(entry)
    run.journal.write_text("\n".join(lines) + "\n")
    assert before != _outcome(run)
    # a store without these runs lacks them
    (empty_home / "runs" / "mlflow.db").unlink(missing_ok=True)
    with pytest.raises(Exception, match="no such table"):
        _differences_in_mlflow()
