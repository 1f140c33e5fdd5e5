"""Launches on a Slurm cluster: runs become jobs, jobs become arrays, and what was submitted is never lost.

Before sbatch is called, what it will be called for is written down under a name that no other job has. A launch that
dies before it has noted the job's number leaves that behind, and the next one asks Slurm for the name.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .. import folders
from ..files import write_json
from ..registry.recipe import Scale
from ..runs import slurm
from ..runs.attempts import Attempt, Submission
from ..runs.directory import RunDirectory
from ..runs.run import Run
from ..runs.runtime import Runtime
from .executors import (
    Runs,
    SubmissionError,
    complete_submission,
    element,
    log_file,
    sbatch_script,
    slurm_parameters,
    submit_to_slurm,
)
from .plan import Action, Step
from .profiles import Profile

_COMMENT_LENGTH = 900


@dataclass(frozen=True, kw_only=True)
class Array:
    """Jobs that are submitted at once, each with the steps it does one after another.

    ``waits_for``: runs that must be done before. ``after``: the position in the launch of an array that must have
    ended before. ``parallel``: how many of its jobs run at once, None for all.
    """

    jobs: tuple[tuple[Step, ...], ...]
    waits_for: tuple[Run, ...] = ()
    after: int | None = None
    parallel: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Launch:
    """The note that is written before sbatch is called; ``job`` is its answer."""

    folder: Path
    name: str
    profile: str
    minutes: int
    at: float
    code: str
    runtime: Mapping[str, Any]
    jobs: list[Runs]
    job: str | None = None

    @property
    def file(self) -> Path:
        return self.folder / "launch.json"

    def write(self) -> None:
        write_json(self.file, {**asdict(self), "folder": str(self.folder)})

    @classmethod
    def read(cls, file: Path) -> _Launch:
        content = json.loads(file.read_text())
        jobs = [[tuple(run) for run in runs] for runs in content.pop("jobs")]
        return cls(**{**content, "folder": file.parent, "jobs": jobs})

    def note(self, job: str) -> None:
        """Keep ``job`` with every run it is to do, and then that this is done."""
        for index, runs in enumerate(self.jobs):
            name = element(job, index, len(self.jobs))
            log = str(log_file(self.folder, name))
            for scale, _, signature, seed in runs:
                run = RunDirectory(Scale(scale), signature, seed)
                before = Submission.of(run)
                unstarted = before.unstarted + 1 if before and before.unstarted_by(Attempt.of(run)) else 0
                Submission(profile=self.profile, at=self.at, log=log, job=name, unstarted=unstarted).note(run)
        replace(self, job=job).write()


def arrays(steps: Iterable[Step], *, runs_per_job: int, longest: int | None, parallel: int | None) -> list[Array]:
    """Group ``steps``, in this order, into jobs of ``runs_per_job`` and arrays of at most ``longest`` jobs.

    Steps that wait for the same runs go together; what others wait for has a job of its own. No more than ``parallel``
    jobs run at once, over all arrays.
    """
    steps = list(steps)
    sources = {run for step in steps for run in step.waits_for}
    groups: dict[tuple[Run, ...] | Run, list[Step]] = {}
    for step in steps:
        groups.setdefault(step.run if step.run in sources else step.waits_for, []).append(step)
    found: list[Array] = []
    for group in groups.values():
        jobs = [tuple(group[start : start + runs_per_job]) for start in range(0, len(group), runs_per_job)]
        size = longest or len(jobs)
        for start in range(0, len(jobs), size):
            found.append(Array(jobs=tuple(jobs[start : start + size]), waits_for=group[0].waits_for))
    if parallel is None:
        return found
    lanes = min(parallel, len(found)) or 1
    return [
        replace(array, parallel=parallel // lanes, after=index - lanes if index >= lanes else None)
        for index, array in enumerate(found)
    ]


def is_on_cluster(step: Step) -> bool:
    """True where a Slurm job works on this run, or waits for its turn to."""
    return step.action in (Action.PENDING, Action.RUNNING) and _job_of(step.run) is not None


def submittable(steps: Iterable[Step]) -> list[Step]:
    """The steps that a launch can submit: those that need work, and those that wait only for such or for live jobs."""
    steps = list(steps)
    coming = {step.run for step in steps if is_on_cluster(step)}
    chosen: list[Step] = []
    for step in steps:
        waits = step.action is Action.BLOCKED and coming.issuperset(step.waits_for)
        if step.action.needs_work or waits:
            chosen.append(step)
            coming.add(step.run)
    return chosen


def scripts(steps: list[Step], *, name: str, profile: Profile, code: Path) -> list[str]:
    """The script of every sbatch that ``launch_on_slurm`` would call. Needs no Slurm, no data and no weights.

    Where there is no Slurm, arrays have any length, and what is waited for has no number yet.
    """
    try:
        longest = _longest_array()
    except slurm.SlurmError:
        longest = None
    found = []
    for array in arrays(steps, runs_per_job=profile.runs_per_job, longest=longest, parallel=profile.parallel):
        folder = _jobs_folder(steps[0].run.scale) / "LAUNCH"
        waits_for = [f"afterok:{_job_of(run) or f'JOB-OF-{run.signature}'}" for run in array.waits_for]
        waits_for += [] if array.after is None else [f"afterany:ARRAY-{array.after}"]
        parameters = slurm_parameters(
            replace(profile, parallel=array.parallel),
            name=_name(array, "LAUNCH"),
            comment=_comment(array),
            dependency=",".join(waits_for),
            code=code,
        )
        found.append(sbatch_script(folder, parameters, jobs=len(array.jobs)))
    return found


def launch_on_slurm(steps: list[Step], *, name: str, profile: Profile, runtime: Runtime, code: Path) -> list[str]:
    """Submit ``steps`` under the profile called ``name``, pinned to the clone ``code``; returns their jobs.

    Hold the lock of the scale, and ``adopt`` first. Raises SlurmError where there is no Slurm, and SubmissionError
    where it does not take a job; what was submitted before that stays submitted.
    """
    submitted: list[str] = []
    for array in arrays(steps, runs_per_job=profile.runs_per_job, longest=_longest_array(), parallel=profile.parallel):
        token = uuid.uuid4().hex[:8]
        folder = _jobs_folder(steps[0].run.scale) / f"{time.strftime('%Y%m%d-%H%M%S')}-{token}"
        dependencies = [f"afterok:{_job_of(run)}" for run in array.waits_for]
        dependencies += [] if array.after is None else [f"afterany:{submitted[array.after]}"]
        parameters = slurm_parameters(
            replace(profile, parallel=array.parallel),
            name=_name(array, token),
            comment=_comment(array),
            dependency=",".join(dependencies),
            code=code,
        )
        launch = _Launch(
            folder=folder,
            name=parameters["job_name"],
            profile=name,
            minutes=profile.minutes,
            at=time.time(),
            code=str(code),
            runtime=asdict(runtime),
            jobs=[[step.run.order for step in job] for job in array.jobs],
        )
        launch.write()
        try:
            job = submit_to_slurm(folder, parameters, launch.jobs, asdict(runtime), code)
        except SubmissionError as error:
            # a controller that is busy may take jobs and answer too late
            taken = slurm.named(launch.name, since=launch.at)
            if taken is None:
                shutil.rmtree(folder)
                before = f"; submitted before that: {', '.join(submitted)}" if submitted else ""
                raise SubmissionError(f"{error}{before}") from error
            job = taken
            complete_submission(folder, job, profile.minutes, launch.jobs, asdict(runtime), code)
        launch.note(job)
        submitted.append(job)
    return submitted


def adopt(scale: Scale) -> list[str]:
    """Find the jobs again that launches of ``scale`` submitted and died before they had noted it; returns them.

    They are given what the dead launch still owed them. Raises SlurmError where Slurm has to be asked and is not there.
    """
    found = []
    for file in sorted(_jobs_folder(scale).glob("*/launch.json")):
        launch = _Launch.read(file)
        if launch.job is not None:
            continue
        job = slurm.named(launch.name, since=launch.at)
        if job is None:
            # sbatch was never called, or took nothing
            shutil.rmtree(launch.folder)
            continue
        complete_submission(launch.folder, job, launch.minutes, launch.jobs, dict(launch.runtime), Path(launch.code))
        launch.note(job)
        found.append(job)
    return found


def _jobs_folder(scale: Scale) -> Path:
    return folders.runs() / scale / "jobs"


def _name(array: Array, token: str) -> str:
    """``vswin-mini-0123456789-s0-TOKEN``, or of several runs ``vswin-mini-12runs-TOKEN``."""
    steps = [step for job in array.jobs for step in job]
    run = steps[0].run
    what = f"{run.signature}-s{run.seed}" if len(steps) == 1 else f"{len(steps)}runs"
    return f"vswin-{run.scale}-{what}-{token}"


def _comment(array: Array) -> str:
    """The runs of an array, for people who look at the queue."""
    runs = ", ".join(f"{step.run.experiment.name} s{step.run.seed}" for job in array.jobs for step in job)
    return runs if len(runs) <= _COMMENT_LENGTH else f"{runs[:_COMMENT_LENGTH]} ..."


def _job_of(run: Run) -> str | None:
    submission = Submission.of(run.directory)
    return submission.job if submission else None


def _longest_array() -> int:
    # the highest index is one less; 0 where the cluster has no arrays
    return max(1, int(slurm.config("MaxArraySize") or 1))
