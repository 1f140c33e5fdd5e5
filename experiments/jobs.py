"""What runs were submitted as, and how their jobs stand: Slurm or process, journal and results put together.

Imports neither submitit nor torch, so that ``status``, ``logs`` and ``cancel`` answer at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from . import slurm
from .runs import Attempt, RunDirectory, State, Submission
from .slurm import Failure, Job, Phase

# A run that machines failed so many times in a row, without a step forward, is left to its user.
FRUITLESS_LIMIT = 3


class Jobs:
    """How the jobs of ``runs`` stood when this was made, from at most one call of squeue and one of sacct."""

    def __init__(self, runs: Iterable[RunDirectory]) -> None:
        self._submissions = {run: found for run in runs if (found := Submission.of(run))}
        self._slurm = slurm.look({found.job for found in self._submissions.values() if found.job})

    def submission(self, run: RunDirectory) -> Submission | None:
        """What ``run`` was last submitted as; None if it never was."""
        return self._submissions.get(run)

    def job(self, run: RunDirectory) -> Job | None:
        """The Slurm job that ``run`` was last submitted to, None if it was none."""
        submission = self._submissions.get(run)
        return self._slurm[submission.job] if submission and submission.job else None

    def state(self, run: RunDirectory, protocols: Collection[str]) -> State:
        """As ``RunDirectory.state``, with what Slurm says taken into account."""
        return run.state(protocols, self.job(run))

    def failure(self, run: RunDirectory) -> Failure | None:
        """Why the last attempt at ``run`` (or its job, before there was any) ended before its time.

        None where it did not, or where nobody knows: it is still at work, was stopped in good order, or is done.
        """
        job = self.job(run)
        if job and job.phase.is_live:
            return None
        attempt = run.last_attempt()
        if run.error.exists():
            return Failure.OWN_ERROR
        if job and (self._submissions[run].unstarted_by(attempt) or (attempt and attempt.job == job.id)):
            return self._of_job(run, job, attempt if attempt and attempt.job == job.id else None)
        if attempt is None or attempt.stopped or run.running:
            return None
        return Failure.KILLED

    def _of_job(self, run: RunDirectory, job: Job, attempt: Attempt | None) -> Failure | None:
        if job.failure is not Failure.OWN_ERROR:
            return job.failure
        # Slurm sees a job that ended with an error; the run has left none of its own
        if attempt:
            lost = Failure.KILLED if attempt.lost_a_rank else Failure.OWN_ERROR
            return None if attempt.stopped else lost
        together = (other for other, found in self._submissions.items() if found.job == job.id and other != run)
        return None if any(other.error.exists() for other in together) else Failure.OWN_ERROR

    def fruitless(self, run: RunDirectory) -> int:
        """How many attempts in a row machines have ended without a step forward, the last one included."""
        attempt, submission = run.last_attempt(), self._submissions.get(run)
        if submission and submission.job and submission.unstarted_by(attempt):
            return submission.unstarted + 1
        return attempt.fruitless_by(run.last_step()) if attempt else 0


__all__ = ["FRUITLESS_LIMIT", "Failure", "Job", "Jobs", "Phase"]
