"""What a terminal of 80 columns shows is whole."""

from __future__ import annotations

import io

from rich.console import Console

from experiments.plan import Action, Step
from experiments.progress import RunProgress
from experiments.recipe import Scale
from experiments.registry import find_experiment, find_variant


def test_the_time_left_is_readable_at_80_columns() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    step = Step(find_experiment(Scale.PAPER, find_variant("table4/factorized")), 0, Action.SUBMIT, "")
    with RunProgress(console, step) as progress:
        metrics = {"train/loss": 1.234, "train/lr": 1e-3, "speed/clips_per_second": 1234.5, "train/epoch": 1.4}
        progress.step(5000, metrics)
    assert isinstance(console.file, io.StringIO)
    drawn = console.file.getvalue()
    assert "loss 1.23  lr 1e-03  1234 clips/s -:--:--" in drawn
    assert "…" not in drawn
