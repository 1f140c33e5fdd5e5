"""Launches on a Slurm cluster: runs become jobs, jobs become arrays, and what was submitted is never lost.

Before sbatch is called, what it will be called for is written down under a name that no other job has. A launch that
dies before it has noted the job's number leaves that behind, and the next one asks Slurm for the name.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import folders
from ..files import write_json
from ..registry.recipe import Scale
from ..runs import slurm
from ..runs.attempts import Attempt, Submission, attempts_at
from ..runs.directory import RunDirectory
from ..runs.run import Run
from ..runs.runtime import Runtime
from ..words import in_short, in_words
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

    ``waits_for``: runs that must be done before, for each job. ``after``: the position in the launch of an array that
    must have ended before. ``parallel``: how many of its jobs run at once, None for all.
    """

    jobs: tuple[tuple[Step, ...], ...]
    waits_for: tuple[tuple[Run, ...], ...]
    after: int | None = None
    parallel: int | None = None

    @property
    def steps(self) -> list[Step]:
        """The steps of all its jobs."""
        return [step for job in self.jobs for step in job]

    @property
    def waits_alike(self) -> bool:
        """True where all its jobs wait for the same runs: sbatch can be told of them."""
        return len(set(self.waits_for)) == 1

    def first(self, count: int) -> Array:
        """Only its first ``count`` jobs."""
        return replace(self, jobs=self.jobs[:count], waits_for=self.waits_for[:count])


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """The outcome of a submission: the ``jobs``, the ``steps`` that they do, and those that are ``left``.

    What is left did not fit into the queue, for the reason ``why``: a later launch submits it.
    """

    jobs: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    left: tuple[Step, ...] = ()
    why: str = ""


class RefusedError(SubmissionError):
    """Slurm did not take the job of ``steps``; the message is sbatch's own, and what was submitted before."""

    def __init__(self, message: str, steps: Sequence[Step]) -> None:
        super().__init__(message)
        self.steps = steps


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """Slurm's word on a launch before it: ``start`` of its first job if Slurm says one, and the reasons why it would be
    ``refused`` or could not be asked.

    ``arrays`` and ``jobs`` that would be submitted, as many ``at_once`` as the profile allows. ``full``: the limit of
    the queue that only a part of them fits into.
    """

    arrays: int
    jobs: int
    at_once: int | None = None
    start: str = ""
    refused: tuple[str, ...] = ()
    unasked: str = ""
    full: str = ""


@dataclass(frozen=True, kw_only=True)
class _Launch:
    """The note that is written before sbatch is called; ``job`` is its answer.

    ``waits``: what elements of the array depend on, each with their numbers, where they do not wait alike. The array is
    held until they have been told. ``%A`` stands for its own number.
    """

    folder: Path
    name: str
    profile: str
    minutes: int
    at: float
    code: str
    runtime: Mapping[str, Any]
    jobs: list[Runs]
    waits: list[tuple[str, list[int]]] = field(default_factory=list)
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

    def finish(self, job: str) -> None:
        """Give ``job`` what it still waits for, and keep it with every run that it is to do; once more does no harm."""
        complete_submission(self.folder, job, self.minutes, self.jobs, dict(self.runtime), Path(self.code))
        if self.waits and slurm.is_held(job):
            for dependency, indices in self.waits:
                elements = f"{job}_[{','.join(map(str, indices))}]"
                slurm.call("scontrol", "update", f"JobId={elements}", f"Dependency={dependency.replace('%A', job)}")
            slurm.call("scontrol", "release", job)
        for index, runs in enumerate(self.jobs):
            name = element(job, index, len(self.jobs))
            log = str(log_file(self.folder, name))
            for scale, _, signature, seed in runs:
                run = RunDirectory(Scale(scale), signature, seed)
                before = Submission.of(run)
                ended = before and (before.job or before.process) and before.job != name
                unstarted = before.unstarted + 1 if before and ended and before.unstarted_by(Attempt.of(run)) else 0
                Submission(
                    profile=self.profile, at=self.at, log=log, job=name, attempts=attempts_at(run), unstarted=unstarted
                ).note(run)
        replace(self, job=job).write()


def arrays(steps: Iterable[Step], *, runs_per_job: int, longest: int | None, parallel: int | None) -> list[Array]:
    """Group ``steps``, in this order, into jobs of ``runs_per_job`` and arrays of at most ``longest`` jobs.

    Steps that wait for the same runs share jobs; what others wait for has a job of its own. Without a limit, jobs that
    wait alike are an array. With one, all are: Slurm holds ``parallel`` for an array, whatever its jobs wait for. Where
    they do not fit into one, an array follows when one before has ended.
    """
    steps = list(steps)
    sources = {run for step in steps for run in step.waits_for}
    groups: dict[tuple[Run, ...] | Run, list[Step]] = {}
    for step in steps:
        groups.setdefault(step.run if step.run in sources else step.waits_for, []).append(step)
    shared = [
        [tuple(group[start : start + runs_per_job]) for start in range(0, len(group), runs_per_job)]
        for group in groups.values()
    ]
    if parallel is not None:
        # every variant has a first result early
        place = {step.run: index for index, step in enumerate(steps)}
        shared = [sorted((job for jobs in shared for job in jobs), key=lambda job: place[job[0].run])] if steps else []
    found: list[Array] = []
    for jobs in shared:
        size = longest or len(jobs)
        for start in range(0, len(jobs), size):
            some = tuple(jobs[start : start + size])
            # a cluster may have no arrays at all: then so many single jobs go side by side
            lanes = max(1, parallel // size) if parallel is not None else 0
            after = len(found) - lanes if lanes and len(found) >= lanes else None
            waits_for = tuple(job[0].waits_for for job in some)
            found.append(Array(jobs=some, waits_for=waits_for, after=after, parallel=parallel))
    return found


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


def scripts(steps: list[Step], *, profile: Profile, code: Path, tables: Path | None) -> list[str]:
    """The script of every sbatch that ``launch_on_slurm`` would call. Needs no Slurm, no data and no weights.

    Where there is no Slurm, arrays have any length, and what is waited for has no number yet.
    """
    found = []
    for array in _arrays(steps, profile):
        parameters = _parameters(array, "LAUNCH", profile=profile, submitted=None, code=code, tables=tables)
        found.append(sbatch_script(_jobs_folder(steps[0].run.scale) / "LAUNCH", parameters, jobs=len(array.jobs)))
    return found


def ask(steps: list[Step], *, profile: Profile, code: Path) -> Outlook:
    """Slurm's word on the script of every array, before any is submitted; needs neither data nor weights."""
    found = _arrays(steps, profile)
    jobs = [len(array.jobs) for array in found]
    outlook = Outlook(arrays=len(found), jobs=sum(jobs), at_once=profile.parallel)
    refused: list[str] = []
    starts: list[str] = []
    full = ""
    try:
        for count in dict.fromkeys(jobs):
            verdict = _verdict(profile, jobs=count, scale=steps[0].run.scale, code=code)
            if slurm.is_submit_limit(verdict.refusal):
                full = verdict.refusal
                # the limit is all that Slurm says of too many: there may be more against each of them
                verdict = _verdict(profile, jobs=1, scale=steps[0].run.scale, code=code)
            if slurm.is_submit_limit(verdict.refusal):
                continue
            if verdict.refusal:
                refused.append(verdict.refusal)
            elif verdict.start:
                starts.append(verdict.start)
        limit = slurm.longest_minutes(profile.partition)
    except slurm.SlurmError as error:
        return replace(outlook, unasked=str(error))
    if limit is not None and profile.minutes > limit:
        where = f"partition {profile.partition}" if profile.partition else "the cluster's partition"
        refused.append(
            f"time = {profile.time} is {in_words(60 * profile.minutes)}, more than {where} allows: "
            f"{in_words(60 * limit)}; such a job would wait for ever"
        )
    return replace(outlook, start=min(starts, default=""), refused=tuple(dict.fromkeys(refused)), full=full)


def launch_on_slurm(
    steps: list[Step], *, name: str, profile: Profile, runtime: Runtime, code: Path, tables: Path | None
) -> Submitted:
    """Submit ``steps`` under the profile called ``name``, pinned to the clone ``code`` and the copy of ``tables``.

    Hold the lock of the scale, and ``adopt`` first. What does not fit into the queue is left. Raises SlurmError where
    there is no Slurm, and RefusedError where it does not take a job; what was submitted before that stays submitted.
    """
    jobs: list[str] = []
    taken: list[Step] = []

    def submit(array: Array) -> None:
        jobs.append(
            _submit(array, name=name, profile=profile, runtime=runtime, code=code, tables=tables, submitted=jobs)
        )
        taken.extend(array.steps)

    why = ""
    for array in arrays(steps, runs_per_job=profile.runs_per_job, longest=_longest_array(), parallel=profile.parallel):
        try:
            try:
                submit(array)
            except SubmissionError as error:
                why = " ".join(str(error).split())
                if not slurm.is_submit_limit(why):
                    raise
                room = _room(array, profile=profile, code=code)
                if not room and not jobs and "SubmitJob" not in why:
                    # too big or too long, as it seems: not even one
                    raise
                if room:
                    submit(array.first(room))
                break
        except SubmissionError as error:
            before = f"; submitted before that: {', '.join(jobs)}" if jobs else ""
            raise RefusedError(f"{error}{before}", array.steps) from error
    left = [step for step in steps if step not in taken]
    return Submitted(jobs=tuple(jobs), steps=tuple(taken), left=tuple(left), why=why if left else "")


def _submit(
    array: Array,
    *,
    name: str,
    profile: Profile,
    runtime: Runtime,
    code: Path,
    tables: Path | None,
    submitted: Sequence[str],
) -> str:
    """Submit ``array``; returns its number. Raises SubmissionError."""
    token = uuid.uuid4().hex[:8]
    folder = _jobs_folder(array.steps[0].run.scale) / f"{time.strftime('%Y%m%d-%H%M%S')}-{token}"
    parameters = _parameters(array, token, profile=profile, submitted=submitted, code=code, tables=tables)
    launch = _Launch(
        folder=folder,
        name=parameters["job_name"],
        profile=name,
        minutes=profile.minutes,
        at=time.time(),
        code=str(code),
        runtime=asdict(runtime),
        jobs=[[step.run.order for step in job] for job in array.jobs],
        waits=[] if array.waits_alike else _waits(array, submitted),
    )
    launch.write()
    try:
        job = submit_to_slurm(folder, parameters, launch.jobs, asdict(runtime), code)
    except SubmissionError as error:
        # a controller that is busy may take jobs and answer too late
        try:
            taken = slurm.named(launch.name, since=launch.at)
        except slurm.SlurmError as unasked:
            raise SubmissionError(
                f"{error}; whether Slurm took them all the same could not be asked, the next launch does: {unasked}"
            ) from error
        if taken is None:
            shutil.rmtree(folder)
            raise
        job = taken
    try:
        launch.finish(job)
    except slurm.SlurmError as error:
        raise SubmissionError(f"job {job} was submitted, but not finished; the next launch does: {error}") from error
    return job


def _room(array: Array, *, profile: Profile, code: Path) -> int:
    """The number of jobs of ``array`` that the queue takes now, by asking for more and for fewer."""
    scale = array.steps[0].run.scale
    low, high = 0, len(array.jobs)
    while low < high:
        middle = (low + high + 1) // 2
        if _verdict(profile, jobs=middle, scale=scale, code=code).refusal:
            high = middle - 1
        else:
            low = middle
    return low


def _verdict(profile: Profile, *, jobs: int, scale: Scale, code: Path) -> slurm.SbatchAnswer:
    parameters = slurm_parameters(profile, name=f"vswin-{scale}-test", comment="", dependency="", code=code)
    # a folder that is not there yet is no reason to refuse a job
    parameters["additional_parameters"]["chdir"] = "/"
    return slurm.verdict(sbatch_script(_jobs_folder(scale) / "TEST", parameters, jobs=jobs))


def note_refusal(steps: Iterable[Step], *, name: str, reason: str) -> None:
    """Keep with the runs of ``steps`` that Slurm did not take them under the profile called ``name``, and why."""
    for step in steps:
        before = Submission.of(step.run.directory) or Submission(
            profile=name, at=time.time(), log="", attempts=attempts_at(step.run.directory)
        )
        replace(before, refused=" ".join(reason.split())).note(step.run.directory)


def adopt(scale: Scale) -> list[str]:
    """Find the jobs again that launches of ``scale`` submitted and died before they had noted it; returns them.

    They are given what the dead launch still owed them. Raises SlurmError where Slurm has to be asked and does not
    answer: the message names the runs that it may have taken.
    """
    found = []
    for file in sorted(_jobs_folder(scale).glob("*/launch.json")):
        launch = _Launch.read(file)
        if launch.job is not None:
            continue
        try:
            job = slurm.named(launch.name, since=launch.at)
        except slurm.SlurmError as error:
            runs = [f"{variant} seed {seed}" for jobs in launch.jobs for _, variant, _, seed in jobs]
            raise slurm.SlurmError(
                f"could not ask Slurm whether it took what an earlier launch submitted as {launch.name} "
                f"({in_short(runs)}): {error}; nothing is submitted"
            ) from error
        if job is None:
            # sbatch was never called, or took nothing
            shutil.rmtree(launch.folder)
            continue
        launch.finish(job)
        found.append(job)
    return found


def _jobs_folder(scale: Scale) -> Path:
    return folders.runs() / scale / "jobs"


def _arrays(steps: list[Step], profile: Profile) -> list[Array]:
    """The arrays of a launch, as far as can be told: where there is no Slurm, of any length."""
    try:
        longest = _longest_array()
    except slurm.SlurmError:
        longest = None
    return arrays(steps, runs_per_job=profile.runs_per_job, longest=longest, parallel=profile.parallel)


def _parameters(
    array: Array, token: str, *, profile: Profile, submitted: Sequence[str] | None, code: Path, tables: Path | None
) -> dict[str, Any]:
    """``slurm_parameters`` of ``array``; ``submitted`` are the arrays before it, None where none is."""
    return slurm_parameters(
        replace(profile, parallel=array.parallel),
        name=_name(array, token),
        comment=_comment(array),
        dependency=_dependency(array, array.waits_for[0], submitted) if array.waits_alike else "",
        code=code,
        tables=tables,
        hold=not array.waits_alike,
    )


def _dependency(array: Array, runs: Iterable[Run], submitted: Sequence[str] | None) -> str:
    """The dependency of a job of ``array`` that waits for ``runs``; ``%A`` stands for the array's own number."""
    own = {step.run: index for index, job in enumerate(array.jobs) for step in job}
    found = []
    for run in runs:
        if run in own:
            found.append(f"afterok:%A_{own[run]}")
        else:
            found.append(f"afterok:{_job_of(run) or f'JOB-OF-{run.signature}'}")
    if array.after is not None:
        found.append(f"afterany:{submitted[array.after] if submitted else f'ARRAY-{array.after}'}")
    return ",".join(found)


def _waits(array: Array, submitted: Sequence[str]) -> list[tuple[str, list[int]]]:
    """The dependencies of jobs in ``array``, each with the indices of those that have it."""
    found: dict[str, list[int]] = {}
    for index, runs in enumerate(array.waits_for):
        if dependency := _dependency(array, runs, submitted):
            found.setdefault(dependency, []).append(index)
    return list(found.items())


def _name(array: Array, token: str) -> str:
    """``vswin-mini-0123456789-s0-TOKEN``, or of several runs ``vswin-mini-12runs-TOKEN``."""
    run = array.steps[0].run
    what = f"{run.signature}-s{run.seed}" if len(array.steps) == 1 else f"{len(array.steps)}runs"
    return f"vswin-{run.scale}-{what}-{token}"


def _comment(array: Array) -> str:
    """The runs of an array, for people who look at the queue."""
    runs = ", ".join(f"{step.run.experiment.name} s{step.run.seed}" for step in array.steps)
    return runs if len(runs) <= _COMMENT_LENGTH else f"{runs[:_COMMENT_LENGTH]} ..."


def _job_of(run: Run) -> str | None:
    submission = Submission.of(run.directory)
    return submission.job if submission else None


def _longest_array() -> int:
    # the highest index is one less; 0 where the cluster has no arrays
    return max(1, int(slurm.config("MaxArraySize") or 1))
