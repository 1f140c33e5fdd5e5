"""Run directories as a training leaves them, with made-up numbers: for tests of what comes after."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from experiments.files import write_bytes, write_json, write_text
from experiments.registry.catalogue import Experiment, find_experiment, find_variant
from experiments.registry.recipe import Scale, to_dict
from experiments.runs.journal import Journal
from experiments.runs.run import Run

CLASSES = ("circle", "square", "triangle")


def experiment_of(variant: str, scale: Scale = Scale.TINY) -> Experiment:
    return find_experiment(scale, find_variant(variant))


def metrics_of(step: int, seed: int = 0) -> dict[str, float]:
    """As the training loop logs them."""
    return {
        "train/loss": 2.0 / (step + seed + 1),
        "train/lr": 1e-3,
        "train/top1": 100.0 * step / (step + 5),
        "speed/clips_per_second": 12.5,
        "memory/peak_gib": 0.25,
        "time/wall": step / 2,
        **({"system/cpu_utilization_percentage": 50.0} if step % 3 == 0 else {}),
    }


def make_up_run(variant: str, *, seed: int = 0, steps: int = 5, scale: Scale = Scale.TINY, done: bool = True) -> Run:
    """A run of ``variant`` of so many steps, tested or not."""
    experiment = experiment_of(variant, scale)
    made_up = Run(experiment, seed)
    run = made_up.directory
    run.path.mkdir(parents=True)
    write_json(run.recipe, to_dict(experiment.recipe))
    manifest = {"format": "folder", "source": "videos", "videos": 3, "classes": CLASSES, "num_classes": 3, "bytes": 9}
    write_json(
        run.datasets, {split: {**manifest, "fingerprint": f"{split:0<64}"} for split in ("train", "val", "test")}
    )
    write_json(run.code, {"name": "0123456789abcdef", "dirty": True})
    write_text(run.code_diff, "--- a\n+++ b\n")
    write_text(run.environment, "torch==2.11\n")
    extend(made_up, steps=steps)
    if done:
        for signature in experiment.protocols:
            write_bytes(run.result(signature).with_suffix(".npz"), _predictions())
            run.result(signature).write_text(json.dumps({"not": "a record"}))
    return made_up


def extend(run: Run, *, steps: int) -> None:
    """So many more steps in the journal of ``run``."""
    first = run.directory.last_step() + 1
    with Journal(run.directory.journal) as journal:
        for step in range(first, first + steps):
            journal.write(step, metrics_of(step, run.seed))


def _predictions() -> bytes:
    buffer = io.BytesIO()
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5], [0.1, 0.1, 0.8]])
    np.savez_compressed(buffer, scores=scores, labels=np.array([0, 1, 2]))
    return buffer.getvalue()


def copy_of(folder: Path, target: Path) -> Path:
    """A runs folder as a colleague has it who copied it: without the notes of what MLflow was told."""
    import shutil

    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("tracking.json", "mlflow*"))
    return target
