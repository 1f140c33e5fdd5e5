"""Attempts at a run: who owns its directory, what it was submitted as, and which process works on it."""

from __future__ import annotations

import os
import socket
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vswin.errors import ExplainedError

from ..files import locked, naming, read_json, write_json
from . import slurm
from .directory import RunDirectory

# A run on another machine that has written nothing for so long is taken for dead. It is fenced off, so a wrong guess
# costs time and no data.
_SILENT_SECONDS = 900.0
_LIFE_SECONDS = 60.0
_REMEDY = "it holds no result: delete it while nothing works on this run"


class AlreadyRunningError(ExplainedError, RuntimeError):
    """Another process works on this run."""


class FencedError(ExplainedError, RuntimeError):
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
        """True where it was started on this machine; others can only be seen by what they write."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """True while this process of this machine runs."""
        try:
            status, ticks = _status(self.pid)
        except ProcessLookupError:
            return False
        return self.boot == _boot() and ticks == self.ticks and status != "Z"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """The last submission of a run: a process of this machine, or a job of Slurm (``1234`` or ``1234_5``).

    ``at`` is when, in seconds since the epoch; ``log`` what the job prints, ``profile`` where it was sent.
    ``attempts``: the number of the run's last attempt before it, 0 if there was none; None in notes of earlier
    versions. ``unstarted``: how many submissions right before it ended without an attempt. ``gpu``: the one that a
    process of this machine was given, as CUDA_VISIBLE_DEVICES names it. ``refused``: what sbatch said when it did not
    take a later one.
    """

    profile: str
    at: float
    log: str
    process: Process | None = None
    job: str | None = None
    attempts: int | None = None
    unstarted: int = 0
    gpu: str | None = None
    refused: str | None = None

    def unstarted_by(self, attempt: Attempt | None) -> bool:
        """True where the run has not begun since; ``attempt`` is its last one.

        By numbers and jobs: the clocks of two machines are never quite the same.
        """
        if attempt is None:
            return True
        if self.job and attempt.job == self.job:
            return False
        # the times decide only where nothing else is known
        return attempt.began < self.at if self.attempts is None else attempt.number <= self.attempts

    @classmethod
    def of(cls, run: RunDirectory) -> Submission | None:
        """The newest one of ``run``; None if it never was submitted. Raises DamagedError."""
        if not run.submission.exists():
            return None
        content = read_json(run.submission, remedy=_REMEDY)
        with naming(run.submission, remedy=_REMEDY):
            if content["process"]:
                content["process"] = Process(**content["process"])
            return cls(**content)

    def note(self, run: RunDirectory) -> None:
        """Keep this in the directory of ``run``."""
        content = asdict(self)
        for name in ("attempts", "refused"):
            # code that jobs were pinned to earlier knows no such field
            if content[name] is None:
                del content[name]
        write_json(run.submission, content)


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
        """The one that owns ``run``; None if there never was any. Raises DamagedError."""
        if not run.attempt.exists():
            return None
        content = read_json(run.attempt, remedy=_REMEDY)
        with naming(run.attempt, remedy=_REMEDY):
            process = Process(**{name: content.pop(name) for name in ("host", "boot", "pid", "ticks")})
            return cls(process=process, **content)

    def note(self, run: RunDirectory) -> None:
        """Keep this in the directory of ``run``."""
        content = asdict(self)
        process = content.pop("process")
        write_json(run.attempt, {**content, **process})

    def fruitless_by(self, step: int) -> int:
        """Count the attempts up to this one that ended without a step forward, now that the journal is at ``step``."""
        return 0 if self.stopped or step > self.step else self.fruitless + 1

    @property
    def has_ended(self) -> bool:
        """True once it has noted that it ends, after which its process writes nothing more."""
        return self.stopped or self.lost_a_rank

    @property
    def is_over(self) -> bool | None:
        """True where its Slurm job shows that it has ended; None where that cannot be told.

        A survivor on a node that Slurm has given up may still compute. It is over all the same, and fenced off.
        """
        if self.job is None:
            return None
        own = slurm.own_job()
        if own and own[0] == self.job:
            return True if self.restart < own[1] else None
        phase = slurm.look([self.job])[self.job].phase
        return None if phase is slurm.Phase.UNKNOWN else not phase.is_live


def attempts_at(run: RunDirectory) -> int:
    """The number of the last attempt at ``run``, 0 if there never was any. Raises DamagedError."""
    attempt = Attempt.of(run)
    return attempt.number if attempt else 0


def _status(pid: int) -> tuple[str, int]:
    """State letter and start time of a process: fields 3 and 22 of proc_pid_stat(5)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError as error:
        raise ProcessLookupError(f"no process {pid}") from error
    return fields[0], int(fields[19])


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def is_running(run: RunDirectory) -> bool:
    """True while an attempt works on ``run``, as far as can be seen without asking Slurm."""
    attempt = Attempt.of(run)
    return attempt is not None and works_on(run, attempt)


def works_on(run: RunDirectory, attempt: Attempt) -> bool:
    """As ``is_running``, of the ``attempt`` that owns ``run``."""
    if attempt.has_ended:
        return False
    if attempt.process.is_here:
        return attempt.process.alive
    # a process of another machine shows in what it writes only
    written = max(path.stat().st_mtime for path in (run.attempt, run.journal) if path.exists())
    return time.time() - written < _SILENT_SECONDS


class Ownership:
    """An attempt's claim on a run directory. The newest claim wins; the ones before are fenced off.

    Raises AlreadyRunningError while another attempt works on the run.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        with locked(run.path / ".claim.lock"):
            before = Attempt.of(run)
            over = before.is_over if before else None
            if before and not run.error.exists() and (is_running(run) if over is None else not over):
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
