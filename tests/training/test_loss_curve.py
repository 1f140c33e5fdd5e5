"""The losses of a tiny recipe, step by step, as they were when this was written: tests/golden/loss_curves/*.json.

A change that is meant to change no number shows here that it does not. One that is meant to shows what it changes,
in a diff, after

    .venv/bin/python -m tests.training.test_loss_curve

which adds this machine's curve under its key, or replaces it, and drops the curves of other recipes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from experiments.job.provenance import processor
from experiments.registry.catalogue import find_variant
from experiments.registry.recipe import Recipe, Scale
from tests.support.places import GOLDEN
from tests.support.rank_processes import ended, left, ranks
from vswin.data.annotations import Split, VideoList
from vswin.data.moving_digits import TINY, generate
from vswin.data.sampler import TrainBatches
from vswin.models import build
from vswin.training.checkpoint import Checkpoints
from vswin.training.feed import Feed, Loading
from vswin.training.train import train
from vswin.training.watch import Watch

FOLDER = GOLDEN / "loss_curves"
VARIANT = "table4/joint"
SEED = 0
# Other processors add up in other orders. ATEN_CPU_CAPABILITY=default and =avx2 differ from AVX-512 by 1.4e-7 here.
RELATIVE = 1e-5


def key() -> str:
    """What the bits depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    exact = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    model = "/".join(exact.get(name, "?") for name in ("cpu family", "model", "stepping"))
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{processor()} {model}, {instructions}, torch {torch.__version__}, 1 thread"


def recipe() -> Recipe:
    return find_variant(VARIANT).at(Scale.TINY)


def losses(data: Path, directory: Path) -> list[float]:
    """As a job trains it: the loss of every step."""
    torch.set_num_threads(1)
    tiny = recipe()
    torch.manual_seed(SEED)
    model = build(tiny.model)
    videos = VideoList.of_split(data, dataset=tiny.data.dataset, split=Split.TRAIN)
    order = TrainBatches(num_videos=len(videos), batch_size=tiny.optim.batch_size, epochs=tiny.optim.epochs, seed=SEED)
    curve: list[float] = []

    class Curve(Watch):
        def log(self, step: int, metrics: Mapping[str, float]) -> None:
            curve.append(metrics["train/loss"])

    train(
        model,
        Feed.of_videos(videos, order=order, config=tiny.data, loading=Loading(keep_decoded=True)),
        config=tiny.optim,
        seed=SEED,
        checkpoints=Checkpoints(directory=directory),
        watch=Curve(),
    )
    return curve


def golden() -> dict[str, Any]:
    path = FOLDER / f"{VARIANT.replace('/', '_')}.json"
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return content


def measured(data: Path, folder: Path) -> list[float]:
    ended(ranks(losses, data, folder / "checkpoints", size=1, folder=folder))
    [answer] = left(folder)
    assert "value" in answer, answer
    return answer["value"]


def test_losses_are_those_of_the_golden_curve(tiny_data: Path, tmp_path: Path) -> None:
    expected = golden()
    assert expected["signature"] == recipe().signature, f"another recipe than {VARIANT} had; see this file's docstring"
    curve = measured(tiny_data, tmp_path)
    if key() in expected["curves"]:
        assert curve == expected["curves"][key()]
    for machine, other in expected["curves"].items():
        assert curve == pytest.approx(other, rel=RELATIVE), machine


def test_the_golden_curve_falls() -> None:
    """A curve of a training that learns nothing would protect nothing."""
    for machine, curve in golden()["curves"].items():
        first, last = sum(curve[:5]) / 5, sum(curve[-5:]) / 5
        assert last < 0.98 * first, machine


def regenerate() -> None:
    with TemporaryDirectory() as folder:
        generate(Path(folder), task=TINY)
        curve = losses(Path(folder), Path(folder) / "checkpoints")
    content = golden()
    if content.get("signature") != recipe().signature:
        content = {}
    curves = {**content.get("curves", {}), key(): curve}
    content = {"variant": VARIANT, "scale": "tiny", "seed": SEED, "signature": recipe().signature, "curves": curves}
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{VARIANT.replace('/', '_')}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{path}: {len(curve)} steps, loss from {curve[0]:.4f} to {curve[-1]:.4f}")


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(regenerate())
