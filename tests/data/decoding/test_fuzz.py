"""Thousands of damaged files: each gives frames or a VideoError, and nothing is left behind."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.support.video_files import H264_B_FRAMES, encode, moving_blobs
from vswin.data.video import VideoError, open_video

SEED = 20210624
MEBIBYTE = 2**20


def originals(folder: Path) -> list[Path]:
    x265 = {"x265-params": "keyint=12:min-keyint=12:bframes=3:log-level=none:pools=none:frame-threads=1"}
    few_keys = {"g": "12", "threads": "1"}
    front = {"movflags": "faststart"}
    blobs = moving_blobs(30)
    return [
        encode(folder / "h264.mp4", blobs, options=H264_B_FRAMES, container_options=front),
        encode(folder / "h264.mkv", blobs, options=H264_B_FRAMES),
        encode(folder / "h264.ts", blobs, options=H264_B_FRAMES),
        encode(folder / "h264.flv", blobs, options=H264_B_FRAMES),
        encode(folder / "hevc.mp4", blobs, codec="libx265", options=x265, container_options=front),
        encode(folder / "vp8.webm", blobs, codec="libvpx", options=few_keys),
        encode(folder / "vp9.webm", blobs, codec="libvpx-vp9", options={**few_keys, "cpu-used": "8"}),
        encode(folder / "mpeg4.avi", blobs, codec="mpeg4", options=few_keys),
        encode(folder / "mpeg2.mpg", blobs, codec="mpeg2video", options=few_keys),
        encode(folder / "mjpeg.mp4", blobs, codec="mjpeg", pix_fmt="yuvj420p", container_options=front),
    ]


def damaged(whole: bytes, *, generator: np.random.Generator) -> bytes:
    data = bytearray(whole)
    # Headers, which lead further astray than pixels do, are hit half of the time.
    reach = len(data) if generator.random() < 0.5 else min(len(data), 2000)
    match generator.integers(5):
        case 0:
            for bit in generator.integers(0, 8 * reach, size=int(generator.integers(1, 40))):
                data[bit // 8] ^= 1 << (bit % 8)
        case 1:
            del data[int(generator.integers(len(data))) :]
        case 2:
            start = int(generator.integers(reach))
            data[start : start + int(generator.integers(1, 400))] = b""
        case 3:
            start = int(generator.integers(reach))
            data[start : start + 200] = generator.bytes(len(data[start : start + 200]))
        case _:
            start = int(generator.integers(reach))
            data[start : start + 8] = bytes([int(generator.choice([0, 0x7F, 0xFF]))]) * len(data[start : start + 8])
    return bytes(data)


def decode_damaged(folder: Path, *, count: int) -> Counter[str]:
    """Decode ``count`` damaged files and tell what became of them; no handle and no memory may be lost on the way."""
    generator = np.random.default_rng(SEED)
    wholes = [(path.suffix, path.read_bytes()) for path in originals(folder)]
    process = psutil.Process()
    handles = process.num_fds()
    outcomes: Counter[str] = Counter()
    for number in range(count):
        suffix, whole = wholes[number % len(wholes)]
        path = folder / f"damaged{suffix}"
        path.write_bytes(damaged(whole, generator=generator))
        outcomes[decode(path, generator=generator)] += 1
        assert process.num_fds() == handles
        # What is allocated once, by tables of codecs and by the allocator, is there after some files.
        if number == count // 4:
            memory = process.memory_info().rss
    grown = process.memory_info().rss - memory
    assert grown < 40 * MEBIBYTE, f"{grown / MEBIBYTE:.1f} MiB more after {count} files"
    outcomes["MiB more"] = grown // MEBIBYTE
    return outcomes


def decode(path: Path, *, generator: np.random.Generator) -> str:
    try:
        with open_video(path, time_limit=10) as video:
            frames = video.frames(generator.integers(0, min(video.num_frames, 100), size=5))
    except VideoError as error:
        return "error" if str(error).startswith(f"{path}: ") else f"an error that does not name the file: {error}"
    return "frames" if frames.dtype == np.uint8 and frames.shape[::3] == (5, 3) else f"a shape of {frames.shape}"


def test_a_hundred_damaged_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outcomes = decode_damaged(tmp_path, count=100)
    assert outcomes["frames"] > 10
    assert outcomes["frames"] + outcomes["error"] == 100
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_thousand_damaged_files(tmp_path: Path) -> None:
    outcomes = decode_damaged(tmp_path, count=1000)
    assert outcomes["frames"] > 100
    assert outcomes["frames"] + outcomes["error"] == 1000


def test_reading_again_and_again_takes_no_more_memory(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", moving_blobs(14, height=256, width=256), options=H264_B_FRAMES)
    process = psutil.Process()
    generator = np.random.default_rng(SEED)
    for number in range(240):
        if number == 40:
            memory, handles = process.memory_info().rss, process.num_fds()
        assert decode(path, generator=generator) == "frames"
    # One decoded frame left behind by each would be 39 MB.
    assert process.memory_info().rss - memory < 16 * MEBIBYTE
    assert process.num_fds() == handles
