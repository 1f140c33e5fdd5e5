"""The state of a run, as its directory, this machine's processes and its Slurm job show it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from . import slurm
from .attempts import Attempt, Submission, is_running
from .directory import RunDirectory


class RunState(StrEnum):
    """The state of a run. The plan turns it into an action."""

    NEW = "new"
    PENDING = "pending"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    DAMAGED = "damaged"
    UNTESTED = "untested"
    DONE = "done"


def state_of(run: RunDirectory, protocols: Iterable[str], job: slurm.Job | None = None) -> RunState:
    """The state of a run that is to be tested under ``protocols`` (signatures), as far as can be seen from here.

    ``job`` is how the Slurm job stands that it was last submitted to, if any: that goes before what can be seen.
    """
    if all(run.result(protocol).exists() for protocol in protocols):
        return RunState.DONE
    attempt = Attempt.of(run)
    if job and job.phase.is_live:
        if job.phase is not slurm.Phase.RUNNING or not _is_of(attempt, job):
            return RunState.PENDING
        # several runs may share a job, which goes on with the others
        return RunState.FAILED if run.error.exists() else RunState.RUNNING
    known_to_be_over = job and job.phase is slurm.Phase.ENDED and _is_of(attempt, job)
    if is_running(run) and not known_to_be_over:
        # a process that has failed may still have other things to do
        return RunState.FAILED if run.error.exists() else RunState.RUNNING
    if job is None and _submitted_process_lives(run):
        return RunState.PENDING
    if run.error.exists():
        return RunState.FAILED
    if run.results():
        return RunState.UNTESTED
    return RunState.INTERRUPTED if attempt else RunState.NEW


def _is_of(attempt: Attempt | None, job: slurm.Job) -> bool:
    return attempt is not None and attempt.job == job.id


def _submitted_process_lives(run: RunDirectory) -> bool:
    submission = Submission.of(run)
    return bool(submission and submission.process and submission.process.is_here and submission.process.alive)
