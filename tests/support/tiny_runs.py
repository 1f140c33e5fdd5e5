"""Real runs of scale tiny, made once: one that is done, and one that was stopped on its way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np

from experiments.registry.catalogue import find_experiment, find_variant
from experiments.registry.recipe import Scale
from experiments.runs import journal
from experiments.runs.directory import RunDirectory
from experiments.runs.run import Run
from experiments.runs.runtime import default_runtime
from tests.support.command_line import vswin_command
from tests.support.patience import eventually

VARIANT = "table4/split"
# of the seed that is done, and of the one that was stopped
DONE, STOPPED = 0, 1


def run_of(seed: int) -> Run:
    return Run(find_experiment(Scale.TINY, find_variant(VARIANT)), seed)


def make_runs(folder: Path, *, data: Path, upstream: Path) -> None:
    """Fill the runs folder ``folder``."""
    shutil.copytree(upstream / "tiny", folder / "tiny", ignore=shutil.ignore_patterns("tracking.json"))
    variables = {
        "VSWIN_DATA": str(data),
        "VSWIN_RUNS": str(folder),
        "VSWIN_RESULTS": str(folder / "results"),
        # nothing answers there
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    signature = run_of(STOPPED).experiment.recipe.signature
    written = folder / "tiny" / signature / f"seed-{STOPPED}" / "journal.jsonl"
    code = "import sys; from tests.support.tiny_runs import go_on, run_of; go_on(run_of(int(sys.argv[1])))"
    for seed in (DONE, STOPPED):
        command = [*vswin_command()[:1], "-c", code, str(seed)]
        with subprocess.Popen(command, env={**os.environ, **variables}, stderr=subprocess.PIPE) as process:
            if seed == STOPPED:
                eventually(
                    "it trains", lambda: written.exists() and written.read_bytes().count(b"\n") >= 8, every=0.002
                )
                process.send_signal(signal.SIGTERM)
            _, said = process.communicate()
        assert process.returncode == (0 if seed == DONE else 1) or b"StopRequested" in said, said


def go_on(run: Run) -> None:
    """Train and test ``run`` in this process, without MLflow."""
    from experiments.job.body import run_one

    variant = run.experiment.variants[0].id
    run_one(run.scale, variant, run.experiment.recipe.signature, run.seed, runtime=default_runtime(run.scale))


def computed(run: RunDirectory) -> list[tuple[int, dict[str, float]]]:
    """What training and tests computed, by step."""
    own = ("train/", "val/", "test/")
    return [
        (entry.step, {name: value for name, value in entry.metrics.items() if name.startswith(own)})
        for entry, _ in journal.read(run.journal)
    ]


def scores(run: RunDirectory) -> np.ndarray:
    [path] = run.path.glob("tests/*.npz")
    with np.load(path) as archive:
        return archive["scores"]
