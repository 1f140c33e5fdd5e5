"""A training that can be killed anywhere: a toy model, real videos, real loaders with workers, a real journal."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import torch

from experiments.runs.journal import Journal
from tests.support.toy_training import digest
from vswin.config import ClipConfig, DataConfig, OptimConfig
from vswin.data.annotations import Split, VideoList
from vswin.data.batch import TrainBatch
from vswin.data.sampler import TrainBatches
from vswin.models import create_model
from vswin.training.checkpoint import Checkpoints
from vswin.training.feed import Feed, Loading
from vswin.training.train import train
from vswin.training.watch import Watch

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
    order = TrainBatches(num_videos=len(videos), batch_size=OPTIM.batch_size, epochs=OPTIM.epochs, seed=seed)
    feed = Feed.of_videos(videos, order=order, config=DATA, loading=Loading(workers=2))
    with Journal(folder / "journal.jsonl") as journal:
        watch = _Deadly(folder, journal, stop=stop, places=places)

        def batches(step: int) -> Iterator[TrainBatch]:
            for batch in feed.batches(step):
                watch.die_at("batch")
                yield batch

        outcome = train(
            model,
            replace(feed, batches=batches),
            config=OPTIM,
            seed=seed,
            checkpoints=Checkpoints(directory=folder / "checkpoints", seconds=0.1),
            watch=watch,
        )
    return {"end": outcome.end, "step": outcome.step, "weights": digest(model), "tested": digest(outcome.model)}


class _Deadly(Watch):
    def __init__(self, folder: Path, journal: Journal, *, stop: Event, places: Mapping[str, int]) -> None:
        self.folder, self.journal, self.stop, self.places = folder, journal, stop, places
        self.last = 0

    def die_at(self, place: str) -> None:
        if self.places.get(place) == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.last = step
        state = hashlib.blake2b(torch.get_rng_state().numpy().tobytes(), digest_size=6).digest()
        # raises where a step that is computed again differs, the state of the random numbers included
        self.journal.write(step, {**metrics, "train/random": float(int.from_bytes(state, "big"))})
        self.die_at("log")
        if self.places.get("await stop") == step:
            (self.folder / "awaiting").touch()
            deadline = time.monotonic() + 60
            # not stop.wait(): the system may give the signal to another thread, and that would sleep on
            while not self.stop.is_set():
                assert time.monotonic() < deadline, "nobody asked for a stop within a minute"
                time.sleep(0.005)

    def before_save(self) -> None:
        self.journal.sync()
        self.die_at("save")

    def should_stop(self) -> bool:
        return self.stop.is_set()


def history(folder: Path) -> dict[int, dict[str, float]]:
    """What the journal says was computed, by step."""
    entries = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    steps = [entry["step"] for entry in entries]
    assert steps == list(range(1, len(steps) + 1)), steps
    return {
        entry["step"]: {name: value for name, value in entry["metrics"].items() if name.startswith("train/")}
        for entry in entries
    }
