"""Overhead of the suite: journal and checkpoints per training step at scale ``mini``, and seconds per command.

``make bench`` prints it; ``python -m experiments.tools.bench --json FILE`` also writes it. Takes about a minute on one
core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vswin.config import Split
from vswin.training.watch import Watch

from ..job import provenance
from ..job.clock import Clock
from ..job.system_metrics import SAMPLE_SECONDS, SystemMetrics
from ..registry.catalogue import find_variant, tables
from ..registry.recipe import Recipe, Scale
from ..runs.journal import Journal
from ..runs.runtime import default_runtime

if TYPE_CHECKING:
    from torch import nn

_EPOCHS = 2
_REPEATS = 15


@dataclass(frozen=True)
class StepPart:
    """A piece of work: ``milliseconds`` each time (median), once in ``steps`` steps."""

    name: str
    milliseconds: float
    steps: float

    @property
    def per_step(self) -> float:
        """Milliseconds per training step."""
        return self.milliseconds / self.steps


@dataclass(frozen=True)
class _Timing(Watch):
    """Notes when each step is logged, and stops the training after ``steps``."""

    steps: int
    logged: list[tuple[float, Mapping[str, float]]] = field(default_factory=list)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.logged.append((time.perf_counter(), metrics))

    def should_stop(self) -> bool:
        return len(self.logged) == self.steps


def measure() -> list[StepPart]:
    """The training step first, then everything that the suite adds to it."""
    from vswin.data import moving_digits
    from vswin.data.annotations import VideoList
    from vswin.models import build

    from ..job.training import Training, set_up

    recipe = find_variant("table4/joint").at(Scale.MINI)
    runtime = default_runtime(Scale.MINI)
    # a checkpoint at the end of an epoch falls outside the steps that are timed; one in between would not
    training = Training(recipe=recipe, seed=0, runtime=replace(runtime, checkpoint_minutes=60.0), world=set_up(runtime))
    model = build(recipe.model)
    with tempfile.TemporaryDirectory(prefix="vswin-bench-") as folder:
        digits = moving_digits.generate(Path(folder), task=moving_digits.KINETICS_400)
        videos = VideoList.in_folder(digits, split=Split.TRAIN)
        steps_per_epoch = len(videos) // recipe.optim.batch_size
        watch = _Timing(steps=_EPOCHS * steps_per_epoch)
        training.run(model, videos, directory=Path(folder) / "checkpoints", watch=watch)
        # the first epoch also decodes every video
        second = watch.logged[steps_per_epoch + 1 :]
        durations = [after[0] - before[0] for before, after in itertools.pairwise(second)]
        step_ms = 1000 * statistics.median(durations)
        journal_ms, sync_ms = _time_journal(Path(folder) / "journal.jsonl", metrics=watch.logged[-1][1])
        checkpoint_ms = _time_checkpoint(Path(folder) / "timed", model=model, recipe=recipe, classes=videos.classes)
    system_ms = _median_ms(SystemMetrics().sample)
    seconds_per_step = step_ms / 1000
    return [
        StepPart("training step", step_ms, 1),
        StepPart("journal, a line", journal_ms, 1),
        StepPart("journal, forced to disk once a second", sync_ms, max(1.0, 1 / seconds_per_step)),
        StepPart("system metrics, every 10 s", system_ms, max(1.0, SAMPLE_SECONDS / seconds_per_step)),
        StepPart(
            "checkpoint, every epoch",
            checkpoint_ms,
            min(steps_per_epoch, 60 * runtime.checkpoint_minutes / seconds_per_step),
        ),
    ]


def _time_journal(file: Path, *, metrics: Mapping[str, float]) -> tuple[float, float]:
    """Milliseconds for a line, and for forcing lines to disk, which happens once a second."""
    clock = Clock()
    numbers = itertools.count()
    with Journal(file) as journal:
        line_ms = _median_ms(lambda: journal.write(next(numbers), {**metrics, **clock.metrics()}), repeats=500)
        sync_ms = _median_ms(journal.sync, before=lambda: journal.write(next(numbers), metrics))
    return line_ms, sync_ms


def _time_checkpoint(folder: Path, *, model: nn.Module, recipe: Recipe, classes: Sequence[str]) -> float:
    """Milliseconds for a checkpoint of ``model``, which has been trained: it has gradients."""
    from vswin.training import checkpoint
    from vswin.training.optim import build_optimizer

    optimizer = build_optimizer(model, recipe.optim)
    # a step on the gradients of the last one: moments as large as in training
    optimizer.step()
    state = checkpoint.TrainState(model=model, optimizer=optimizer)
    numbers = itertools.count()
    return _median_ms(lambda: checkpoint.save(folder, step=next(numbers), state=state, classes=classes))


# The commands that are typed most, and the seconds that each should stay below.
_ANSWERS = {
    "vswin list": (("list",), 0.5),
    "planning the entire paper at 5 seeds": (("launch", *tables(), "--scale=paper", "--seeds=5", "--dry-run"), 2.0),
}


@dataclass(frozen=True)
class CommandTime:
    """A command from start to end: median ``seconds``, and the ``goal`` that it should stay below."""

    name: str
    seconds: float
    goal: float


def measure_answers(*, repeats: int = 5) -> list[CommandTime]:
    """Commands in processes of their own, as a user has them, on a runs folder that is empty."""
    times = []
    with tempfile.TemporaryDirectory(prefix="vswin-bench-") as folder:
        environment = {**os.environ, "VSWIN_RUNS": folder}
        for name, (arguments, goal) in _ANSWERS.items():
            command = [sys.executable, "-m", "experiments", *arguments]

            def run(command: list[str] = command) -> None:
                answer = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, env=environment)
                # a dry run says with 1 that data or weights are missing, as they are here
                if answer.returncode > 1:
                    answer.check_returncode()

            run()
            times.append(CommandTime(name, _median_ms(run, repeats=repeats) / 1000, goal))
    return times


def answers_to_markdown(answers: list[CommandTime]) -> str:
    """A table of ``answers``."""
    lines = ["| | seconds | goal |", "|:--|--:|--:|"]
    return "\n".join([*lines, *(f"| {item.name} | {item.seconds:.2f} | below {item.goal:g} |" for item in answers)])


def to_markdown(parts: list[StepPart]) -> str:
    """A table of ``parts`` and the share of a step that is added."""
    step, *added = parts
    lines = ["| | ms | once in steps | ms per step | of a step |", "|:--|--:|--:|--:|--:|"]
    for part in parts:
        share = part.per_step / step.per_step
        lines.append(
            f"| {part.name} | {part.milliseconds:.3f} | {part.steps:.0f} | {part.per_step:.3f} | {share:.2%} |"
        )
    total = sum(part.per_step for part in added)
    lines.append(f"| **added by the suite** | | | {total:.3f} | **{total / step.per_step:.2%}** |")
    return "\n".join(lines)


def _median_ms(
    act: Callable[[], object], *, before: Callable[[], object] = lambda: None, repeats: int = _REPEATS
) -> float:
    durations = []
    for _ in range(repeats):
        before()
        start = time.perf_counter()
        act()
        durations.append(time.perf_counter() - start)
    return 1000 * statistics.median(durations)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    arguments = parser.parse_args()
    answers = measure_answers()
    print(f"Commands, {provenance.processor()}\n\n{answers_to_markdown(answers)}\n")
    parts = measure()
    print(f"Scale mini, {provenance.processor()}, one thread\n\n{to_markdown(parts)}")
    if arguments.json:
        content = {
            "machine": provenance.processor(),
            "answers": [asdict(item) for item in answers],
            "parts": [asdict(part) for part in parts],
        }
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
