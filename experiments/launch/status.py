"""The status of runs: Slurm or the process table, their journals and their records put together.

Imports no torch and reads the last line of each journal only, so that it answers at once, also for hundreds of runs.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..registry.catalogue import Experiment
from ..runs.attempts import Attempt
from ..runs.jobs import Failure, Job, Jobs
from ..runs.journal import Entry
from ..runs.look import Look
from .plan import Action, Step


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A run: what comes next (``step``), how far it is, and where it is computed.

    ``name`` is that of its row in the table that was asked for. ``taken`` of ``steps`` training steps (None: not known
    before the first); ``share`` of the training from 0 to 1. ``metrics`` are the newest of its journal, ``top1`` by
    protocol once it is tested. ``seconds_left`` of the training.
    ``error`` is the exception of the last attempt, empty if there is none. ``was_started``: anything was done about it
    here, or it is recorded in the results folder.
    """

    step: Step
    name: str
    taken: int
    steps: int | None
    share: float
    metrics: dict[str, float]
    top1: dict[str, float]
    seconds_left: float | None
    job: Job | None
    failure: Failure | None
    attempt: Attempt | None
    updated: float | None
    error: str
    was_started: bool

    @property
    def doing(self) -> str:
        """The newest thing worth knowing: a result, else what is computed."""
        if self.step.action is Action.DONE:
            return ", ".join(f"top-1 {value:.1f}" for value in self.top1.values())
        if self.taken and self.share >= 1:
            return "testing" if self.step.action is Action.RUNNING else "trained"
        if "train/loss" in self.metrics:
            return f"loss {self.metrics['train/loss']:.2f}"
        return ""

    @property
    def why(self) -> str:
        """The reason for ``step.action``: its error, what Slurm says, or the plan's own words."""
        run = self.step.run
        if self.error and self.step.action in (Action.FAILED, Action.RETRY):
            return f"{self.error}; see: vswin logs {run.experiment.name} --seed {run.seed}"
        if self.job and self.job.phase.is_live:
            where = f" on {self.job.nodes}" if self.job.nodes else ""
            waits = f", Slurm says {self.job.reason}" if self.job.reason else ""
            again = f", started again {self.job.restarts} times" if self.job.restarts > 1 else ""
            return f"job {self.job.id} is {self.job.phase}{where}{waits}{again}"
        if self.step.action is Action.RUNNING and self.attempt:
            return f"process {self.attempt.process.pid} of {self.attempt.process.host}"
        return self.step.why


def standings(steps: Sequence[Step], jobs: Jobs, *, tables: Sequence[str] = ()) -> list[Standing]:
    """One for each of ``steps``, with ``jobs`` of their runs; named after a row of ``tables`` where they have one."""
    return [_standing(step, jobs, tables) for step in steps]


def name_in(experiment: Experiment, tables: Sequence[str]) -> str:
    """The id of the row that ``experiment`` is in the first of ``tables`` that has it, else in the first of all."""
    rows = [variant.id for table in tables for variant in experiment.variants if table in (variant.table, variant.id)]
    return rows[0] if rows else experiment.name


def _standing(step: Step, jobs: Jobs, tables: Sequence[str]) -> Standing:
    run, look = step.run, jobs.look(step.run)
    last = look.last
    taken, steps, share = _progress(last, run.experiment)
    if step.action is Action.DONE:
        share = 1.0
    return Standing(
        step=step,
        name=name_in(run.experiment, tables),
        taken=taken,
        steps=steps,
        share=share,
        metrics=dict(last.metrics) if last else {},
        top1=_top1(look, run.experiment) if step.action is Action.DONE else {},
        seconds_left=_seconds_left(last, step) if share < 1 else None,
        job=jobs.job(run),
        failure=jobs.failure(run),
        attempt=look.attempt,
        error=look.error,
        was_started=look.exists or step.action is Action.DONE,
        updated=last.time if last else None,
    )


def _progress(last: Entry | None, experiment: Experiment) -> tuple[int, int | None, float]:
    """Steps taken, steps there are, and the share of the training."""
    if last is None:
        return 0, None, 0.0
    epoch = last.metrics.get("train/epoch")
    if not epoch:
        # lines of tests come after the last step
        return last.step, last.step, 1.0
    steps = round(experiment.recipe.optim.epochs * last.step / epoch)
    return last.step, steps, last.step / steps


def _seconds_left(last: Entry | None, step: Step) -> float | None:
    """Of the training, at the rate of the last step."""
    if last is None or step.action is not Action.RUNNING:
        return None
    rate = last.metrics.get("speed/clips_per_second")
    epoch = last.metrics.get("train/epoch")
    if not rate or not epoch:
        return None
    optim = step.run.experiment.recipe.optim
    steps_left = (optim.epochs - epoch) * last.step / epoch
    return steps_left * optim.batch_size / rate


def _top1(look: Look, experiment: Experiment) -> dict[str, float]:
    """By the views of each protocol, without the packages that validate a record."""
    return {
        protocol.views: float(look.results[signature].get("top1", math.nan))
        for signature, protocol in experiment.protocols.items()
        if signature in look.results
    }


def standing_json(item: Standing) -> dict[str, Any]:
    """A standing as plain data."""
    return {
        "name": item.name,
        "variants": [variant.id for variant in item.step.run.experiment.variants],
        "seed": item.step.run.seed,
        "signature": item.step.run.signature,
        "action": item.step.action,
        "why": item.step.why,
        "step": item.taken,
        "steps": item.steps,
        "share": item.share,
        "metrics": {name: value for name, value in item.metrics.items() if re.match("train|val|test", name)},
        "top1": item.top1,
        "seconds_left": item.seconds_left,
        "job": {"id": item.job.id, "phase": item.job.phase, "nodes": item.job.nodes, "reason": item.job.reason}
        if item.job
        else None,
        "failure": item.failure,
        "attempts": item.attempt.number if item.attempt else 0,
        "updated": item.updated,
        "error": item.error,
        "directory": str(item.step.run.directory.path),
    }


def now() -> str:
    """The time of day."""
    return time.strftime("%H:%M:%S")
