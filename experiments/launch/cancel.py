"""Ends runs: processes of this machine save and end, Slurm jobs are cancelled."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ..runs import slurm
from ..runs.attempts import Process, is_running
from ..runs.jobs import Jobs, Phase
from ..runs.run import Run
from .plan import Action, Step

# So many numbers fit on any command line.
_AT_ONCE = 500


class Means(StrEnum):
    """The means by which a run is ended."""

    SIGNAL = "SIGTERM"
    SCANCEL = "scancel"
    NONE = "none"


@dataclass(frozen=True)
class Ending:
    """The end of a run: ``target`` is the process or job to end. With ``Means.NONE`` nothing can be done; ``why`` says
    so.
    """

    step: Step
    means: Means
    target: str
    why: str = ""


def endings(steps: Sequence[Step], jobs: Jobs) -> list[Ending]:
    """An ending for each of ``steps`` that runs or waits; the others are left out."""
    found = [_ending(step, jobs) for step in steps]
    return [ending for ending in found if ending]


def _ending(step: Step, jobs: Jobs) -> Ending | None:
    job = jobs.job(step.run)
    if job and job.phase.is_live:
        return Ending(step, Means.SCANCEL, job.id)
    if job and job.phase is Phase.UNKNOWN:
        return Ending(step, Means.NONE, job.id, f"could not ask Slurm: {job.reason}")
    for process in _processes(step.run, jobs):
        if not process.is_here:
            if is_running(step.run.directory):
                return Ending(step, Means.NONE, f"{process.pid}", f"it runs on {process.host}: vswin cancel there")
        elif process.alive:
            return Ending(step, Means.SIGNAL, f"{process.pid}")
    return None


def _processes(run: Run, jobs: Jobs) -> list[Process]:
    """The processes that work on ``run`` or were started to: the attempt itself first, then what was submitted."""
    attempt, submission = jobs.look(run).attempt, jobs.submission(run)
    found = [attempt.process] if attempt and attempt.job is None else []
    if submission and submission.process:
        found.append(submission.process)
    return found


def carry_out(planned: Sequence[Ending]) -> list[Ending]:
    """End what is planned; returns what could not be ended, with the reason: Slurm could not be asked, for one."""
    failed = []
    for ending in planned:
        if ending.means is Means.SIGNAL:
            try:
                os.kill(int(ending.target), signal.SIGTERM)
            except ProcessLookupError:
                # it ended on its own in the meantime
                continue
            except PermissionError as error:
                failed.append(Ending(ending.step, ending.means, ending.target, str(error)))
        elif ending.means is Means.NONE:
            failed.append(ending)
    by_job: dict[str, list[Ending]] = {}
    for ending in planned:
        if ending.means is Means.SCANCEL:
            by_job.setdefault(ending.target, []).append(ending)
    names = list(by_job)
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        try:
            slurm.call("scancel", *some)
        except slurm.SlurmError as error:
            failed += [
                Ending(ending.step, ending.means, ending.target, str(error)) for name in some for ending in by_job[name]
            ]
    return failed


def also_ended(planned: Sequence[Ending], others: Sequence[Step], jobs: Jobs) -> list[Step]:
    """Those of ``others`` that share a Slurm job with what is planned: they end, too."""
    own = {ending.target for ending in planned if ending.means is Means.SCANCEL}
    return [step for step in others if (job := jobs.job(step.run)) and job.phase.is_live and job.id in own]


def dependants(planned: Sequence[Ending], others: Sequence[Step], jobs: Jobs) -> list[Step]:
    """Those of ``others`` that wait in the queue for a run that is cancelled: Slurm ends them, too."""
    ended = {ending.step.run for ending in planned if ending.means is Means.SCANCEL}
    return [
        step
        for step in others
        if not ended.isdisjoint(step.run.upstream)
        and (job := jobs.job(step.run))
        and job.phase.is_live
        and step.action is Action.PENDING
    ]


def local_launchers(planned: Sequence[Ending], jobs: Jobs) -> list[int]:
    """Processes of ``vswin launch`` on this machine that wait for what is planned, and start other runs afterwards."""
    found = set()
    for ending in planned:
        submission = jobs.submission(ending.step.run)
        if ending.means is Means.SIGNAL and submission and submission.process and submission.process.alive:
            parent = _parent(submission.process.pid)
            if parent > 1 and b"launch" in _command(parent):
                found.add(parent)
    return sorted(found)


def stop_launchers(pids: Sequence[int]) -> None:
    """Have them save and end what is under way, as Ctrl-C does, and start no more."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGINT)
        except (ProcessLookupError, PermissionError):
            continue


def _parent(pid: int) -> int:
    """Field 4 of proc_pid_stat(5); 0 where the process is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return b""
