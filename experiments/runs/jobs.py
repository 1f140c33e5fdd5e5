"""The jobs of runs: Slurm or process, journal and results put together.

Imports neither submitit nor torch, so that ``status``, ``logs`` and ``cancel`` answer at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from ..files import Damage
from . import slurm
from .attempts import Attempt, Submission, works_on
from .look import Look
from .run import Run
from .slurm import Failure, Job, Phase
from .state import RunState

# A run that machines failed so many times in a row, without a step forward, is left to its user.
FRUITLESS_LIMIT = 3


class Jobs:
    """A snapshot of ``runs`` and their jobs: one look at each directory, at most one call of squeue and of sacct.

    ``ask`` asks Slurm; it is not asked about runs that are done.
    """

    def __init__(self, runs: Iterable[Run], *, ask: Callable[[Collection[str]], dict[str, Job]] = slurm.look) -> None:
        self._looks = {run: run.look() for run in runs}
        self._submissions = {run: look.submission for run, look in self._looks.items() if look.submission}
        undone = (
            found for run, found in self._submissions.items() if run.state(look=self._looks[run]) is not RunState.DONE
        )
        self._slurm = ask({found.job for found in undone if found.job})

    def look(self, run: Run) -> Look:
        """A look into the directory of ``run``: that of the snapshot, or a new one for a run that is not in it."""
        return self._looks.get(run) or run.look()

    def submission(self, run: Run) -> Submission | None:
        """The last submission of ``run``; None if there was none."""
        return self._submissions.get(run)

    def job(self, run: Run) -> Job | None:
        """The Slurm job that ``run`` was last submitted to; None if it was none, or where the run is done."""
        submission = self._submissions.get(run)
        return self._slurm.get(submission.job) if submission and submission.job else None

    def state(self, run: Run) -> RunState:
        """As ``Run.state``, with what Slurm says taken into account."""
        return run.state(self.job(run), look=self.look(run))

    def note(self, run: Run) -> str:
        """The reason why a job of ``run`` could not be asked about, or was refused; empty if neither."""
        job, submission = self.job(run), self._submissions.get(run)
        if job and job.phase is Phase.UNKNOWN:
            return f"could not ask Slurm: {job.reason}"
        if submission and submission.refused and not (job and job.phase.is_live):
            return f"Slurm refused it: {submission.refused}"
        return ""

    def damage(self, run: Run) -> Damage | None:
        """The first damage to the notes of ``run``; None if all can be read."""
        return self.look(run).damage

    def failure(self, run: Run) -> Failure | None:
        """The reason why the last attempt at ``run`` (or its job, before there was any) ended too soon.

        None where it did not, or where nobody knows: it is still at work, was stopped in good order, or is done.
        """
        job, look = self.job(run), self.look(run)
        if look.damage or (job and job.phase.is_live):
            return None
        attempt = look.attempt
        if look.has_failed:
            return Failure.OWN_ERROR
        if job and (self._submissions[run].unstarted_by(attempt) or (attempt and attempt.job == job.id)):
            return self._of_job(run, job, attempt if attempt and attempt.job == job.id else None)
        if attempt is None or attempt.stopped or works_on(run.directory, attempt):
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
        return None if any(self.look(other).has_failed for other in together) else Failure.OWN_ERROR

    def fruitless(self, run: Run) -> int:
        """Count the attempts in a row that machines ended without a step forward, the last one included."""
        look, submission = self.look(run), self._submissions.get(run)
        attempt = look.attempt
        if submission and submission.job and submission.unstarted_by(attempt):
            return submission.unstarted + 1
        return attempt.fruitless_by(look.step) if attempt else 0


__all__ = ["FRUITLESS_LIMIT", "Failure", "Job", "Jobs", "Phase"]
