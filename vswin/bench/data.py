"""Clips per second and core, compared with the ceiling: decoding their frames and nothing else.

    python -m vswin.bench.data [--json FILE] [--repeats N]

Takes about a minute. Everything runs in one thread of this process; recipe and bare decoding take turns on the same
draws, so that other load on the machine slows both alike. The share is what remains of the decoding rate once a clip is
resized, cropped, flipped, augmented and collated. Times are of the processor, not of the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from vswin.config import ClipConfig, DataConfig, RandAugmentConfig, Sampling
from vswin.data import clips
from vswin.data.annotations import VideoList
from vswin.data.datasets import Streams, TrainClips
from vswin.data.sampler import Draw
from vswin.data.transforms import stack
from vswin.data.video import open_video

# Kinetics-400 as it is kept for training (shorter side 256, ten seconds), and Something-Something v2 as it is handed
# out (height 240, about four seconds at twelve frames a second).
_KINETICS = (256, 340, 30, 300)
_SOMETHING = (240, 426, 12, 48)


@dataclass(frozen=True)
class DecodeWorkload:
    """A recipe and the video it reads."""

    name: str
    config: DataConfig
    height: int
    width: int
    frame_rate: int
    num_frames: int
    bit_rate: int


WORKLOADS = (
    DecodeWorkload("Kinetics-400, 32x2 frames", DataConfig(dataset="bench"), *_KINETICS, bit_rate=450_000),
    DecodeWorkload(
        "Something-Something v2, 32 segments, RandAugment, erasing",
        DataConfig(
            dataset="bench",
            clip=ClipConfig(sampling=Sampling.UNIFORM),
            flip=0.0,
            rand_augment=RandAugmentConfig(),
            erasing=0.25,
        ),
        *_SOMETHING,
        bit_rate=250_000,
    ),
)


@dataclass(frozen=True)
class ClipRate:
    """Clips per second and core: the median, and the range of the middle half."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> ClipRate:
        slow, middle, fast = (1 / second for second in reversed(statistics.quantiles(seconds, n=4)))
        return cls(middle, slow, fast)

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.lower:.1f} to {self.upper:.1f})"


@dataclass(frozen=True)
class Result:
    """Measurements of a workload. ``share`` is of the decoding rate; 1 is the most there could be."""

    name: str
    decoding: ClipRate
    whole: ClipRate
    share: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print Markdown and, if asked, write JSON."""
    parser = argparse.ArgumentParser(description="clips per second and core, beside decoding alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here, too")
    parser.add_argument(
        "--repeats", type=int, default=100, metavar="N", help="clips per workload (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(workload, folder=Path(folder), repeats=options.repeats) for workload in WORKLOADS]
    machine = {
        "processor": _processor(),
        "torch": torch.__version__,
        "av": av.__version__,
        "python": platform.python_version(),
    }
    print(to_markdown(results, machine=machine, repeats=options.repeats))
    if options.json is not None:
        content = {"machine": machine, "repeats": options.repeats, "results": [asdict(result) for result in results]}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def measure(workload: DecodeWorkload, *, folder: Path, repeats: int) -> Result:
    """Time ``repeats`` draws of ``workload``, each once whole and once decoded only."""
    path = folder / f"{workload.num_frames}.mp4"
    write_test_video(path, workload)
    (folder / "train.txt").write_text(f"{path.name} 0\n")
    samples = TrainClips(VideoList.read(folder / "train.txt"), config=workload.config, seed=0)
    draws = [Draw(epoch, 0) for epoch in range(repeats)]
    for draw in draws[:2]:
        _ = _seconds_to_decode(path, draw, config=workload.config), _seconds_to_make(samples, draw)
    decoding, whole = [], []
    for draw in draws:
        decoding.append(_seconds_to_decode(path, draw, config=workload.config))
        whole.append(_seconds_to_make(samples, draw))
    return Result(workload.name, ClipRate.of(decoding), ClipRate.of(whole), sum(decoding) / sum(whole))


def write_test_video(path: Path, workload: DecodeWorkload) -> None:
    """An H.264 file of the size, length and bit rate of ``workload``: textures that drift, and grain.

    Key frames are where libx264 puts them by default, at most 250 frames apart, as re-encoding a data set leaves them.
    """
    rng = np.random.default_rng(0)
    height, width = workload.height, workload.width
    coarse = rng.integers(0, 256, (height // 16 + 2, width // 8 + 2, 3), dtype=np.uint8)
    texture = np.asarray(Image.fromarray(coarse).resize((2 * width, 2 * height), Image.Resampling.BICUBIC))
    grain = rng.integers(0, 12, (8, height, width, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=workload.frame_rate, options={"preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = workload.bit_rate
        for number in range(workload.num_frames):
            left, top = number % width, int(height / 2 * (1 + np.sin(number / 30)))
            pixels = texture[top : top + height, left : left + width] // 16 * 15 + grain[number % 8]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def to_markdown(results: Sequence[Result], *, machine: dict[str, str], repeats: int) -> str:
    """The table, and what it was measured on."""
    lines = [
        "| recipe | clips/s per core | decoding alone | share |",
        "|---|---|---|---|",
        *(f"| {result.name} | {result.whole} | {result.decoding} | {result.share:.0%} |" for result in results),
        "",
        f"{repeats} clips each, one thread, median and middle half. "
        + ", ".join(f"{k} {v}" for k, v in machine.items()),
    ]
    return "\n".join(lines)


def _seconds_to_decode(path: Path, draw: Draw, *, config: DataConfig) -> float:
    """The floor: the frames of ``draw`` as RGB arrays."""
    began = time.process_time()
    with open_video(path) as video:
        streams = Streams(0, draw, attempt=0)
        video.frames(clips.training_frames(video.num_frames, clip=config.clip, generator=streams.main))
    return time.process_time() - began


def _seconds_to_make(samples: TrainClips, draw: Draw) -> float:
    """The clip of ``draw`` and its copy into a batch."""
    began = time.process_time()
    stack([samples[draw].clips])
    return time.process_time() - began


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({os.cpu_count()} cores)" if names else platform.processor()


if __name__ == "__main__":
    main()
