"""What a terminal of 80 columns shows is whole."""

from __future__ import annotations

import io

from rich.console import Console

from experiments.cli.progress import RunProgress
from experiments.launch.plan import Action, Step
from experiments.registry.catalogue import find_experiment, find_variant
from experiments.registry.recipe import Scale
from experiments.runs.run import Run


def test_the_time_left_is_readable_at_80_columns() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    step = Step(Run(find_experiment(Scale.PAPER, find_variant("table4/factorized")), 0), Action.SUBMIT, "")
    with RunProgress(console) as progress:
        progress.started(step)
        metrics = {"train/loss": 1.234, "train/lr": 1e-3, "speed/clips_per_second": 1234.5, "train/epoch": 1.4}
        progress.logged(5000, metrics)
    assert isinstance(console.file, io.StringIO)
    drawn = console.file.getvalue()
    assert "loss 1.23  lr 1e-03  1234 clips/s -:--:--" in drawn
    assert "…" not in drawn
