"""A program that loads batches with workers, for tests that stop or kill it: loading.py LIST."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from vswin.config import ClipConfig, DataConfig
from vswin.data.annotations import VideoList
from vswin.data.datasets import TrainClips
from vswin.data.loaders import train_loader
from vswin.data.sampler import TrainBatches

CONFIG = DataConfig(dataset="test", clip=ClipConfig(length=4, interval=2), short_side=(24, 24), crop=16)


def main() -> None:
    """Say every batch that came, until a stop signal; then three more, as a loop that finishes its step."""
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: stopped.append(number))
    videos = VideoList.read(Path(sys.argv[1]))
    batches = TrainBatches(num_videos=len(videos), batch_size=2, epochs=100_000, seed=0)
    after = 0
    for _ in train_loader(TrainClips(videos, config=CONFIG, seed=0), batches=batches, workers=2):
        print("batch", flush=True)
        after += bool(stopped)
        # More than the workers have prepared: somebody has to make new ones.
        if after == 30:
            print("finished", flush=True)
            return


if __name__ == "__main__":
    main()
