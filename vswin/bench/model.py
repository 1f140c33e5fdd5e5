"""Speed-up of the fast form of the models over the reference form: ``python -m vswin.bench.model``.

Forms are timed in turn, in one process; ratios are taken round by round. Results go to the terminal as Markdown and
to ``results/bench/model-<machine>.json`` and ``.md``. Needs torch and einops only.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vswin.config import Precision
from vswin.models.form import Form

from . import machine
from .cases import Case, TimedWork
from .memory import peak_in_own_process
from .timing import Spread, ratios, seconds_in_turn

FP32, BF16 = Precision.FP32, Precision.BF16
INFERENCE, TRAINING = TimedWork.INFERENCE, TimedWork.TRAINING
COMPILED_REFERENCE = "compiled reference"

# The least speed-up, on the CPU and on one H100-class GPU (there eager, batch 8, bf16).
CPU_GOALS = {(INFERENCE, BF16): 3.0, (INFERENCE, FP32): 1.6, (TRAINING, BF16): 1.8, (TRAINING, FP32): 1.25}
CUDA_GOALS = {(INFERENCE, BF16): 3.0, (TRAINING, BF16): 3.0}
COMPILED_GOAL = 1.3
# Of the reference form's peak memory in a training step, at most.
MEMORY_GOAL = 0.5

WINDOW_16 = {"window": (16, 7, 7)}


@dataclass(frozen=True, kw_only=True)
class Line:
    """A case and its measurements: seconds per contender, and the speed-up of the fast form over each other one."""

    case: Case
    seconds: dict[str, Spread]
    speedup: dict[str, Spread]
    goal: float | None
    utilisation: dict[str, float]
    peak_bytes: dict[str, int]


def measure(
    case: Case, *, device: torch.device, rounds: int, peak: float, goal: float | None = None, compiled: bool = False
) -> Line:
    """Time the forms of ``case``; ``peak`` is the matrix product's FLOPs per second in its precision."""
    calls = {form.value: case.call(form, device=device) for form in (Form.REFERENCE, Form.FAST)}
    if compiled:
        calls[COMPILED_REFERENCE] = case.call(Form.REFERENCE, device=device, compiled=True)
    repeats = 5 if device.type == "cuda" else 1
    seconds = seconds_in_turn(calls, rounds=rounds, repeats=repeats, device=device)
    peak_bytes = {}
    if device.type == "cuda":
        for contender, call in calls.items():
            idle = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            call()
            torch.cuda.synchronize(device)
            peak_bytes[contender] = torch.cuda.max_memory_allocated(device) - idle
    fast = Form.FAST.value
    return Line(
        case=case,
        seconds={contender: Spread.of(values) for contender, values in seconds.items()},
        speedup={
            contender: Spread.of(ratios(values, seconds[fast]))
            for contender, values in seconds.items()
            if contender != fast
        },
        goal=goal,
        utilisation={
            contender: case.flops() / Spread.of(values).median / peak for contender, values in seconds.items()
        },
        peak_bytes=peak_bytes,
    )


def cases(device: torch.device, *, small: bool) -> list[tuple[Case, float | None, bool]]:
    """Cases with their goals, and whether the compiled reference takes part."""
    cuda = device.type == "cuda"
    base = Case(model="swin_t", precision=BF16, work=INFERENCE, batch=8 if cuda else 1)
    if small:
        base = replace(base, frames=8, size=64)
    goals = CUDA_GOALS if cuda else CPU_GOALS
    table: list[tuple[Case, float | None, bool]] = [
        (replace(base, work=work, precision=precision), goal, cuda) for (work, precision), goal in goals.items()
    ]
    table += [(replace(base, frames=base.frames * factor // 2), None, False) for factor in (1, 4)]
    large = replace(base, model="swin_b", overrides=WINDOW_16)
    table += [(large, None, False), (replace(large, work=TRAINING), None, False)]
    return table


def memory_lines(*, small: bool) -> list[dict[str, Any]]:
    """Peak memory of CPU training steps, each in a process of its own."""
    lines = []
    for precision in (BF16, FP32):
        case = Case(model="swin_t", precision=precision, work=TRAINING)
        if small:
            case = replace(case, frames=8, size=64)
        peaks = {form.value: peak_in_own_process(case, form) for form in (Form.REFERENCE, Form.FAST)}
        lines.append({"case": case.label(), "precision": precision, "bytes": peaks, "goal": MEMORY_GOAL})
    return lines


def markdown(report: dict[str, Any], lines: list[Line]) -> str:
    """The report as Markdown."""
    described = report["machine"]
    text = [
        "# Fast form against reference form",
        "",
        ", ".join(f"{key} {value}" for key, value in described.items()),
        "",
        "Matrix product of this machine: "
        + ", ".join(f"{value / 1e9:.0f} GFLOP/s in {precision}" for precision, value in report["matmul"].items())
        + ". Utilisation is the published algorithm's FLOPs, over time, over that.",
        "",
        "| | precision | reference, s | fast, s | speed-up | goal | utilisation |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        for contender, speedup in line.speedup.items():
            what = f"{line.case.work}, {line.case.label()}"
            if contender == COMPILED_REFERENCE:
                what += ", reference compiled"
            goal = COMPILED_GOAL if contender == COMPILED_REFERENCE else line.goal
            text.append(
                f"| {what} | {line.case.precision} | {_spread(line.seconds[contender], 3)} "
                f"| {_spread(line.seconds[Form.FAST.value], 3)} | {_spread(speedup, 2)} "
                f"| {'' if goal is None else f'{goal} or more'} "
                f"| {line.utilisation[contender]:.0%}, {line.utilisation[Form.FAST.value]:.0%} |"
            )
    text += ["", "Times are medians, in brackets the least and the greatest.", ""]
    text += [
        "| peak memory of a training step | precision | reference | fast | share | goal |",
        "|---|---|---|---|---|---|",
    ]
    for entry in report["memory"]:
        reference, fast = (entry["bytes"][form.value] for form in (Form.REFERENCE, Form.FAST))
        if reference and fast:
            text.append(
                f"| {entry['case']} | {entry['precision']} | {reference / 2**20:.0f} MiB | {fast / 2**20:.0f} MiB "
                f"| {fast / reference:.2f} | {entry['goal']} or less |"
            )
    return "\n".join(text) + "\n"


def _spread(spread: Spread, digits: int) -> str:
    return f"{spread.median:.{digits}f} [{spread.least:.{digits}f}, {spread.greatest:.{digits}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--rounds", type=int, help="measurements of each; default 3 on the CPU, 10 on CUDA")
    parser.add_argument("--small", action="store_true", help="toy inputs, to try the program itself")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    options = parser.parse_args()
    device: torch.device = options.device
    started = time.monotonic()

    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    rounds = options.rounds or (10 if device.type == "cuda" else 3)
    table = cases(device, small=options.small)
    precisions = sorted({case.precision for case, _, _ in table})
    peaks = {
        precision: machine.matmul_flops(Case(model="", precision=precision, work=INFERENCE).dtype, device=device)
        for precision in precisions
    }
    lines = []
    for case, goal, compiled in table:
        large = case.model != "swin_t"
        line = measure(
            case,
            device=device,
            rounds=1 if large and device.type == "cpu" else rounds,
            peak=peaks[case.precision],
            goal=goal,
            compiled=compiled,
        )
        print(f"{case.work}, {case.label()}, {case.precision}: {_spread(line.speedup['reference'], 2)}", flush=True)
        lines.append(line)
    memory = memory_lines(small=options.small) if device.type == "cpu" else []
    for line in lines:
        if line.peak_bytes and line.case.work is TRAINING:
            case_label, precision = line.case.label(), line.case.precision
            memory.append({"case": case_label, "precision": precision, "bytes": line.peak_bytes, "goal": MEMORY_GOAL})

    report: dict[str, Any] = {
        "machine": machine.describe(device),
        "matmul": peaks,
        "seconds": time.monotonic() - started,
        "lines": [asdict(line) for line in lines],
        "memory": memory,
    }
    text = markdown(report, lines)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"model-{machine.name(device)}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    path.with_suffix(".md").write_text(text)
    print(f"\n{text}\nwritten to {path} and {path.with_suffix('.md')} after {report['seconds']:.0f} s")


if __name__ == "__main__":
    main()
