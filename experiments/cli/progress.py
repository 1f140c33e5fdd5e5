"""Progress of a launch: bars on a terminal, plain lines elsewhere, both read from the runs' journals."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ..launch.launching import Launched, Observer
from ..launch.plan import Ended, Step
from ..runs import journal
from ..runs.directory import RunDirectory
from ..runs.run import Run
from ..runs.state import RunState
from .display.runs import show_plan


class Tail:
    """The newest metrics of a growing journal, read once."""

    def __init__(self, run: RunDirectory) -> None:
        self._path = run.journal
        self._offset = 0
        self.metrics: dict[str, float] = {}

    def refresh(self) -> None:
        for entry, after in journal.read(self._path, offset=self._offset):
            self.metrics.update(entry.metrics)
            self._offset = after


class LaunchProgress(Observer):
    """Draws a launch on ``console``: bars on a terminal, lines elsewhere. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = _bars(console)
        self._all: TaskID | None = None
        self._ended, self._total = 0, 0
        self._runs: dict[Run, tuple[Tail, TaskID]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def waiting(self) -> None:
        self._console.print("waiting for another launch of this scale to end")

    def planned(self, launched: Launched) -> None:
        if launched.adopted:
            jobs = ", ".join(launched.adopted)
            self._console.print(f"found again what an earlier launch submitted and could not note: {jobs}")
        if launched.skipped:
            show_plan(self._console, launched.skipped, title="not done, and left alone")
        self._total = len(launched.steps)

    def starting(self, steps: Sequence[Step], *, jobs: int) -> None:
        self._console.print(f"{len(steps)} of {self._total} runs to do, {jobs} at once")
        self._total = len(steps)
        self._all = self._bars.add_task("all runs", total=self._total, status=f"0 of {self._total}")
        self._bars.start()

    def started(self, step: Step) -> None:
        epochs = step.run.experiment.recipe.optim.epochs
        task = self._bars.add_task(step.run.name, total=epochs, status="starting")
        self._runs[step.run] = Tail(step.run.directory), task
        if not self._console.is_terminal:
            self._console.print(f"started   {step.run.name}", markup=False)

    def polled(self, running: Sequence[Step]) -> None:
        for step in running:
            tail, task = self._runs[step.run]
            tail.refresh()
            if "train/loss" in tail.metrics:
                self._bars.update(task, completed=tail.metrics["train/epoch"], status=_status(tail.metrics))

    def ended(self, end: Ended) -> None:
        name = end.step.run.name
        self._ended += 1
        if self._all is not None:
            self._bars.update(self._all, completed=self._ended, status=f"{self._ended} of {self._total}")
        if end.blocked:
            why = end.blocked.directory.last_error() or "it is not done"
            source = end.blocked.experiment.name
            self._console.print(Text.assemble(("blocked", "red"), f"   {name}  {source}: {why}"))
            return
        tail, task = self._runs.pop(end.step.run)
        tail.refresh()
        self._bars.remove_task(task)
        if end.state is RunState.DONE:
            self._console.print(f"finished  {name:<32} top-1 {_top1(tail.metrics)}", markup=False)
        else:
            error = end.step.run.directory.last_error()
            self._console.print(Text.assemble((f"{end.state.value:<9}", "red"), f" {name}  {error}"))
            if end.log:
                self._console.print(f"          its output: {end.log}", soft_wrap=True, markup=False)


class RunProgress(Observer):
    """Draws runs in this process on ``console``: bars of epochs and steps on a terminal, a line an epoch elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = _bars(console)
        self._epochs, self._epoch = 0, 0
        self._task, self._epoch_task = TaskID(0), TaskID(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def started(self, step: Step) -> None:
        self._epochs, self._epoch = step.run.experiment.recipe.optim.epochs, 0
        self._task = self._bars.add_task(step.run.name, total=self._epochs, status="starting")
        self._epoch_task = self._bars.add_task("epoch", total=None, status="", visible=False)
        self._bars.start()

    def logged(self, step: int, metrics: Mapping[str, float]) -> None:
        if "train/loss" not in metrics:
            return
        epoch = metrics["train/epoch"]
        steps = round(step / epoch)
        current = math.ceil(epoch)
        self._bars.update(self._task, completed=epoch, status=_status(metrics))
        self._bars.update(
            self._epoch_task,
            description=f"epoch {current} of {self._epochs}",
            completed=step - (current - 1) * steps,
            total=steps,
            status=f"step {step - (current - 1) * steps} of {steps}",
            visible=True,
        )
        if not self._console.is_terminal and int(epoch) > self._epoch:
            self._epoch = int(epoch)
            validated = f"  val top-1 {metrics['val/top1']:.1f}" if "val/top1" in metrics else ""
            self._console.print(f"epoch {self._epoch}/{self._epochs}  {_status(metrics)}{validated}")

    def ended(self, end: Ended) -> None:
        self._bars.update(self._epoch_task, visible=False)


@contextmanager
def counting(console: Console, name: str, *, total: int) -> Iterator[Callable[[int], None]]:
    """A bar for work that is counted: call what it gives with how much more is done."""
    with _bars(console) as bars:
        task = bars.add_task(name, total=total, status="")
        yield lambda more: bars.advance(task, more)


@contextmanager
def testing(console: Console, name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar over test videos: call what it gives with how many more are scored, and of how many in the end."""
    done = 0
    with _bars(console) as bars:
        task = bars.add_task(name, total=None, status="")

        def advance(more: int, total: int) -> None:
            nonlocal done
            tenth = 10 * done // total
            done += more
            bars.update(task, completed=done, total=total, status=f"{done} of {total} videos")
            if not console.is_terminal and 10 * done // total > tenth:
                console.print(f"tested {done} of {total} videos")

        yield advance


def _bars(console: Console) -> Progress:
    # at 80 columns the numbers go before the looks
    wide = console.width >= 110
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24 if wide else 8),
        TaskProgressColumn(),
        TextColumn("{task.fields[status]}"),
        *([TimeElapsedColumn()] if wide else []),
        TimeRemainingColumn(elapsed_when_finished=False),
        console=console,
        disable=not console.is_terminal,
    )


def _status(metrics: Mapping[str, float]) -> str:
    rate = metrics["speed/clips_per_second"]
    return f"loss {metrics['train/loss']:.2f}  lr {metrics['train/lr']:.0e}  {rate:.{0 if rate >= 10 else 1}f} clips/s"


def _top1(metrics: Mapping[str, float]) -> str:
    """Every final top-1 accuracy, ``90.1 (4x3)``."""
    tests = {name.split("/")[1]: value for name, value in metrics.items() if re.fullmatch("test/.*/top1", name)}
    return ", ".join(f"{value:.1f} ({views})" for views, value in tests.items())
