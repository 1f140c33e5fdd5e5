"""The directory of a run: what lies in it, who owns it, and what can be seen of its state."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from . import folders, journal, slurm
from .journal import Entry
from .recipe import Scale
from .registry import Experiment

# A run on another machine that has written nothing for so long is taken for dead. It is fenced off, so a wrong guess
# costs time and no data.
_SILENT_SECONDS = 900.0
_LIFE_SECONDS = 60.0


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


class NoLocksError(RuntimeError):
    """The file system cannot keep two processes apart."""


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


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What a run was last submitted as: a process of this machine, or a job of Slurm (``1234`` or ``1234_5``).

    ``at`` is when, in seconds since the epoch; ``log`` what the job prints, ``profile`` where it was sent.
    ``unstarted``: how many submissions right before it ended without an attempt. ``gpu``: the one that a process of
    this machine was given, as CUDA_VISIBLE_DEVICES names it.
    """

    profile: str
    at: float
    log: str
    process: Process | None = None
    job: str | None = None
    unstarted: int = 0
    gpu: str | None = None

    def unstarted_by(self, attempt: Attempt | None) -> bool:
        """Whether the run has not begun since, where ``attempt`` is its last one."""
        return attempt is None or attempt.before(self)

    @classmethod
    def of(cls, run: RunDirectory) -> Submission | None:
        """The newest one of ``run``; None if it never was submitted."""
        if not run.submission.exists():
            return None
        content = json.loads(run.submission.read_text())
        if content["process"]:
            content["process"] = Process(**content["process"])
        return cls(**content)

    def note(self, run: RunDirectory) -> None:
        """Keep this in the directory of ``run``."""
        write_json(run.submission, asdict(self))


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One start of a run by a process, and by the ``restart``-th start of a Slurm ``job`` if it belongs to one.

    ``number`` counts from 1, ``token`` is what fences it off. ``step`` is what the journal had when it began, and
    ``fruitless`` how many attempts right before it ended without going further. ``stopped``: it saved and ended
    because it was asked to. ``lost_a_rank``: another of its processes was gone.
    """

    number: int
    token: str
    process: Process
    began: float = 0.0
    step: int = 0
    fruitless: int = 0
    job: str | None = None
    restart: int = 0
    stopped: bool = False
    lost_a_rank: bool = False

    @classmethod
    def of(cls, run: RunDirectory) -> Attempt | None:
        """The one that owns ``run``; None if there never was any."""
        if not run.attempt.exists():
            return None
        content = json.loads(run.attempt.read_text())
        process = Process(**{name: content.pop(name) for name in ("host", "boot", "pid", "ticks")})
        return cls(process=process, **content)

    def note(self, run: RunDirectory) -> None:
        """Keep this in the directory of ``run``."""
        content = asdict(self)
        process = content.pop("process")
        write_json(run.attempt, {**content, **process})

    def before(self, submission: Submission) -> bool:
        """Whether it began before ``submission``, and so is none of its own."""
        return self.began < submission.at

    def fruitless_by(self, step: int) -> int:
        """How many attempts up to this one have ended without going further, now that the journal is at ``step``."""
        return 0 if self.stopped or step > self.step else self.fruitless + 1

    @property
    def has_ended(self) -> bool:
        """Whether it noted that it ends, after which its process writes nothing more."""
        return self.stopped or self.lost_a_rank

    @property
    def is_over(self) -> bool | None:
        """Whether its Slurm job shows that it has ended; None where that cannot be told.

        A survivor on a node that Slurm has given up may still compute. It is over all the same, and fenced off.
        """
        if self.job is None:
            return None
        own = slurm.own_job()
        if own and own[0] == self.job:
            return True if self.restart < own[1] else None
        phase = slurm.look([self.job])[self.job].phase
        return None if phase is slurm.Phase.UNKNOWN else not phase.is_live


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
        """The fingerprints of the videos it is trained on and of the weights it starts from."""
        return self.path / "data.json"

    @property
    def machine(self) -> Path:
        """What the last bits of the newest attempt's results depend on."""
        return self.path / "machine.json"

    @property
    def code(self) -> Path:
        """Commit of the newest attempt's code, and whether the tree was dirty."""
        return self.path / "code.json"

    @property
    def environment(self) -> Path:
        """Every installed distribution with its version, a line each."""
        return self.path / "environment.txt"

    @property
    def datasets(self) -> Path:
        """The manifest of every split that is read."""
        return self.path / "datasets.json"

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

    def set_aside(self) -> Path:
        """Make room for the same run anew, and return where everything of this one lies now."""
        aside = self.path.with_name(f"replaced-{self.path.name}-{time.strftime('%Y%m%d-%H%M%S')}")
        self.path.rename(aside)
        return aside

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
        """What this run was last submitted as, a ``Submission``."""
        return self.path / "submission.json"

    @property
    def attempt(self) -> Path:
        """The ``Attempt`` that owns this directory."""
        return self.path / "attempt.json"

    @property
    def code_diff(self) -> Path:
        """What the code of the last attempt with uncommitted changes had that its commit has not."""
        return self.path / "code.diff"

    def state(self, protocols: Iterable[str], job: slurm.Job | None = None) -> State:
        """How a run stands that is to be tested under ``protocols`` (signatures), as far as can be seen from here.

        ``job`` is how the Slurm job stands that it was last submitted to, if any: that goes before what can be seen.
        """
        if all(self.result(protocol).exists() for protocol in protocols):
            return State.DONE
        attempt = Attempt.of(self)
        if job and job.phase.is_live:
            if job.phase is not slurm.Phase.RUNNING or not self._is_of(attempt, job):
                return State.PENDING
            # several runs may share a job, which goes on with the others
            return State.FAILED if self.error.exists() else State.RUNNING
        known_to_be_over = job and job.phase is slurm.Phase.ENDED and self._is_of(attempt, job)
        if self.running and not known_to_be_over:
            # a process that has failed may still have other things to do
            return State.FAILED if self.error.exists() else State.RUNNING
        if job is None and self._submitted_process_lives():
            return State.PENDING
        if self.error.exists():
            return State.FAILED
        if self.results():
            return State.UNTESTED
        return State.INTERRUPTED if self.attempt.exists() else State.NEW

    @staticmethod
    def _is_of(attempt: Attempt | None, job: slurm.Job) -> bool:
        return attempt is not None and attempt.job == job.id

    def _submitted_process_lives(self) -> bool:
        submission = Submission.of(self)
        return bool(submission and submission.process and submission.process.is_here and submission.process.alive)

    @property
    def running(self) -> bool:
        """Whether an attempt is at work here, as far as can be seen without asking Slurm."""
        attempt = Attempt.of(self)
        if attempt is None or attempt.has_ended:
            return False
        if attempt.process.is_here:
            return attempt.process.alive
        # a process of another machine shows in what it writes only
        written = max(path.stat().st_mtime for path in (self.attempt, self.journal) if path.exists())
        return time.time() - written < _SILENT_SECONDS

    def last_attempt(self) -> Attempt | None:
        """The attempt that owns this directory; None if there never was any."""
        return Attempt.of(self)

    def last_step(self) -> int:
        """The last step in the journal, 0 if none."""
        last = self.last_entry()
        return last.step if last else 0

    def last_entry(self) -> Entry | None:
        """The last line of the journal, which has its highest step; None if there is none."""
        return journal.last(self.journal)

    def last_error(self) -> str:
        """The exception of the last failed attempt with its whole message in one line, empty if none."""
        lines = self.error.read_text().strip().splitlines() if self.error.exists() else []
        # frames are indented, and a message may have several lines
        begins = [number for number, line in enumerate(lines) if re.match(r"([\w<>]+\.)*[A-Z]\w*(: |$)", line)]
        return " ".join(line.strip() for line in lines[begins[-1] :]) if begins else ""


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
    """Hold the lock file ``path``; where another process holds it, call ``on_wait`` once and wait.

    Raises NoLocksError where the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                raise
            raise NoLocksError(
                f"{path}: this file system has no locks, as a Lustre that is mounted without flock; set $VSWIN_RUNS to "
                "a folder on another"
            ) from error
        yield


class Ownership:
    """An attempt's claim on a run directory. The newest claim wins; the ones before are fenced off.

    Raises AlreadyRunningError while another attempt works on the run.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        with locked(run.path / ".claim.lock"):
            before = Attempt.of(run)
            if before and not run.error.exists() and (run.running if (over := before.is_over) is None else not over):
                owner = before.process
                raise AlreadyRunningError(f"process {owner.pid} of {owner.host} is working on {run.path}")
            step = run.last_step()
            job, restart = slurm.own_job() or (None, 0)
            self._attempt = Attempt(
                number=before.number + 1 if before else 1,
                token=uuid.uuid4().hex,
                process=Process.of(os.getpid()),
                began=time.time(),
                step=step,
                fruitless=before.fruitless_by(step) if before else 0,
                job=job,
                restart=restart,
            )
            self._attempt.note(run)
            self._shown_at = time.monotonic()
            run.error.unlink(missing_ok=True)

    @property
    def number(self) -> int:
        """Which attempt this is, counting from 1."""
        return self._attempt.number

    def check(self) -> None:
        """Raise FencedError if a later attempt owns the run."""
        newest = Attempt.of(self._run)
        if newest is None or newest.token != self._attempt.token:
            raise FencedError(f"a later attempt owns {self._run.path}; this one stops without writing")

    def show_life(self) -> None:
        """Have processes of other machines see, once in a while, that this attempt is at work."""
        if time.monotonic() - self._shown_at >= _LIFE_SECONDS:
            # not made anew where the run was moved aside: its next attempt could not read an empty file
            with suppress(FileNotFoundError):
                os.utime(self._run.attempt)
            self._shown_at = time.monotonic()

    def stopped(self) -> None:
        """Note that this attempt has saved and ends, because it was asked to."""
        self._note(replace(self._attempt, stopped=True))

    def lost_a_rank(self) -> None:
        """Note that this attempt ends because another of its processes is gone: no fault of the run."""
        self._note(replace(self._attempt, lost_a_rank=True))

    def _note(self, attempt: Attempt) -> None:
        with locked(self._run.path / ".claim.lock"):
            self.check()
            attempt.note(self._run)
        self._attempt = attempt


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
