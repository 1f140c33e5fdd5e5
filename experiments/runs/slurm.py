"""Slurm's view of jobs: squeue for those in its queue, sacct for those that have left it. No submitit, no torch.

A job is named as submitit and sacct do: ``1234``, or ``1234_5`` for the element 5 of the array 1234.
"""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from vswin.errors import ExplainedError

# A controller that is away must not hold up a look for minutes.
_PATIENCE_SECONDS = 30.0
# Variables that change what Slurm's commands answer.
_HABITS = ("SQUEUE_", "SACCT_", "SCANCEL_")
# What else than of the job it is in a shell may know of Slurm.
_NOT_OF_A_JOB = ("SLURM_CONF", "SLURM_JWT", "SLURM_CLUSTERS")


class SlurmError(ExplainedError, RuntimeError):
    """One of Slurm's commands is missing or failed; the message is its own."""


class Phase(StrEnum):
    """Where a job stands. ``REQUEUED`` has run before and waits to run again; ``UNKNOWN`` could not be asked."""

    PENDING = "pending"
    REQUEUED = "requeued"
    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"

    @property
    def is_live(self) -> bool:
        """True while the job may still do something."""
        return self in (Phase.PENDING, Phase.REQUEUED, Phase.RUNNING)


class Failure(StrEnum):
    """The reason why a job ended before its work was done."""

    PREEMPTED = "preempted"
    TIME_LIMIT = "time limit"
    NODE_FAILURE = "node failure"
    OUT_OF_MEMORY = "out of memory"
    KILLED = "killed"
    OWN_ERROR = "own error"
    DEPENDENCY = "dependency never satisfied"
    CANCELLED = "cancelled"

    @property
    def is_of_the_machine(self) -> bool:
        """True where the same run may well succeed on a retry."""
        return self not in (Failure.OWN_ERROR, Failure.DEPENDENCY, Failure.CANCELLED)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as last seen. ``reason`` is Slurm's own word: why it waits (``Priority``), or how it ended (``TIMEOUT``).

    ``failure`` is None while it is live, where it completed, and where nobody remembers how it ended.
    """

    id: str
    phase: Phase
    failure: Failure | None = None
    reason: str = ""
    nodes: str = ""
    restarts: int = 0


def own_job() -> tuple[str, int] | None:
    """The job that this process belongs to and how often it was started again before; None outside Slurm's jobs."""
    if "SLURM_JOB_ID" not in os.environ:
        return None
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    name = f"{array}_{index}" if array and index else os.environ["SLURM_JOB_ID"]
    return name, int(os.environ.get("SLURM_RESTART_COUNT", 0))


def own_job_goes_on() -> bool:
    """True where this process's job is neither cancelled nor at its time limit: a stop now is a preemption."""
    own = own_job()
    if own is None:
        return False
    try:
        # not by SLURM_JOB_ID: that of the last element of an array is the number of the whole array
        return call("squeue", "--noheader", f"--jobs={own[0]}", "--format=%T").split() == ["RUNNING"]
    except SlurmError:
        return False


@contextmanager
def outside_own_job() -> Iterator[None]:
    """Inside, the environment does not tell of the job this process belongs to, as in ``srun --pty bash``.

    sbatch would hand it on: the cores and memory of that job would be asked for in another.
    """
    kept = dict(os.environ)
    for name in kept if "SLURM_JOB_ID" in kept else ():
        if name.startswith(("SLURM_", "SLURMD_", "SRUN_")) and name not in _NOT_OF_A_JOB:
            del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(kept)


def look(jobs: Collection[str]) -> dict[str, Job]:
    """Look up each of ``jobs``, by one call of squeue and at most one of sacct.

    Jobs that squeue does not know and sacct cannot be asked about have ended, nobody knows how. Without squeue and
    sacct all are ``Phase.UNKNOWN``.
    """
    if not jobs:
        return {}
    queue = _queue(jobs)
    found = {name: job for name, job in (queue or {}).items() if job.phase.is_live}
    missing = set(jobs) - found.keys()
    remembered = _accounts(missing) if missing else {}
    for name in missing:
        if name in remembered:
            found[name] = remembered[name]
        elif queue is not None:
            # squeue knows ended jobs for some minutes
            found[name] = queue.get(name, Job(id=name, phase=Phase.ENDED))
        else:
            found[name] = Job(id=name, phase=Phase.UNKNOWN)
    return {name: found[name] for name in jobs}


def named(name: str, *, since: float) -> str | None:
    """The job or array called ``name`` that this user submitted after ``since`` (seconds since the epoch), if any."""
    user = getpass.getuser()
    queued = call("squeue", "--noheader", "--states=all", f"--user={user}", f"--name={name}", "--Format=ArrayJobID:20")
    if queued.split():
        return queued.split()[0]
    try:
        start = f"--starttime=now-{max(1, round((time.time() - since) / 60) + 5)}minutes"
        rows = call("sacct", "-nPX", f"--user={user}", f"--name={name}", start, "--format=JobID")
    except SlurmError:
        return None
    return rows.split("_")[0].split()[0] if rows.split() else None


def config(name: str) -> str | None:
    """A setting of the cluster, as ``scontrol show config`` prints it."""
    found = re.search(rf"^{name}\s*= (.*)$", call("scontrol", "show", "config"), re.MULTILINE)
    return found[1].strip() if found else None


def call(*command: str) -> str:
    """The output of one of Slurm's commands; raises SlurmError."""
    # people narrow down their own squeue (SQUEUE_PARTITION): what they do not want to see is here all the same
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_HABITS)}
    try:
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_SECONDS,
            env=environment,
        )
    except FileNotFoundError as error:
        raise SlurmError(f"no {command[0]} on this machine: launch where Slurm's commands are") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{command[0]} did not answer within {_PATIENCE_SECONDS:.0f} s") from error
    if answer.returncode:
        raise SlurmError(f"{command[0]} failed: {answer.stderr.strip() or answer.stdout.strip()}")
    return answer.stdout


# ------------------------------------------------------------------------------------------------ reading answers

_QUEUE_FIELDS = ("JobArrayID", "State", "Reason", "RestartCnt", "exit_code", "DerivedEC", "NodeList")
_ACCOUNT_FIELDS = ("JobID", "State", "ExitCode", "DerivedExitCode", "NodeList")
# States of a job that has run and waits to run again, or is about to.
_AGAIN = ("REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")
_AT_WORK = ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "STAGE_OUT", "SIGNALING", "RESIZING")
_FAILURES: Mapping[str, Failure] = {
    "PREEMPTED": Failure.PREEMPTED,
    "TIMEOUT": Failure.TIME_LIMIT,
    "DEADLINE": Failure.TIME_LIMIT,
    "NODE_FAIL": Failure.NODE_FAILURE,
    "BOOT_FAIL": Failure.NODE_FAILURE,
    "OUT_OF_MEMORY": Failure.OUT_OF_MEMORY,
    "CANCELLED": Failure.CANCELLED,
    "REVOKED": Failure.CANCELLED,
}
# What the kernel's out-of-memory killer leaves as an exit code in Slurm.
_OOM_SIGNAL = 125


def _queue(jobs: Collection[str]) -> dict[str, Job] | None:
    """The jobs that squeue knows; None where it cannot be asked."""
    layout = ",".join(f"{field}:256" for field in _QUEUE_FIELDS)
    try:
        answer = call(
            "squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(_arrays(jobs))}", f"--Format={layout}"
        )
    except SlurmError as error:
        # asked for a single job, squeue fails where it does not know it
        return {} if "Invalid job id" in str(error) else None
    rows = ([line[start : start + 256].strip() for start in range(0, len(line), 256)] for line in answer.splitlines())
    return {job.id: job for job in (queue_row(*row[: len(_QUEUE_FIELDS)]) for row in rows if row)}


def queue_row(name: str, state: str, reason: str, restarts: str, exit_code: str, derived: str, nodes: str = "") -> Job:
    """One line of squeue; exit codes are what wait(2) gives."""
    codes = [f"{int(code) >> 8}:{int(code) & 127}" if code.isdigit() else "0:0" for code in (exit_code, derived)]
    return _job(name, state, reason=reason, codes=codes, nodes=nodes, restarts=int(restarts or 0))


def _accounts(jobs: Collection[str]) -> dict[str, Job]:
    """The jobs that sacct remembers; none where it cannot be asked."""
    try:
        answer = call("sacct", "-nPX", f"--jobs={','.join(_arrays(jobs))}", f"--format={','.join(_ACCOUNT_FIELDS)}")
    except SlurmError:
        return {}
    return {job.id: job for line in answer.splitlines() for job in account_row(line)}


def account_row(line: str) -> list[Job]:
    """One line of sacct: a job, or elements of an array that were not started, ``7_[1-3,5%2]``."""
    name, state, exit_code, derived, nodes = line.split("|")
    return [_job(one, state, reason="", codes=[exit_code, derived], nodes=nodes) for one in expand(name)]


def expand(name: str) -> list[str]:
    """The jobs that ``7_[1-3,5%2]`` stands for."""
    array, _, elements = name.partition("_")
    if not elements.startswith("["):
        return [name]
    ranges = re.findall(r"(\d+)(?:-(\d+))?", elements.partition("%")[0])
    return [f"{array}_{index}" for first, last in ranges for index in range(int(first), int(last or first) + 1)]


def _job(name: str, state: str, *, reason: str, codes: list[str], nodes: str, restarts: int = 0) -> Job:
    # "CANCELLED by 1000"
    state = state.split()[0]
    phase: Phase = Phase.ENDED
    failure: Failure | None = None
    if state == "PENDING" and reason == "DependencyNeverSatisfied":
        phase, failure = Phase.ENDED, Failure.DEPENDENCY
    elif state == "PENDING":
        phase = Phase.REQUEUED if restarts else Phase.PENDING
    elif state in _AGAIN:
        phase = Phase.REQUEUED
    elif state in _AT_WORK:
        phase = Phase.RUNNING
    elif state in _FAILURES:
        failure = _FAILURES[state]
    elif state != "COMPLETED":
        failure = _how_it_failed(codes)
    shown = "" if reason == "None" or state == "RUNNING" else reason
    told = state if phase is Phase.ENDED and failure is not Failure.DEPENDENCY else shown
    return Job(id=name, phase=phase, failure=failure, reason=told, nodes=_known(nodes), restarts=restarts)


def _how_it_failed(codes: list[str]) -> Failure:
    """From exit codes ``status:signal`` of the job and of the worst of its steps."""
    (status, number), (_, derived) = ([int(part) for part in code.split(":")] for code in codes)
    if _OOM_SIGNAL in (number, derived):
        return Failure.OUT_OF_MEMORY
    # srun and shells say 128 + 9 of a process that SIGKILL ended, and Slurm itself 9
    return Failure.KILLED if status in (9, 137) or number == 9 or derived == 9 else Failure.OWN_ERROR


def _arrays(jobs: Collection[str]) -> list[str]:
    return sorted({name.partition("_")[0] for name in jobs})


def _known(nodes: str) -> str:
    return "" if nodes in ("None assigned", "(null)") else nodes
