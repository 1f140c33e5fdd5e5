"""Peak memory of one training step, above the idle process: ``python -m vswin.bench.memory fast bf16``.

A process of its own for each measurement, since allocators keep what was freed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from vswin.config import Precision
from vswin.models.form import Form

from .cases import Case, TimedWork

STATUS = Path("/proc/self/status")


def peak_in_own_process(case: Case, form: Form) -> int | None:
    """Bytes; None where the system has no /proc."""
    if not STATUS.exists():
        return None
    command = [sys.executable, "-m", "vswin.bench.memory", form, case.precision, "--model", case.model]
    command += ["--frames", str(case.frames), "--size", str(case.size), "--batch", str(case.batch)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(answer.stdout)["bytes"])


def _status(field: str) -> int:
    """Bytes of a field of the process's status: VmRSS is memory in use, VmHWM the most there ever was."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("form", type=Form, choices=list(Form))
    parser.add_argument("precision", type=Precision, choices=list(Precision))
    parser.add_argument("--model", default="swin_t")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    case = Case(
        model=options.model,
        frames=options.frames,
        size=options.size,
        batch=options.batch,
        precision=options.precision,
        work=TimedWork.TRAINING,
    )
    step = case.call(options.form)
    idle = _status("VmRSS")
    step()
    print(json.dumps({"bytes": _status("VmHWM") - idle}))


if __name__ == "__main__":
    main()
