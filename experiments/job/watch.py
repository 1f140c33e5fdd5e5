"""The watch of a job: warnings to its log, metrics to the journal of the run, stop signals to the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vswin.training.watch import Watch

from ..runs.attempts import Ownership
from ..runs.directory import RunDirectory
from ..runs.journal import Journal
from ..words import printable
from .clock import Clock
from .signals import Stop
from .system_metrics import SystemMetrics

OnStep = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class JobWatch(Watch):
    """The watch of every rank but the first."""

    stop: Stop

    def warn(self, message: str) -> None:
        print(f"warning: {printable(message)}", flush=True)

    def should_stop(self) -> bool:
        return self.stop.requested


@dataclass(frozen=True, kw_only=True)
class OwnerWatch(JobWatch):
    """The watch of the first rank, which owns the run's directory. ``on_step`` is told what the journal is told."""

    run: RunDirectory
    owner: Ownership
    journal: Journal
    clock: Clock
    system: SystemMetrics
    on_step: OnStep

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        metrics = {**metrics, **self.clock.metrics(), **self.system.due()}
        self.journal.write(step, metrics)
        self.on_step(step, metrics)

    def before_save(self) -> None:
        # a checkpoint never replaces a later attempt's, and is never ahead of the journal
        self.owner.check()
        self.journal.sync()
        # after a loss of checkpoints these steps are trained again: what was made of the weights then is out of date
        self.run.drop_products()

    def should_stop(self) -> bool:
        # asked after every batch of a test, which may write nothing else for hours
        self.owner.show_life()
        return super().should_stop()
