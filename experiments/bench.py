"""What the suite costs: a training at scale ``mini`` its journal and checkpoints, a user the wait for an answer.

``make bench`` prints it; ``python -m experiments.bench --json FILE`` also writes it. Needs about a minute on one core.
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
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from . import provenance
from .clock import Clock
from .journal import Journal
from .recipe import Scale
from .registry import find_variant, tables
from .runtime import default_runtime
from .system_metrics import SAMPLE_SECONDS, SystemMetrics

_EPOCHS = 2
_REPEATS = 15


@dataclass(frozen=True)
class Part:
    """A piece of work: ``milliseconds`` once (median), done once in ``steps`` steps."""

    name: str
    milliseconds: float
    steps: float

    @property
    def per_step(self) -> float:
        """Milliseconds per training step."""
        return self.milliseconds / self.steps


def measure() -> list[Part]:
    """The step first, then what is added to it."""
    import torch

    from vswin.data import moving_digits
    from vswin.data.annotations import Split, VideoList
    from vswin.data.datasets import TrainClips
    from vswin.data.loaders import train_loader
    from vswin.data.sampler import TrainBatches
    from vswin.models import build
    from vswin.training import checkpoint
    from vswin.training.optim import build_optimizer
    from vswin.training.train import train

    torch.set_num_threads(1)
    recipe = find_variant("table4/joint").at(Scale.MINI)
    runtime = default_runtime(Scale.MINI)
    model = build(recipe.model)
    with tempfile.TemporaryDirectory(prefix="vswin-bench-") as folder:
        videos = VideoList.in_folder(
            moving_digits.generate(Path(folder), task=moving_digits.KINETICS_400), split=Split.TRAIN
        )
        batches = TrainBatches(
            num_videos=len(videos), batch_size=recipe.optim.batch_size, epochs=recipe.optim.epochs, seed=0
        )
        clips = TrainClips(videos, config=recipe.data, seed=0, keep_decoded=True)
        steps = _EPOCHS * batches.steps_per_epoch
        logged: list[tuple[float, Mapping[str, float]]] = []
        # no journal, and checkpoints at the ends of epochs only, which fall outside the steps that are timed
        train(
            model,
            lambda step: train_loader(clips, batches=batches.starting_at(step)),
            config=recipe.optim,
            steps_per_epoch=batches.steps_per_epoch,
            seed=0,
            directory=Path(folder) / "checkpoints",
            device=torch.device("cpu"),
            log=lambda step, metrics: logged.append((time.perf_counter(), metrics)),
            warn=print,
            should_stop=lambda: len(logged) == steps,
        )
        # the first epoch also decodes every video
        second = logged[batches.steps_per_epoch + 1 :]
        durations = [after[0] - before[0] for before, after in itertools.pairwise(second)]
        step_ms = 1000 * statistics.median(durations)

        clock = Clock()
        journal = Journal(Path(folder) / "journal.jsonl")
        metrics = {**logged[-1][1], **clock.metrics()}
        numbers = iter(range(10**9))
        # what is forced to disk once a second is timed on its own
        journal_ms = _median_ms(lambda: journal.write(next(numbers), {**metrics, **clock.metrics()}), repeats=500)
        system_ms = _median_ms(SystemMetrics().sample)
        journal_sync_ms = _median_ms(journal.sync, before=lambda: journal.write(next(numbers), metrics))
        journal.close()
        optimizer = build_optimizer(model, recipe.optim)
        # the gradients of the last step are still there: moments as large as in training
        optimizer.step()
        state = checkpoint.State(model=model, optimizer=optimizer)
        saved = iter(range(10**9))
        checkpoint_ms = _median_ms(
            lambda: checkpoint.save(Path(folder) / "timed", step=next(saved), state=state, classes=videos.classes)
        )
    seconds_per_step = step_ms / 1000
    return [
        Part("training step", step_ms, 1),
        Part("journal, a line", journal_ms, 1),
        Part("journal, forced to disk once a second", journal_sync_ms, max(1.0, 1 / seconds_per_step)),
        Part("system metrics, every 10 s", system_ms, max(1.0, SAMPLE_SECONDS / seconds_per_step)),
        Part(
            "checkpoint, every epoch",
            checkpoint_ms,
            min(batches.steps_per_epoch, 60 * runtime.checkpoint_minutes / seconds_per_step),
        ),
    ]


# What is typed most, with what it should stay below.
_ANSWERS = {
    "vswin list": (("list",), 0.5),
    "planning the entire paper at 5 seeds": (("launch", *tables(), "--scale=paper", "--seeds=5", "--dry-run"), 2.0),
}


@dataclass(frozen=True)
class Answer:
    """How long a command takes from start to end: median seconds, and the ``goal`` it should stay below."""

    name: str
    seconds: float
    goal: float


def measure_answers(*, repeats: int = 5) -> list[Answer]:
    """Commands in processes of their own, as a user has them, on a runs folder that is empty."""
    answers = []
    with tempfile.TemporaryDirectory(prefix="vswin-bench-") as folder:
        environment = {**os.environ, "VSWIN_RUNS": folder}
        for name, (arguments, goal) in _ANSWERS.items():
            command = [sys.executable, "-m", "experiments", *arguments]

            def run(command: list[str] = command) -> None:
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)

            run()
            answers.append(Answer(name, _median_ms(run, repeats=repeats) / 1000, goal))
    return answers


def answers_to_markdown(answers: list[Answer]) -> str:
    """A table of ``answers``."""
    lines = ["| | seconds | goal |", "|:--|--:|--:|"]
    return "\n".join([*lines, *(f"| {item.name} | {item.seconds:.2f} | below {item.goal:g} |" for item in answers)])


def to_markdown(parts: list[Part]) -> str:
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
