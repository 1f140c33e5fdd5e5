"""The jobs of runs: Slurm or process, journal and results put together.

Imports neither submitit nor torch, so that ``status``, ``logs`` and ``cancel`` answer at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..files import Damage
from . import slurm
from .attempts import Attempt, Submission, is_running
from .run import Run
from .slurm import Failure, Job, Phase
from .state import RunState

# A run that machines failed so many times in a row, without a step forward, is left to its user.
FRUITLESS_LIMIT = 3


class Jobs:
    """A snapshot of the jobs of ``runs``, from at most one call of squeue and one of sacct."""

    def __init__(self, runs: Iterable[Run]) -> None:
        runs = list(runs)
        # nothing is known of the jobs of a run whose notes cannot be read
        self._damages = {run: damage for run in runs if (damage := run.damage())}
        intact = [run for run in runs if run not in self._damages]
        self._submissions = {run: found for run in intact if (found := Submission.of(run.directory))}
        self._slurm = slurm.look({found.job for found in self._submissions.values() if found.job})

    def submission(self, run: Run) -> Submission | None:
        """The last submission of ``run``; None if there was none."""
        return self._submissions.get(run)

    def job(self, run: Run) -> Job | None:
        """The Slurm job that ``run`` was last submitted to, None if it was none."""
        submission = self._submissions.get(run)
        return self._slurm[submission.job] if submission and submission.job else None

    def state(self, run: Run) -> RunState:
        """As ``Run.state``, with what Slurm says taken into account."""
        return run.state(self.job(run))

    def damage(self, run: Run) -> Damage | None:
        """The damage to the notes of ``run``; None if all can be read."""
        return self._damages.get(run)

    def failure(self, run: Run) -> Failure | None:
        """The reason why the last attempt at ``run`` (or its job, before there was any) ended too soon.

        None where it did not, or where nobody knows: it is still at work, was stopped in good order, or is done.
        """
        job = self.job(run)
        if run in self._damages or (job and job.phase.is_live):
            return None
        attempt = run.last_attempt()
        if run.directory.error.exists():
            return Failure.OWN_ERROR
        if job and (self._submissions[run].unstarted_by(attempt) or (attempt and attempt.job == job.id)):
            return self._of_job(run, job, attempt if attempt and attempt.job == job.id else None)
        if attempt is None or attempt.stopped or is_running(run.directory):
            return None
        return Failure.KILLED

    def _of_job(self, run: Run, job: Job, attempt: Attempt | None) -> Failure | None:
        if job.failure is not Failure.OWN_ERROR:
            return job.failure
        # Slurm sees a job that ended with an error; the run has left none of its own
        if attempt:
            lost = Failure.KILLED if attempt.lost_a_rank else Failure.OWN_ERROR
            return None if attempt.stopped else lost
        together = (other for other, found in self._submissions.items() if found.job == job.id and other != run)
        return None if any(other.directory.error.exists() for other in together) else Failure.OWN_ERROR

    def fruitless(self, run: Run) -> int:
        """Count the attempts in a row that machines ended without a step forward, the last one included."""
        attempt, submission = run.last_attempt(), self._submissions.get(run)
        if submission and submission.job and submission.unstarted_by(attempt):
            return submission.unstarted + 1
        return attempt.fruitless_by(run.last_step()) if attempt else 0


__all__ = ["FRUITLESS_LIMIT", "Failure", "Job", "Jobs", "Phase"]
