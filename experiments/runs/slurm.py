"""Slurm's view of jobs: squeue for those in its queue, sacct for those that have left it. No submitit, no torch.

A job is named as submitit and sacct do: ``1234``, or ``1234_5`` for the element 5 of the array 1234.
"""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from vswin.errors import ExplainedError

# A controller that is away must not hold up a look for minutes.
_PATIENCE_SECONDS = 30.0
# What Slurm's commands say when they have no answer of the controller, or none in time.
_UNREACHABLE = (
    "timed out|did not answer|unable to contact|connection refused|connection reset|zero bytes were transmitted|"
    "communication|temporarily unable|in standby mode|no route to host|configuration source"
)
_CUT_SHORT = "squeue stopped in the middle of its answer"
# Variables that change what Slurm's commands answer.
_HABITS = ("SQUEUE_", "SACCT_", "SCANCEL_")
# What else than of the job it is in a shell may know of Slurm.
_NOT_OF_A_JOB = ("SLURM_CONF", "SLURM_JWT", "SLURM_CLUSTERS")


class SlurmError(ExplainedError, RuntimeError):
    """One of Slurm's commands is missing or failed; the message is its own."""


class Phase(StrEnum):
    """Where a job stands. ``REQUEUED`` has run before and waits to run again.

    ``UNKNOWN``: Slurm could not be asked, so it may do anything; never take that for an end.
    """

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

    Of a job that is ``Phase.UNKNOWN`` it is why it could not be asked about.

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

    A job that squeue answers not to know has ended, and sacct says how where it can be asked. What neither can tell for
    certain is ``Phase.UNKNOWN``: squeue did not answer and sacct does not know the job, or the two contradict.
    """
    if not jobs:
        return {}
    queue, queue_error = _asked(_queue, jobs)
    found = {name: job for name, job in (queue or {}).items() if job.phase.is_live}
    missing = set(jobs) - found.keys()
    accounts, accounts_error = _asked(_accounts, missing) if missing else ({}, "")
    for name in missing:
        # squeue knows ended jobs for some minutes
        queued, accounted = (queue or {}).get(name), (accounts or {}).get(name)
        if accounted and (queue is None or not accounted.phase.is_live):
            found[name] = accounted
        elif queued:
            # the accounting may be late
            found[name] = queued
        elif queue is None:
            why = accounts_error or "sacct does not know the job"
            found[name] = Job(id=name, phase=Phase.UNKNOWN, reason=f"{queue_error}; {why}")
        elif accounted:
            why = f"squeue does not know the job, and sacct says that it is {accounted.phase}"
            found[name] = Job(id=name, phase=Phase.UNKNOWN, reason=why)
        else:
            found[name] = Job(id=name, phase=Phase.ENDED)
    return {name: found[name] for name in jobs}


class PatientLook:
    """``look`` for a view that is refreshed often: Slurm is asked at most once every ``seconds``.

    In between, jobs stand as they stood; one that is new is ``Phase.UNKNOWN`` until Slurm is asked again.
    """

    def __init__(self, *, seconds: float = 30.0) -> None:
        self._seconds = seconds
        self._asked_at = -float("inf")
        self._found: dict[str, Job] = {}

    def __call__(self, jobs: Collection[str]) -> dict[str, Job]:
        """As ``look``."""
        wait = self._asked_at + self._seconds - time.monotonic()
        if jobs and wait <= 0:
            self._found = look(jobs)
            self._asked_at = time.monotonic()
        unasked = f"not asked yet, in {max(wait, 0):.0f} s"
        return {name: self._found.get(name, Job(id=name, phase=Phase.UNKNOWN, reason=unasked)) for name in jobs}


def named(name: str, *, since: float) -> str | None:
    """The job or array called ``name`` that this user submitted after ``since`` (seconds since the epoch), if any.

    A job that Slurm refused is none, though it keeps it as FAILED. Raises SlurmError where it cannot be told: squeue
    fails, or does not know the job and sacct fails while there is accounting.
    """
    user = getpass.getuser()
    fields = "ArrayJobID:20,State:20,NodeList:256"
    queued = call("squeue", "--noheader", "--states=all", f"--user={user}", f"--name={name}", f"--Format={fields}")
    for line in queued.splitlines():
        job, state, nodes = (line[start:end].strip() for start, end in ((0, 20), (20, 40), (40, 296)))
        if job and not _was_refused(state, nodes):
            return job
    start = f"--starttime=now-{max(1, round((time.time() - since) / 60) + 5)}minutes"
    try:
        rows = call(
            "sacct", "-nPX", f"--user={user}", f"--name={name}", start, "--format=JobID,State,NodeList"
        ).splitlines()
    except SlurmError as error:
        if "accounting storage is disabled" in str(error):
            return None
        raise
    for row in rows:
        job, state, nodes = row.split("|")
        if not _was_refused(state, nodes):
            return job.split("_")[0]
    return None


def _was_refused(state: str, nodes: str) -> bool:
    # it never had a node: sbatch failed, and told why
    return state == "FAILED" and not _known(nodes)


@dataclass(frozen=True, kw_only=True)
class Queued:
    """A live job in the queue, by whatever ``name`` it was submitted; ``folder`` is where it works."""

    id: str
    name: str
    state: str
    folder: str


def queue(prefix: str) -> list[Queued]:
    """The live jobs of this user whose names begin with ``prefix``; raises SlurmError."""
    widths = {"JobArrayID": 64, "Name": 256, "State": 32, "WorkDir": 1024}
    layout = ",".join(f"{name}:{width}" for name, width in widths.items())
    answer = call("squeue", "--noheader", "--array", f"--user={getpass.getuser()}", f"--Format={layout}")
    found = []
    for line in answer.splitlines():
        if len(line) != sum(widths.values()):
            raise SlurmError(_CUT_SHORT)
        columns, start = [], 0
        for width in widths.values():
            columns.append(line[start : start + width].strip())
            start += width
        job = Queued(id=columns[0], name=columns[1], state=columns[2].lower(), folder=columns[3])
        if job.name.startswith(prefix):
            found.append(job)
    return found


def is_held(job: str) -> bool:
    """True where elements of ``job`` wait until their user releases them; raises SlurmError."""
    try:
        return "JobHeldUser" in call("squeue", "--noheader", "--array", f"--jobs={job}", "--format=%r")
    except SlurmError as error:
        if "Invalid job id" in str(error):
            return False
        raise


def is_unreachable(message: str) -> bool:
    """True where ``message`` of one of Slurm's commands says that it got no answer: anything may have happened."""
    return re.search(_UNREACHABLE, message, re.IGNORECASE) is not None


def config(name: str) -> str | None:
    """A setting of the cluster, as ``scontrol show config`` prints it."""
    found = re.search(rf"^{name}\s*= (.*)$", call("scontrol", "show", "config"), re.MULTILINE)
    return found[1].strip() if found else None


def call(*command: str) -> str:
    """The output of one of Slurm's commands; raises SlurmError."""
    answer = _run(*command)
    if answer.returncode:
        raise SlurmError(f"{command[0]} failed: {answer.stderr.strip() or answer.stdout.strip()}")
    return answer.stdout


def _run(*command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    # people narrow down their own squeue (SQUEUE_PARTITION): what they do not want to see is here all the same
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_HABITS)}
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, timeout=_PATIENCE_SECONDS, env=environment
        )
    except FileNotFoundError as error:
        raise SlurmError(f"no {command[0]} on this machine: launch where Slurm's commands are") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{command[0]} did not answer within {_PATIENCE_SECONDS:.0f} s") from error


@dataclass(frozen=True, kw_only=True)
class SbatchAnswer:
    """Slurm's word on a script that was not submitted: when its job would start, or the reason why it is refused.

    ``start`` is in local time, ``2026-12-01T04:41:09``; empty where Slurm does not say.
    """

    start: str = ""
    refusal: str = ""


def is_submit_limit(message: str) -> bool:
    """True where ``message`` of sbatch says that this many jobs may not be submitted at a time.

    Slurm names the limit (``AssocMaxSubmitJobLimit``); old ones name a few that it may be.
    """
    return "SubmitJob" in message or "job submit limit" in message


def verdict(script: str) -> SbatchAnswer:
    """Slurm's word on ``script``: ``sbatch --test-only``. Raises SlurmError where there is none."""
    with outside_own_job():
        answer = _run("sbatch", "--test-only", text=script)
    said = " ".join(f"{answer.stdout} {answer.stderr}".replace("sbatch: error: ", "").split())
    if answer.returncode == 0:
        start = re.search(r"to start at (\S+)", said)
        return SbatchAnswer(start=start[1] if start else "")
    if is_unreachable(said):
        raise SlurmError(f"sbatch failed: {said}")
    return SbatchAnswer(refusal=said.replace("allocation failure: ", ""))


def longest_minutes(partition: str | None) -> int | None:
    """The time limit of ``partition`` (default: the cluster's; of several, the longest), None where there is none.

    Many clusters accept a job that is longer and never start it. Raises SlurmError.
    """
    wanted = partition.split(",") if partition else None
    limits = []
    for line in call("scontrol", "--oneliner", "show", "partition").splitlines():
        fields = dict(word.partition("=")[::2] for word in line.split())
        if fields.get("PartitionName") in wanted if wanted else fields.get("Default") == "YES":
            limits.append(_minutes(fields.get("MaxTime", "UNLIMITED")))
    return None if not limits or None in limits else max(limit for limit in limits if limit is not None)


def _minutes(limit: str) -> int | None:
    """``1-00:00:00`` in minutes; None for UNLIMITED."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", limit)
    return 60 * (24 * int(match[1] or 0) + int(match[2])) + int(match[3]) if match else None


# ------------------------------------------------------------------------------------------------ reading answers

# Of every column of squeue, in characters.
_WIDTH = 256
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


def _asked(
    ask: Callable[[Collection[str]], dict[str, Job]], jobs: Collection[str]
) -> tuple[dict[str, Job] | None, str]:
    """The answer, or None and why there is none."""
    try:
        return ask(jobs), ""
    except SlurmError as error:
        return None, str(error)


def _queue(jobs: Collection[str]) -> dict[str, Job]:
    """The jobs that squeue knows; raises SlurmError where it cannot be asked, or stops in the middle of a line."""
    layout = ",".join(f"{field}:{_WIDTH}" for field in _QUEUE_FIELDS)
    try:
        answer = call(
            "squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(_arrays(jobs))}", f"--Format={layout}"
        )
    except SlurmError as error:
        # asked for a single job, squeue fails where it does not know it
        if "Invalid job id" in str(error):
            return {}
        raise
    found = {}
    for line in answer.splitlines():
        if len(line) != _WIDTH * len(_QUEUE_FIELDS):
            raise SlurmError(_CUT_SHORT)
        row = [line[start : start + _WIDTH].strip() for start in range(0, len(line), _WIDTH)]
        job = queue_row(*row)
        found[job.id] = job
    return found


def queue_row(name: str, state: str, reason: str, restarts: str, exit_code: str, derived: str, nodes: str = "") -> Job:
    """One line of squeue; exit codes are what wait(2) gives."""
    codes = [f"{int(code) >> 8}:{int(code) & 127}" if code.isdigit() else "0:0" for code in (exit_code, derived)]
    return _job(name, state, reason=reason, codes=codes, nodes=nodes, restarts=int(restarts or 0))


def _accounts(jobs: Collection[str]) -> dict[str, Job]:
    """The jobs that sacct remembers; raises SlurmError where it cannot be asked, or stops in the middle of a line."""
    answer = call("sacct", "-nPX", f"--jobs={','.join(_arrays(jobs))}", f"--format={','.join(_ACCOUNT_FIELDS)}")
    if answer and not answer.endswith("\n"):
        raise SlurmError("sacct stopped in the middle of its answer")
    return {job.id: job for line in answer.splitlines() for job in account_row(line)}


def account_row(line: str) -> list[Job]:
    """One line of sacct: a job, or elements of an array that were not started, ``7_[1-3,5%2]``."""
    try:
        name, state, exit_code, derived, nodes = line.split("|")
    except ValueError as error:
        raise SlurmError(f"sacct: expected {len(_ACCOUNT_FIELDS)} columns, got {line!r}") from error
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
