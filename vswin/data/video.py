"""Decoding with PyAV: what a video file holds, and the frames asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import ArrayLike, NDArray


class VideoError(Exception):
    """A video file that is missing, unreadable or shorter than it claims; the message starts with its path."""


@dataclass(frozen=True)
class VideoInfo:
    """What the container says of its first video stream. ``frame_rate`` is None where it does not know."""

    num_frames: int
    height: int
    width: int
    frame_rate: Fraction | None


def probe(path: Path) -> VideoInfo:
    """Frame count, size in pixels and frame rate of the first video stream, without decoding it.

    Frames that an MP4 edit list leaves out, as a trim without encoding does, are not counted. Packets are counted
    where the container states no number of frames. Raises VideoError.
    """
    with _open(path) as (container, stream):
        if stream.frames:
            # PyAV 16.0 does not show the index, and counts all frames.
            num_frames = stream.frames - sum(entry.is_discard for entry in getattr(stream, "index_entries", ()))
        else:
            # Flushing packets at the end of a stream are empty.
            num_frames = sum(packet.size > 0 and not packet.is_discard for packet in container.demux(stream))
        if num_frames == 0:
            raise VideoError(f"{path}: expected at least one frame, got none; replace the file")
        return VideoInfo(num_frames, stream.height, stream.width, stream.average_rate)


def read_frames(path: Path, indices: ArrayLike) -> NDArray[np.uint8]:
    """The frames at ``indices`` (in display order, from 0) as RGB: uint8 [T, H, W, 3].

    ``indices`` may repeat and need not be sorted. Frames after the last one asked for are not decoded. Raises
    VideoError where the file cannot be decoded that far, ValueError where ``indices`` is empty, negative or not a row.
    """
    wanted = np.asarray(indices)
    if wanted.ndim != 1 or wanted.size == 0 or wanted.min() < 0:
        raise ValueError(f"expected a row of frame indices from 0 on, got {indices!r}")
    unique, back = np.unique(wanted, return_inverse=True)
    missing = set(unique.tolist())
    frames: list[NDArray[np.uint8]] = []
    # One converter for all frames, without threads: a frame's own one costs six times the decoding of a small frame.
    converter = VideoReformatter()
    with _open(path) as (container, stream):
        decoded = 0
        for frame in container.decode(stream):
            if decoded in missing:
                rgb = converter.reformat(frame, format="rgb24", threads=1)
                frames.append(np.asarray(rgb.to_ndarray(), dtype=np.uint8))
                missing.discard(decoded)
            decoded += 1
            if not missing:
                break
    if missing:
        raise VideoError(
            f"{path}: expected a frame {max(missing)}, got {decoded} frames in all; "
            "the file is cut off or its header lies: replace it, or run: vswin data check"
        )
    sizes = {frame.shape for frame in frames}
    if len(sizes) > 1:
        raise VideoError(f"{path}: expected frames of one size, got {sorted(sizes)}; re-encode the file")
    return np.stack(frames)[back]


@contextmanager
def _open(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream; whatever FFmpeg complains of inside becomes a VideoError."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path}: expected a video stream, got none; replace the file")
            stream = container.streams.video[0]
            # Parallelism is over files; threads of a decoder would only wait for each other.
            stream.thread_type = "NONE"
            yield container, stream
    except FileNotFoundError as error:
        raise VideoError(f"{path}: no such file; restore it, or generate or prepare the data set again") from error
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{path}: cannot be decoded ({error.strerror}); replace the file") from error
