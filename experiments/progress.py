"""Progress of a launch: bars on a terminal, plain lines elsewhere, both read from the runs' journals."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from . import journal
from .launch import Ended
from .plan import Step
from .runs import RunDirectory, State


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


class LaunchProgress:
    """Draws a launch of ``total`` runs on ``console``. Use as a context manager."""

    def __init__(self, console: Console, *, total: int) -> None:
        self._console = console
        self._bars = _bars(console)
        self._all = self._bars.add_task("all runs", total=total, status=f"0 of {total}")
        self._ended, self._total = 0, total
        self._runs: dict[str, tuple[Tail, TaskID]] = {}

    def __enter__(self) -> LaunchProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def started(self, step: Step) -> None:
        """A job for ``step`` was submitted."""
        name = describe(step)
        epochs = step.experiment.recipe.optim.epochs
        self._runs[name] = (Tail(step.run), self._bars.add_task(name, total=epochs, status="starting"))
        if not self._console.is_terminal:
            self._console.print(f"started   {name}")

    def poll(self, active: list[Step]) -> None:
        """Redraw the bars of the runs under way."""
        for step in active:
            tail, task = self._runs[describe(step)]
            tail.refresh()
            if "train/loss" in tail.metrics:
                self._bars.update(task, completed=tail.metrics["train/epoch"], status=_status(tail.metrics))

    def ended(self, end: Ended) -> None:
        """Take the run's bar down and say how it ended."""
        name = describe(end.step)
        self._ended += 1
        self._bars.update(self._all, completed=self._ended, status=f"{self._ended} of {self._total}")
        if end.blocked:
            why = end.blocked.last_error() or "it is not done"
            source = end.step.name_of(end.blocked)
            self._console.print(f"[red]blocked  [/] {name}  {source}: {escape(why)}")
            return
        tail, task = self._runs.pop(name)
        tail.refresh()
        self._bars.remove_task(task)
        if end.state is State.DONE:
            self._console.print(f"finished  {name:<32} top-1 {_top1(tail.metrics)}")
        else:
            self._console.print(f"[red]{end.state.value:<9}[/] {name}  {escape(end.step.run.last_error())}")
            if end.log:
                self._console.print(f"          its output: {end.log}", soft_wrap=True)


class RunProgress:
    """Draws a single run on ``console``: bars of epochs and steps on a terminal, a line an epoch elsewhere."""

    def __init__(self, console: Console, step: Step) -> None:
        self._console = console
        self._epochs = step.experiment.recipe.optim.epochs
        self._bars = _bars(console)
        self._task = self._bars.add_task(describe(step), total=self._epochs, status="starting")
        self._epoch_task = self._bars.add_task("epoch", total=None, status="", visible=False)
        self._epoch = 0

    def __enter__(self) -> RunProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take in the metrics of a training step."""
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


def describe(step: Step) -> str:
    """``table4/split seed 0``."""
    return f"{step.experiment.name} seed {step.seed}"


def _bars(console: Console) -> Progress:
    # at 80 columns the numbers go before the looks
    wide = console.width >= 110
    return Progress(
        TextColumn("{task.description}"),
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
