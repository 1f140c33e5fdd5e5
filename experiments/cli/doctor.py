"""The diagnosis of this machine: what it has, and what is missing for which journey."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from .. import folders
from ..job import provenance
from ..words import relative

# A loader holds one for every clip that waits, and MLflow some.
_OPEN_FILES = 1024


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at. ``detail`` is short, ``journey`` needs it, ``output`` is what a program said."""

    name: str
    ok: bool
    detail: str
    journey: str
    output: str = ""


def diagnose() -> list[Diagnosis]:
    """Look at everything, in the order a new user needs it."""
    return [
        _torch(),
        _cuda(),
        _decoder(),
        _processor(),
        _memory(),
        *_shared_memory(),
        _open_files(),
        _disk(),
        _data(),
        _slurm(),
        _tracking(),
        _git(),
    ]


def _torch() -> Diagnosis:
    if importlib.util.find_spec("torch") is None:
        return Diagnosis("torch", False, "not installed; see README, 'Try it'", "everything")
    return Diagnosis("torch", True, importlib.metadata.version("torch"), "everything")


def _cuda() -> Diagnosis:
    try:
        import torch
    except ImportError as error:
        return Diagnosis("CUDA", False, "torch cannot be imported; see --verbose", "scale paper", str(error))
    if not torch.cuda.is_available():
        return Diagnosis("CUDA", False, "no usable GPU; scale mini needs none", "scale paper")
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return Diagnosis("CUDA", True, f"{torch.version.cuda}: {names}", "scale paper")


def _decoder() -> Diagnosis:
    try:
        import av
    except ImportError as error:
        return Diagnosis("PyAV", False, "cannot be imported: pip install av", "any data set", str(error))
    has_h264 = "h264" in av.codecs_available
    return Diagnosis(
        "PyAV", has_h264, f"{av.__version__}, H.264 {'decoded' if has_h264 else 'missing'}", "any data set"
    )


def _processor() -> Diagnosis:
    cores = len(os.sched_getaffinity(0))
    return Diagnosis("processor", True, f"{cores} cores: as many mini runs at once", "scale mini")


def _memory() -> Diagnosis:
    # in KiB, after "MemAvailable:"
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) / 2**20
    return Diagnosis("memory", free > 2, f"{free:.1f} GiB available, about 1 GiB a mini run", "scale mini")


def _shared_memory() -> list[Diagnosis]:
    """On Linux: workers hand clips over in it, and containers have little."""
    place = Path("/dev/shm")
    if not place.exists():
        return []
    usage = shutil.disk_usage(place)
    enough = usage.free > 2**30
    advice = "" if enough else "; in Docker --shm-size=8g, or --workers 0"
    detail = f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GiB free in {place}{advice}"
    return [Diagnosis("shared memory", enough, detail, "--workers above 0")]


def _open_files() -> Diagnosis:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft >= _OPEN_FILES
    advice = "" if enough else f"; ulimit -n {min(hard, 4096) if hard > 0 else 4096}"
    return Diagnosis("open files", enough, f"{soft} a process{advice}", "--workers above 0")


def _disk() -> Diagnosis:
    place = folders.runs()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    return Diagnosis("disk", free > 1, f"{free:.0f} GiB free under the runs folder", "everything")


def _data() -> Diagnosis:
    from vswin.data.formats.layout import data_sets

    found = data_sets(folders.data())
    detail = ", ".join(found) if found else "none; vswin data generate makes some"
    return Diagnosis("data sets", bool(found), detail, "any run")


def _slurm() -> Diagnosis:
    if shutil.which("sinfo") is None:
        return Diagnosis("Slurm", False, "no sinfo on PATH; --on local needs none", "a cluster")
    try:
        answer = subprocess.run(["sinfo", "--version"], capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return Diagnosis("Slurm", False, "sinfo is there but does not answer", "a cluster")
    if answer.returncode:
        return Diagnosis("Slurm", False, "sinfo is there but fails; see --verbose", "a cluster", answer.stderr.strip())
    return Diagnosis("Slurm", True, answer.stdout.strip(), "a cluster", answer.stderr.strip())


def _tracking() -> Diagnosis:
    uri = folders.tracking_address()
    store = relative(folders.sqlite_file(uri)) if uri.startswith("sqlite:///") else uri
    return Diagnosis("MLflow", True, f"{importlib.metadata.version('mlflow')}, writes to {store}", "comparing runs")


def _git() -> Diagnosis:
    code = provenance.commit()
    if code.name == "unknown":
        return Diagnosis("git", False, "no git, or the code is not in a clone", "records")
    changes = ", with uncommitted changes in code" if code.dirty else ""
    return Diagnosis("git", True, f"commit {code.name[:10]}{changes}", "records")


def show_diagnoses(console: Console, found: list[Diagnosis], *, verbose: bool) -> None:
    """One line for each of ``found``; with ``verbose`` also what programs said."""
    grid = Grid(box=None, pad_edge=False)
    grid.add_column("", no_wrap=True, min_width=len("missing"))
    grid.add_column("", no_wrap=True, min_width=max(len(item.name) for item in found))
    grid.add_column("needed for", no_wrap=True, min_width=max(len(item.journey) for item in found))
    # last: what matters of a long line is at its beginning
    grid.add_column("", no_wrap=not verbose, overflow="fold" if verbose else "ellipsis")
    for item in found:
        mark = Text("ok", style="green") if item.ok else Text("missing", style="yellow")
        grid.add_row(mark, item.name, Text(item.journey, style="dim"), Text(item.detail))
    console.print(grid)
    for item in found if verbose else ():
        if item.output:
            console.print(f"\n{item.name} said:\n{item.output}", markup=False, soft_wrap=True)
