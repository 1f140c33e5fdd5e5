"""Decoding, on files these tests make."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vswin.data.encoding import write_video
from vswin.data.video import VideoError, probe, read_frames

Pixels = NDArray[np.uint8]


def grey_steps(count: int, *, height: int, width: int) -> Pixels:
    """Frames of one grey each, ten levels apart, so that a decoded frame tells its number."""
    levels = (20 + 10 * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def number_of(frame: Pixels) -> int:
    return round((float(frame.mean()) - 20) / 10)


def encode(path: Path, frames: Pixels, *, pix_fmt: str = "yuv420p", options: dict[str, str] | None = None) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options=options or {})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def with_b_frames(tmp_path: Path) -> Path:
    path = encode(
        tmp_path / "b frames.mp4",
        grey_steps(20, height=48, width=64),
        options={"bf": "3", "b-adapt": "0", "g": "10", "sc_threshold": "0"},
    )
    with av.open(str(path)) as container:
        assert PictureType.B in {frame.pict_type for frame in container.decode(video=0)}
    return path


def test_frames_come_in_display_order_whatever_is_asked(with_b_frames: Path) -> None:
    wanted = [7, 0, 19, 7, 7, 3]
    frames = read_frames(with_b_frames, wanted)
    assert frames.shape == (6, 48, 64, 3)
    assert frames.dtype == np.uint8
    assert [number_of(frame) for frame in frames] == wanted


def test_probe_counts_frames(with_b_frames: Path) -> None:
    info = probe(with_b_frames)
    assert (info.num_frames, info.height, info.width, info.frame_rate) == (20, 48, 64, Fraction(10))


def test_probe_counts_packets_where_the_container_states_no_number(tmp_path: Path) -> None:
    path = encode(tmp_path / "count.mkv", grey_steps(7, height=16, width=16))
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 0
    assert probe(path).num_frames == 7


@pytest.mark.skipif(not hasattr(VideoStream, "index_entries"), reason="PyAV 16.0 does not show the index")
def test_probe_does_not_count_what_an_edit_list_leaves_out(with_b_frames: Path, tmp_path: Path) -> None:
    path = tmp_path / "trimmed.mp4"
    with av.open(str(with_b_frames)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        assert stream.time_base is not None
        start = int(Fraction(5, 10) / stream.time_base)
        for packet in source.demux(stream):
            if packet.size and packet.pts is not None and packet.dts is not None:
                # Frames before 0 are kept, for others to refer to, and not shown.
                packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, copy
                target.mux(packet)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 20
    assert probe(path).num_frames == 15
    assert [number_of(frame) for frame in read_frames(path, range(15))] == [*range(5, 20)]


def test_odd_sizes(tmp_path: Path) -> None:
    path = encode(tmp_path / "odd.mp4", grey_steps(3, height=33, width=35), pix_fmt="yuv444p")
    assert (probe(path).height, probe(path).width) == (33, 35)
    assert [number_of(frame) for frame in read_frames(path, [2, 0])] == [2, 0]


def test_colours_are_rgb(tmp_path: Path) -> None:
    red = np.zeros((4, 32, 32, 3), dtype=np.uint8)
    red[..., 0] = 255
    write_video(tmp_path / "red.mp4", red, frame_rate=8)
    mean = read_frames(tmp_path / "red.mp4", [0]).mean(axis=(0, 1, 2))
    assert mean == pytest.approx([255, 0, 0], abs=4)


def test_a_sized_video_is_refused_where_h264_cannot_hold_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected frames of even height and width, got 35x32"):
        write_video(tmp_path / "odd.mp4", grey_steps(2, height=32, width=35), frame_rate=8)


def truncated(path: Path, whole: bytes) -> None:
    path.write_bytes(whole[: len(whole) // 2])


def empty(path: Path, whole: bytes) -> None:
    path.write_bytes(b"")


def text(path: Path, whole: bytes) -> None:
    path.write_text("not a video\n" * 100)


def folder(path: Path, whole: bytes) -> None:
    path.mkdir()


def missing(path: Path, whole: bytes) -> None:
    pass


@pytest.mark.parametrize("damage", [truncated, empty, text, folder, missing])
def test_a_broken_file_is_named_with_what_to_do(
    tmp_path: Path, with_b_frames: Path, damage: Callable[[Path, bytes], None]
) -> None:
    path = tmp_path / "broken.mp4"
    damage(path, with_b_frames.read_bytes())
    for attempt in (lambda: probe(path), lambda: read_frames(path, [0])):
        with pytest.raises(VideoError, match=r"broken\.mp4: .*(replace|restore)"):
            attempt()


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match="expected a video stream, got none"):
        probe(path)


def test_a_frame_past_the_end_is_an_error(with_b_frames: Path) -> None:
    with pytest.raises(VideoError, match="expected a frame 20, got 20 frames in all"):
        read_frames(with_b_frames, [3, 20])


@pytest.mark.parametrize("indices", [[], [-1], [[0, 1]]])
def test_indices_must_be_a_row_from_zero(with_b_frames: Path, indices: list[int]) -> None:
    with pytest.raises(ValueError, match="expected a row of frame indices"):
        read_frames(with_b_frames, indices)
