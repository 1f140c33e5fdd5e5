"""Small video files for the tests of decoding, and what tells their frames apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

# Key frames 12 apart with three B-frames in between, which refer to each other.
H264_B_FRAMES = {"bf": "3", "b-adapt": "0", "g": "12", "keyint_min": "12", "sc_threshold": "0", "threads": "1"}


def grey_steps(count: int, *, height: int = 48, width: int = 64) -> Pixels:
    """Frames of one grey each, ten levels apart, so that a decoded frame tells its number."""
    levels = (20 + 10 * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def number_of(frame: Pixels) -> int:
    """Number of a decoded frame of ``grey_steps``."""
    return round((float(frame.mean()) - 20) / 10)


def moving_blobs(count: int, *, height: int = 48, width: int = 64) -> Pixels:
    """Coloured blobs that move, so that every frame is unlike the others and needs the ones before it."""
    time, row, column = np.meshgrid(np.arange(count), np.arange(height), np.arange(width), indexing="ij")
    waves = [np.sin((row + speed * time) / 5) + np.cos((column - 2 * speed * time) / 7) for speed in (1, -1, 2)]
    return np.clip(127 + 60 * np.stack(waves, axis=-1), 0, 255).astype(np.uint8)


def encode(
    path: Path,
    frames: Pixels,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    turn: tuple[float, bool, bool] | None = None,
) -> Path:
    """Encode RGB ``frames``, uint8 [T, H, W, 3], at 10 frames per second.

    ``times`` are the frames' times in tenths of a second where they are not 0, 1, 2, ...; ``turn`` is the angle of the
    display matrix in degrees, counter-clockwise, and whether it mirrors left to right and top to bottom.
    """
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=10, options=options or {})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        stream.codec_context.time_base = Fraction(1, 10)
        if turn is not None:
            angle, mirror, flip = turn
            stream.set_display_rotation(angle, hflip=mirror, vflip=flip)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def copy_shifted(source: Path, target: Path, *, seconds: Fraction) -> Path:
    """Copy without encoding, every time moved by ``seconds``; what then comes before 0 is hidden by an edit list."""
    with av.open(str(source)) as original, av.open(str(target), "w") as container:
        stream = original.streams.video[0]
        copy = container.add_stream_from_template(stream)
        assert stream.time_base is not None
        shift = int(seconds / stream.time_base)
        for packet in original.demux(stream):
            if packet.size and packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, copy
                container.mux(packet)
    return target


def copy_edited(source: Path, target: Path, *, edit: Callable[[int, bytearray], None]) -> Path:
    """Copy without encoding; ``edit`` is given the number and the bytes of each packet, in coding order."""
    with av.open(str(source)) as original, av.open(str(target), "w") as container:
        copy = container.add_stream_from_template(original.streams.video[0])
        for number, packet in enumerate(original.demux(video=0)):
            if packet.size:
                data = bytearray(packet)
                edit(number, data)
                edited = av.Packet(bytes(data))
                edited.pts, edited.dts, edited.time_base = packet.pts, packet.dts, packet.time_base
                edited.is_keyframe, edited.stream = packet.is_keyframe, copy
                container.mux(edited)
    return target


def decoded_from_start(path: Path) -> Pixels:
    """All frames of the best video stream, by the plainest use of PyAV."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        assert stream is not None
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
