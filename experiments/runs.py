"""The directory of a run: what lies in it, who owns it, and what can be seen of its state."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from . import folders, journal
from .recipe import Scale
from .registry import Experiment

# A run on another machine that has written nothing for so long is taken for dead. It is fenced off, so a wrong guess
# costs time and no data.
_SILENT_SECONDS = 900.0


class State(StrEnum):
    """What is known of a run. The plan turns it into an action."""

    NEW = "new"
    PENDING = "pending"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    UNTESTED = "untested"
    DONE = "done"


class AlreadyRunningError(RuntimeError):
    """Another process works on this run."""


class FencedError(RuntimeError):
    """Another attempt has taken this run over; this one must not write any more."""


@dataclass(frozen=True)
class Process:
    """A process of a machine, told apart from a later one with the same number.

    ``boot`` names the machine's start and ``ticks`` the process's, counted from it: neither moves with the clock.
    """

    host: str
    boot: str
    pid: int
    ticks: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process ``pid`` of this machine; raises ProcessLookupError."""
        _, ticks = _status(pid)
        return cls(host=socket.gethostname(), boot=_boot(), pid=pid, ticks=ticks)

    @property
    def is_here(self) -> bool:
        """Whether it was started on this machine; of others nothing can be seen but what they write."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether this process of this machine still runs."""
        try:
            status, ticks = _status(self.pid)
        except ProcessLookupError:
            return False
        return self.boot == _boot() and ticks == self.ticks and status != "Z"


def _status(pid: int) -> tuple[str, int]:
    """State letter and start time of a process: fields 3 and 22 of proc_pid_stat(5)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError as error:
        raise ProcessLookupError(f"no process {pid}") from error
    return fields[0], int(fields[19])


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True)
class RunDirectory:
    """``$VSWIN_RUNS/<scale>/<signature>/seed-<seed>``: everything one training of one recipe leaves."""

    scale: Scale
    signature: str
    seed: int

    @property
    def path(self) -> Path:
        return folders.runs() / self.scale / self.signature / f"seed-{self.seed}"

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.json"

    @property
    def data(self) -> Path:
        """The fingerprint of the videos it is trained on."""
        return self.path / "data.json"

    @property
    def machine(self) -> Path:
        """What the last bits of the newest attempt's results depend on."""
        return self.path / "machine.json"

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """What was trained, with the names of its classes: a file for ``vswin.load_checkpoint``."""
        return self.path / "weights.safetensors"

    def result(self, protocol: str) -> Path:
        """The record of a test, written last: where it is, training and that test are done.

        The scores of every test video lie beside it, as npz.
        """
        return self.path / "tests" / f"{protocol}.json"

    def partial_result(self, protocol: str, *, videos: str) -> Path:
        """The folder for scores of a test that is not done, of the videos with this fingerprint."""
        return self.path / "tests" / f"{protocol}.partial-{videos[:10]}"

    def results(self) -> list[Path]:
        """The records there are."""
        return sorted(self.path.glob("tests/*.json"))

    def drop_products(self) -> None:
        """Remove what is made of trained weights, except for records: training goes on, and there will be others."""
        self.weights.unlink(missing_ok=True)
        for partial in self.path.glob("tests/*.partial-*"):
            shutil.rmtree(partial)

    @property
    def error(self) -> Path:
        """The traceback of the last attempt, if it failed."""
        return self.path / "error.txt"

    @property
    def tracking(self) -> Path:
        """How far MLflow has been told."""
        return self.path / "tracking.json"

    @property
    def submission(self) -> Path:
        """The process or job last submitted for this run."""
        return self.path / "submission.json"

    @property
    def attempt(self) -> Path:
        """The attempt that owns this directory."""
        return self.path / "attempt.json"

    def state(self, protocols: Iterable[str]) -> State:
        """What can be seen from here of a run that is to be tested under ``protocols`` (signatures)."""
        if all(self.result(protocol).exists() for protocol in protocols):
            return State.DONE
        if self.running:
            return State.RUNNING
        if self._at_work(self.submission):
            return State.PENDING
        if self.error.exists():
            return State.FAILED
        if self.results():
            return State.UNTESTED
        return State.INTERRUPTED if self.attempt.exists() else State.NEW

    @property
    def running(self) -> bool:
        """Whether an attempt is at work here, as far as can be seen."""
        return self._at_work(self.attempt)

    def _at_work(self, claim: Path) -> bool:
        process = _read_process(claim)
        if process is None:
            return False
        if process.is_here:
            return process.alive
        # a process of another machine shows in what it writes only
        written = max(path.stat().st_mtime for path in (claim, self.journal) if path.exists())
        return time.time() - written < _SILENT_SECONDS

    def last_step(self) -> int:
        """The last step in the journal, 0 if none."""
        return max((entry.step for entry, _ in journal.read(self.journal)), default=0)

    def last_error(self) -> str:
        """The exception of the last failed attempt with its whole message in one line, empty if none."""
        lines = self.error.read_text().strip().splitlines() if self.error.exists() else []
        # frames are indented, and a message may have several lines
        begins = [number for number, line in enumerate(lines) if re.match(r"([\w<>]+\.)*[A-Z]\w*(: |$)", line)]
        return " ".join(line.strip() for line in lines[begins[-1] :]) if begins else ""

    def submitted(self, pid: int) -> None:
        """Note the process that will work on this run."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.submission, asdict(Process.of(pid)))


def published_folder(scale: Scale) -> Path:
    """``$VSWIN_RUNS/<scale>/published``: tests of weights that were not trained here."""
    return folders.runs() / scale / "published"


def existing(experiments: Iterable[Experiment]) -> Iterator[RunDirectory]:
    """Every run directory of ``experiments``, by seed."""
    for experiment in experiments:
        folder = folders.runs() / experiment.scale / experiment.recipe.signature
        seeds = sorted(int(path.name.removeprefix("seed-")) for path in folder.glob("seed-*"))
        for seed in seeds:
            yield RunDirectory(experiment.scale, experiment.recipe.signature, seed)


@contextmanager
def locked(path: Path, *, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file ``path``; where another process holds it, call ``on_wait`` once and wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Ownership:
    """An attempt's claim on a run directory. The newest claim wins; the ones before are fenced off.

    Raises AlreadyRunningError while another attempt works on the run.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._token = uuid.uuid4().hex
        with locked(run.path / ".claim.lock"):
            if run.running:
                owner = _read_process(run.attempt)
                assert owner is not None
                raise AlreadyRunningError(f"process {owner.pid} of {owner.host} is working on {run.path}")
            self.number = (json.loads(run.attempt.read_text())["number"] if run.attempt.exists() else 0) + 1
            process = asdict(Process.of(os.getpid()))
            write_json(run.attempt, {"number": self.number, "token": self._token, **process})
            run.error.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise FencedError if a later attempt owns the run."""
        if json.loads(self._run.attempt.read_text())["token"] != self._token:
            raise FencedError(f"a later attempt owns {self._run.path}; this one stops without writing")


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` so that readers see the old file or the new one, never half of it."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def write_text(path: Path, content: str) -> None:
    """Write ``content`` so that readers see the old file or the new one, never half of it."""
    write_bytes(path, content.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` so that readers see the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _read_process(path: Path) -> Process | None:
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    return Process(**{field.name: content[field.name] for field in fields(Process)})
