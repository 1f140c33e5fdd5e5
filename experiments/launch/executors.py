"""submitit's executors, set up for runs. The only file that imports submitit."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import DelayedSubmission, FailedJobError, JobPaths

from vswin.errors import ExplainedError

from .. import folders
from ..job.body import work
from ..runs import slurm
from .profiles import Profile

# What a job is told to do: (scale, variant, signature, seed) of its runs.
Runs = list[tuple[str, str, str, int]]

# The local executor stops a job at its time limit; a run at scale paper on one workstation takes weeks.
_LOCAL_MINUTES = 60 * 24 * 60
# submitit lets a job hit its time limit three times, and takes every preemption of a short one for a time limit.
_ANY_NUMBER = 10**6

LocalJob = submitit.Job[None]


class SubmissionError(ExplainedError, RuntimeError):
    """Slurm did not take a job; the message is sbatch's own."""


class Work:
    """``job.work`` as submitit wants it: after a stop signal the same runs are submitted again.

    No pointer to a checkpoint travels along: a job finds the newest complete one itself. ``gpu`` is the only one that
    it is to see, as CUDA_VISIBLE_DEVICES names it; submitit hides all from a local job, and knows numbers only.
    """

    def __call__(self, runs: Runs, runtime: dict[str, Any], code: str | None = None, *, gpu: str | None = None) -> None:
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        work(runs, runtime, code)

    def checkpoint(
        self, runs: Runs, runtime: dict[str, Any], code: str | None = None, *, gpu: str | None = None
    ) -> DelayedSubmission:
        return DelayedSubmission(self, runs, runtime, code, gpu=gpu)


def local_executor(folder: Path) -> submitit.LocalExecutor:
    """Starts jobs on this machine, all that it is given at once."""
    executor = submitit.LocalExecutor(folder)
    executor.update_parameters(timeout_min=_LOCAL_MINUTES, stderr_to_stdout=True)
    return executor


def slurm_parameters(
    profile: Profile,
    *,
    name: str,
    comment: str,
    dependency: str,
    code: Path,
    tables: Path | None = None,
    hold: bool = False,
) -> dict[str, Any]:
    """Parameters for submitit's Slurm executor, of jobs that run ``profile`` with the clone ``code``.

    ``tables``: the copy of the user's own tables that they use. ``hold``: until they are released; they are given what
    they depend on before.
    """
    optional = {
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "constraint": profile.constraint,
        "mem": profile.memory,
        "gpus_per_node": profile.gpus_per_node,
        "dependency": dependency or None,
    }
    variables = {
        "VSWIN_RUNS": folders.runs(),
        "VSWIN_DATA": folders.data(),
        "VSWIN_RESULTS": folders.results(),
        **({"VSWIN_TABLES": tables} if tables else {}),
        **_tracking_variable(),
    }
    setup = [
        # a module that is not there would be noticed hours later, or never
        "trap 'echo \"vswin: this line of setup failed: $BASH_COMMAND\"; exit 1' ERR",
        *profile.setup,
        "trap - ERR",
        *(f"export {variable}={shlex.quote(str(value))}" for variable, value in variables.items()),
        # in front of an editable install
        f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}",
        # from Slurm 22.05 on srun does not take it from the job
        "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK",
    ]
    return {
        "job_name": name,
        "comment": comment,
        "time": profile.minutes,
        "nodes": profile.nodes,
        "ntasks_per_node": profile.processes_per_node,
        "cpus_per_task": profile.cpus,
        "signal_delay_s": profile.signal_seconds,
        "setup": setup,
        "stderr_to_stdout": True,
        # submitit's own limit is 256, and its own workload key is refused where those are kept
        "array_parallelism": profile.parallel or _ANY_NUMBER,
        "wckey": None,
        # one rank that is gone ends all, at once
        "srun_args": ["--kill-on-bad-exit=1"],
        "additional_parameters": {
            # python -m looks where it was started first
            "chdir": str(code),
            "requeue" if profile.requeue else "no-requeue": True,
            **({"kill-on-invalid-dep": "yes"} if dependency or hold else {}),
            **({"hold": True} if hold else {}),
            **profile.options,
        },
        **{key: value for key, value in optional.items() if value is not None},
    }


def _tracking_variable() -> dict[str, str]:
    """Where there is a tracking server, for jobs. Others can read scripts: a password comes by sbatch's environment."""
    uri = folders.tracking_uri()
    return {"MLFLOW_TRACKING_URI": uri} if uri.startswith("http") and uri == folders.tracking_address() else {}


def sbatch_script(folder: Path, parameters: dict[str, Any], *, jobs: int) -> str:
    """The script that ``submit_to_slurm`` would give to sbatch. Needs no Slurm."""
    from submitit.slurm.slurm import _make_sbatch_string

    many: dict[str, Any] = {"map_count": jobs} if jobs > 1 else {}
    command = f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    return _make_sbatch_string(command=command, folder=folder, **parameters, **many)


def submit_to_slurm(
    folder: Path, parameters: dict[str, Any], jobs: list[Runs], runtime: dict[str, Any], code: Path
) -> str:
    """Submit ``jobs`` as one job or one array; returns its number. Raises SubmissionError."""
    executor = submitit.SlurmExecutor(folder, max_num_timeout=_ANY_NUMBER)
    executor.update_parameters(**parameters)
    try:
        with slurm.outside_own_job(), executor.batch():
            submitted = [executor.submit(Work(), runs, runtime, str(code)) for runs in jobs]
        return str(submitted[0].job_id).partition("_")[0]
    except FailedJobError as error:
        said = " ".join(str(error).replace("sbatch: error: ", "").split())
        raise SubmissionError(f"sbatch did not take the jobs: {said}") from error


def complete_submission(
    folder: Path, job: str, minutes: int, jobs: list[Runs], runtime: dict[str, Any], code: Path
) -> None:
    """Give ``job`` what a launcher that died after sbatch still owed it: what each of its ``jobs`` is to do."""
    for index, runs in enumerate(jobs):
        target = JobPaths(folder, job_id=element(job, index, len(jobs))).submitted_pickle
        if not target.exists():
            delayed = DelayedSubmission(Work(), runs, runtime, str(code))
            delayed.set_timeout(minutes, _ANY_NUMBER)
            partial = target.with_suffix(".partial")
            delayed.dump(partial)
            partial.rename(target)


def element(job: str, index: int, count: int) -> str:
    """The name of the ``index``-th of ``count`` jobs that were submitted as ``job``."""
    return f"{job}_{index}" if count > 1 else job


def log_file(folder: Path, name: str) -> Path:
    """The file that the job called ``name`` prints to: its first process."""
    return Path(JobPaths(folder, job_id=name, task_id=0).stdout)
