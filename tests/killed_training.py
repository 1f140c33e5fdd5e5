"""A training that can be killed anywhere: a toy model, real videos, real loaders with workers, a real journal."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

import torch
from toy_training import CPU, digest

from experiments.journal import Journal
from vswin.config import ClipConfig, DataConfig, OptimConfig
from vswin.data.annotations import Split, VideoList
from vswin.data.datasets import TrainClips
from vswin.data.loaders import train_loader
from vswin.data.sampler import TrainBatches
from vswin.models import create_model
from vswin.training.train import train

DATA = DataConfig(
    dataset="moving-digits/tiny", clip=ClipConfig(length=4, interval=2), short_side=(24, 24), crop=16, area=(0.5, 1.0)
)
OPTIM = OptimConfig(lr=1e-2, batch_size=4, epochs=5, warmup_epochs=1.0, ema_decay=0.9)


def train_once(folder: Path, data: Path, seed: int, places: Mapping[str, int]) -> dict[str, Any]:
    """One attempt in ``folder``, that ends in ``{"weights": ..., "tested": ..., "step": ...}`` if nobody ends it.

    It kills itself in ``log`` of step ``places["log"]``, before it saves step ``places["save"]``, or asks for a batch
    after step ``places["batch"]``; all three are step boundaries, and other processes kill it elsewhere. SIGTERM
    makes it stop; in ``log`` of step ``places["await stop"]`` it waits for that.
    """
    torch.set_num_threads(1)
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    torch.manual_seed(seed)
    model = create_model(
        "swin_t", num_classes=6, embed_dim=8, depths=(2,), num_heads=(2,), window=(2, 4, 4), drop_path=0.5,
    )  # fmt: skip
    videos = VideoList.of_split(data, dataset=DATA.dataset, split=Split.TRAIN)
    clips = TrainClips(videos, config=DATA, seed=seed)
    batches = TrainBatches(num_videos=len(clips), batch_size=OPTIM.batch_size, epochs=OPTIM.epochs, seed=seed)
    last = 0

    def die_at(place: str) -> None:
        if places.get(place) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    with Journal(folder / "journal.jsonl") as journal:

        def log(step: int, metrics: Mapping[str, float]) -> None:
            nonlocal last
            last = step
            state = hashlib.blake2b(torch.get_rng_state().numpy().tobytes(), digest_size=6).digest()
            # raises where a step that is computed again differs, the state of the random numbers included
            journal.write(step, {**metrics, "train/random": float(int.from_bytes(state, "big"))})
            die_at("log")
            if places.get("await stop") == step:
                (folder / "awaiting").touch()
                deadline = time.monotonic() + 60
                # not stop.wait(): the system may give the signal to another thread, and that would sleep on
                while not stop.is_set():
                    assert time.monotonic() < deadline, "nobody asked for a stop within a minute"
                    time.sleep(0.005)

        def before_save() -> None:
            journal.sync()
            die_at("save")

        def feed(step: int) -> Any:
            for batch in train_loader(clips, batches=batches.starting_at(step), workers=2):
                die_at("batch")
                yield batch

        outcome = train(
            model,
            feed,
            config=OPTIM,
            steps_per_epoch=batches.steps_per_epoch,
            seed=seed,
            directory=folder / "checkpoints",
            device=CPU,
            log=log,
            warn=lambda message: None,
            before_save=before_save,
            should_stop=stop.is_set,
            checkpoint_seconds=0.1,
        )
    return {"end": outcome.end, "step": outcome.step, "weights": digest(model), "tested": digest(outcome.model)}


def history(folder: Path) -> dict[int, dict[str, float]]:
    """What the journal says was computed, by step."""
    entries = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    steps = [entry["step"] for entry in entries]
    assert steps == list(range(1, len(steps) + 1)), steps
    return {
        entry["step"]: {name: value for name, value in entry["metrics"].items() if name.startswith("train/")}
        for entry in entries
    }
