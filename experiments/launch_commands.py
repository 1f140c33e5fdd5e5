"""The part of ``vswin launch`` that concerns clusters and dry runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from . import pinned
from .job import missing
from .plan import Action, Mode, Step
from .profiles import Profile
from .runs import RunDirectory, State
from .runtime import Runtime
from .slurm import SlurmError


def show_dry_run(console: Console, steps: list[Step], *, on: str, profile: Profile | None, allow_dirty: bool) -> None:
    """What a launch would submit, and what it would lack."""
    todo = steps
    if profile:
        from .slurm_launch import scripts, submittable

        todo = submittable(steps)
        for script in scripts(todo, name=on, profile=profile, code=_clone(allow_dirty)) if todo else ():
            console.print(f"\n{script.strip()}", soft_wrap=True, markup=False)
    lacks = list(dict.fromkeys(what_is_missing(todo, on=on, profile=profile, allow_dirty=allow_dirty)))
    if lacks:
        console.print("\n[bold]missing[/]")
    for item in lacks:
        console.print(f"  {item}", soft_wrap=True, markup=False)


def what_is_missing(steps: list[Step], *, on: str, profile: Profile | None, allow_dirty: bool) -> Iterable[str]:
    """What a launch of ``steps`` would stop at, in words."""
    yield from missing([step.experiment for step in steps if step.action.needs_work or step.action is Action.BLOCKED])
    if profile is None:
        return
    from .check import unsuited

    if reason := unsuited([step.experiment for step in steps], profile) if steps else None:
        yield f"{on}: {reason}"
    if absent := [program for program in ("sbatch", "srun", "squeue") if not shutil.which(program)]:
        yield f"{', '.join(absent)}: not on this machine; launch where Slurm's commands are"
    try:
        pinned.folder(allow_dirty=allow_dirty)
    except (pinned.PinError, pinned.UncommittedCodeError) as error:
        yield str(error)


def launch_on_profile(
    console: Console, steps: list[Step], *, on: str, profile: Profile, runtime: Runtime, allow_dirty: bool, mode: Mode
) -> list[Step]:
    """Submit what can be submitted, and return that; jobs go on without this process."""
    from .executors import SubmissionError
    from .slurm_launch import launch_on_slurm, submittable

    todo = submittable(steps)
    if todo:
        code = pinned.pin(allow_dirty=allow_dirty)
        aside = set_aside(todo, mode)
        try:
            jobs = launch_on_slurm(todo, name=on, profile=profile, runtime=runtime, code=code)
        except (SlurmError, SubmissionError):
            for run, folder in aside.items():
                # not submitted
                if not run.path.exists():
                    folder.rename(run.path)
            raise
        console.print(f"submitted {len(todo)} of {len(steps)} runs to {on}: {', '.join(jobs)}")
        console.print("they go on without this terminal: vswin status")
    return todo


def set_aside(steps: Iterable[Step], mode: Mode) -> dict[RunDirectory, Path]:
    """Move aside what is done and to be done again; returns where it lies now."""
    return {
        step.run: step.run.set_aside()
        for step in (steps if mode is Mode.FORCE else ())
        if step.run.path.exists() and step.state() is State.DONE
    }


def _clone(allow_dirty: bool) -> Path:
    try:
        return pinned.folder(allow_dirty=allow_dirty)[0]
    except pinned.UncommittedCodeError:
        # says so below
        return pinned.folder(allow_dirty=True)[0]
    except pinned.PinError:
        return Path("CLONE")
