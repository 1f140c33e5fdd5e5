"""What this machine has, and what is missing for which journey."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import folders, provenance


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is there, what was found, which journey needs it."""

    name: str
    ok: bool
    detail: str
    journey: str


def findings() -> list[Finding]:
    """Look at everything, in the order a new user needs it."""
    return [_torch(), _cuda(), _decoder(), _processor(), _memory(), _disk(), _data(), _slurm(), _tracking(), _git()]


def _torch() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("torch", False, "not installed; see README, 'Try it'", "everything")
    return Finding("torch", True, importlib.metadata.version("torch"), "everything")


def _cuda() -> Finding:
    try:
        import torch
    except ImportError as error:
        return Finding("CUDA", False, str(error), "scale paper")
    if not torch.cuda.is_available():
        return Finding("CUDA", False, "no usable GPU; scale mini runs without one", "scale paper")
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return Finding("CUDA", True, f"{torch.version.cuda}: {names}", "scale paper")


def _decoder() -> Finding:
    try:
        import av
    except ImportError as error:
        return Finding("PyAV", False, f"{error}; pip install av", "any data set")
    has_h264 = "h264" in av.codecs_available
    return Finding("PyAV", has_h264, f"{av.__version__}, H.264 {'decoded' if has_h264 else 'missing'}", "any data set")


def _processor() -> Finding:
    cores = len(os.sched_getaffinity(0))
    return Finding("processor", True, f"{cores} cores for this process: as many mini runs at once", "scale mini")


def _memory() -> Finding:
    # in KiB, after "MemAvailable:"
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) / 2**20
    return Finding("memory", free > 2, f"{free:.1f} GiB available, about 1 GiB a mini run", "scale mini")


def _disk() -> Finding:
    place = folders.runs()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    return Finding("disk", free > 1, f"{free:.0f} GiB free under the runs folder", "everything")


def _data() -> Finding:
    from vswin.data.formats.layout import data_sets

    found = data_sets(folders.data())
    none = f"none under {folders.data()}; vswin data generate makes the miniature's, vswin data layout says of others"
    detail = ", ".join(found) if found else none
    return Finding("data sets", bool(found), detail, "any run")


def _slurm() -> Finding:
    if shutil.which("sinfo") is None:
        return Finding("Slurm", False, "no sinfo on PATH; --on local works without", "a cluster")
    try:
        answer = subprocess.run(["sinfo", "--version"], capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return Finding("Slurm", False, "sinfo is there but does not answer", "a cluster")
    return Finding("Slurm", answer.returncode == 0, (answer.stdout or answer.stderr).strip(), "a cluster")


def _tracking() -> Finding:
    uri = folders.tracking_address()
    return Finding("MLflow", True, f"{importlib.metadata.version('mlflow')}, writes to {uri}", "comparing runs")


def _git() -> Finding:
    code = provenance.commit()
    if code.name == "unknown":
        return Finding("git", False, "this code is not in a git clone, or git is missing", "provenance of records")
    changes = ", with uncommitted changes in code" if code.dirty else ""
    return Finding("git", True, f"commit {code.name[:10]}{changes}", "provenance of records")
