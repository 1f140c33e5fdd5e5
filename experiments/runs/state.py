"""The state of a run, as its directory, this machine's processes and its Slurm job show it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from . import slurm
from .attempts import Attempt, works_on
from .directory import RunDirectory
from .look import Look


class RunState(StrEnum):
    """The state of a run. The plan turns it into an action."""

    NEW = "new"
    UNKNOWN = "unknown"
    PENDING = "pending"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    DAMAGED = "damaged"
    UNTESTED = "untested"
    DONE = "done"


def state_of(
    run: RunDirectory, protocols: Iterable[str], job: slurm.Job | None = None, *, look: Look | None = None
) -> RunState:
    """The state of a run that is to be tested under ``protocols`` (signatures), as far as can be seen from here.

    ``job`` is how the Slurm job stands that it was last submitted to, if any: that goes before what can be seen. A run
    whose job could not be asked about is UNKNOWN, unless a process shows that it works on it.
    ``look``: what was read of its directory already.
    """
    look = look or Look.at(run)
    if not look.exists:
        return RunState.PENDING if job and job.phase.is_live else RunState.NEW
    if all(protocol in look.results for protocol in protocols) and not look.of_results:
        # what lies beside the results of a run that is done decides nothing any more
        return RunState.DONE
    if live := live_state(look, job):
        return live
    if look.damage:
        return RunState.DAMAGED
    if look.has_failed:
        return RunState.FAILED
    if look.results:
        return RunState.UNTESTED
    return RunState.INTERRUPTED if look.attempt else RunState.NEW


def live_state(look: Look, job: slurm.Job | None) -> RunState | None:
    """The state of a run that something works on, or waits to; None if nothing does."""
    attempt = look.attempt
    if job and job.phase.is_live:
        if job.phase is not slurm.Phase.RUNNING or not _is_of(attempt, job):
            return RunState.PENDING
        # several runs may share a job, which goes on with the others
        return RunState.FAILED if look.has_failed else RunState.RUNNING
    known_to_be_over = job and job.phase is slurm.Phase.ENDED and _is_of(attempt, job)
    if attempt and works_on(look.run, attempt) and not known_to_be_over:
        # a process that has failed may still have other things to do
        return RunState.FAILED if look.has_failed else RunState.RUNNING
    if job and job.phase is slurm.Phase.UNKNOWN:
        return RunState.UNKNOWN
    process = look.submission.process if look.submission else None
    if job is None and process and process.is_here and process.alive:
        return RunState.PENDING
    return None


def _is_of(attempt: Attempt | None, job: slurm.Job) -> bool:
    return attempt is not None and attempt.job == job.id
