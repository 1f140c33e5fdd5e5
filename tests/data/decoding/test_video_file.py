"""Decoding, on files these tests make: the frames asked for are those that decoding from the start gives."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from tests.support.video_files import (
    H264_B_FRAMES,
    Pixels,
    copy_edited,
    copy_shifted,
    decoded_from_start,
    encode,
    grey_steps,
    moving_blobs,
    number_of,
)
from vswin.data.decoding import video_file
from vswin.data.decoding.video_source import MAX_PIXELS
from vswin.data.encoding import write_video
from vswin.data.video import Decoder, VideoError, open_video, probe, read_frames


@pytest.fixture
def with_b_frames(tmp_path: Path) -> Path:
    path = encode(tmp_path / "b frames.mp4", grey_steps(20), options=H264_B_FRAMES)
    with av.open(str(path)) as container:
        assert PictureType.B in {frame.pict_type for frame in container.decode(video=0)}
    return path


def test_frames_come_in_display_order_whatever_is_asked(with_b_frames: Path) -> None:
    wanted = [7, 0, 19, 7, 7, 3]
    frames = read_frames(with_b_frames, wanted)
    assert frames.shape == (6, 48, 64, 3)
    assert frames.dtype == np.uint8
    assert frames.flags.c_contiguous
    assert [number_of(frame) for frame in frames] == wanted


def test_counting_by_an_index_has_a_time_limit(with_b_frames: Path) -> None:
    video = video_file.VideoFile(with_b_frames, time_limit=5)
    # as if its index took longer
    video._time_limit = -1
    with pytest.raises(VideoError, match="not decoded within -1 s; replace the file or raise time_limit"):
        _ = video.num_frames
    video.close()


def test_probe_counts_frames(with_b_frames: Path) -> None:
    info = probe(with_b_frames)
    assert (info.num_frames, info.height, info.width, info.frame_rate) == (20, 48, 64, Fraction(10))


def test_one_opening_serves_many_readings(with_b_frames: Path) -> None:
    with open_video(with_b_frames) as video:
        assert video.num_frames == 20
        for wanted in ([19], [0, 1], [13, 5], range(20)):
            assert [number_of(frame) for frame in video.frames(wanted)] == list(wanted)
        assert video.info == probe(with_b_frames)


X265 = {"x265-params": "keyint=12:min-keyint=12:bframes=3:open-gop=1:log-level=none:pools=none:frame-threads=1"}
HIDDEN_FRAMES = {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "8", "threads": "1", "cpu-used": "8"}
FEW_KEYS = {"g": "12", "bf": "2"}
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}
MADE: dict[str, Callable[[Path], Path]] = {
    "h264": lambda folder: encode(folder / "v.mp4", moving_blobs(40), options=H264_B_FRAMES),
    "h264, open groups": lambda folder: encode(
        folder / "v.mp4", moving_blobs(40), options={**H264_B_FRAMES, "x264-params": "open-gop=1"}
    ),
    "h264, refreshed in columns": lambda folder: encode(
        folder / "v.mp4", moving_blobs(40), options={**H264_B_FRAMES, "bf": "0", "intra-refresh": "1"}
    ),
    "h264, interlaced": lambda folder: encode(
        folder / "v.mp4", moving_blobs(40), options={**H264_B_FRAMES, "x264-params": "tff=1"}
    ),
    "h264, 10 bits": lambda folder: encode(
        folder / "v.mp4", moving_blobs(40), options=H264_B_FRAMES, pix_fmt="yuv420p10le"
    ),
    "h264, odd size": lambda folder: encode(
        folder / "v.mp4", moving_blobs(40, height=33, width=35), options=H264_B_FRAMES, pix_fmt="yuv444p"
    ),
    "h264, variable frame rate": lambda folder: encode(
        folder / "v.mp4", moving_blobs(40), options=H264_B_FRAMES, times=[n + n * n // 7 for n in range(40)]
    ),
    "h264, late start": lambda folder: copy_shifted(
        encode(folder / "early.mp4", moving_blobs(40), options=H264_B_FRAMES), folder / "v.mkv", seconds=Fraction(5)
    ),
    "h264, trimmed by an edit list": lambda folder: copy_shifted(
        encode(folder / "whole.mp4", moving_blobs(40), options=H264_B_FRAMES), folder / "v.mp4", seconds=Fraction(-1, 2)
    ),
    "h264, fragmented": lambda folder: encode(
        folder / "v.mp4", moving_blobs(40), options=H264_B_FRAMES, container_options=FRAGMENTED
    ),
    "h264 in Matroska": lambda folder: encode(folder / "v.mkv", moving_blobs(40), options=H264_B_FRAMES),
    "h264 in a transport stream": lambda folder: encode(folder / "v.ts", moving_blobs(40), options=H264_B_FRAMES),
    "hevc, open groups": lambda folder: encode(folder / "v.mp4", moving_blobs(40), codec="libx265", options=X265),
    "vp8": lambda folder: encode(folder / "v.webm", moving_blobs(40), codec="libvpx", options=HIDDEN_FRAMES),
    "vp9": lambda folder: encode(folder / "v.webm", moving_blobs(40), codec="libvpx-vp9", options=HIDDEN_FRAMES),
    "mpeg4": lambda folder: encode(folder / "v.mp4", moving_blobs(40), codec="mpeg4", options=FEW_KEYS),
    "mpeg4 in AVI": lambda folder: encode(folder / "v.avi", moving_blobs(40), codec="mpeg4", options=FEW_KEYS),
    "mpeg2": lambda folder: encode(folder / "v.mpg", moving_blobs(40), codec="mpeg2video", options=FEW_KEYS),
    "mjpeg": lambda folder: encode(folder / "v.mp4", moving_blobs(40), codec="mjpeg", pix_fmt="yuvj420p"),
    "lossless": lambda folder: encode(folder / "v.mkv", moving_blobs(40), codec="ffv1"),
}
DECODED_FROM_THE_START = {
    "h264, interlaced",
    "h264 in a transport stream",
    "mpeg4 in AVI",
    "mpeg2",
    "lossless",
}


@pytest.mark.parametrize("kind", MADE)
def test_what_is_read_is_what_decoding_from_the_start_gives(tmp_path: Path, kind: str) -> None:
    path = MADE[kind](tmp_path)
    expected = decoded_from_start(path)
    info = probe(path)
    assert (info.num_frames, info.height, info.width) == expected.shape[:3]
    assert np.array_equal(read_frames(path, range(info.num_frames)), expected)
    with open_video(path) as video:
        for number in range(info.num_frames):
            assert np.array_equal(video.frames([number])[0], expected[number]), number
        for wanted in ([0, 39], [1, 15, 30], [3, 5, 28, 29, 34], range(14, 34, 2)):
            inside = np.minimum(wanted, info.num_frames - 1)
            assert np.array_equal(video.frames(inside), expected[inside])


@pytest.mark.parametrize("kind", MADE)
def test_no_more_is_decoded_than_needed(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = MADE[kind](tmp_path)
    decoded: list[int | None] = []

    class Counting(video_file._Found):
        def add(self, number: int, frame: av.VideoFrame) -> None:
            decoded.append(frame.pts)
            super().add(number, frame)

    monkeypatch.setattr(video_file, "_Found", Counting)
    last = probe(path).num_frames - 1
    decoded.clear()
    read_frames(path, [1, last])
    # Two groups of twelve at most, where decoding can start at their key frames.
    if kind in DECODED_FROM_THE_START:
        assert len(decoded) == last + 1
    elif kind != "h264, refreshed in columns":
        assert len(decoded) <= 2 + 12


@pytest.mark.parametrize("container", ["avi", "mkv", "mp4"])
def test_packets_that_say_not_coded_are_no_frames(container: str, tmp_path: Path) -> None:
    """XviD and DivX drop frames so: in the middle, and at the end, where FFmpeg repeats the last one once."""
    original = encode(tmp_path / f"whole.{container}", moving_blobs(40), codec="mpeg4", options=FEW_KEYS)
    path = tmp_path / f"dropped.{container}"

    def drop(number: int, data: bytearray) -> None:
        if number in (15, 16, 17, 38, 39):
            # start code; P; no second over; marker; time, of 10 a second; marker; not coded; stuffing
            bits = f"01{0}1{number % 10:04b}1{0}{0}"
            bits += "1" * (-len(bits) % 8)
            data[:] = b"\0\0\1\xb6" + int(bits, 2).to_bytes(len(bits) // 8, "big")

    copy_edited(original, path, edit=drop)
    expected = decoded_from_start(path)
    assert len(expected) < 40
    assert probe(path).num_frames == len(expected)
    assert np.array_equal(read_frames(path, range(len(expected))), expected)
    for number in range(len(expected)):
        for wanted in ([number], [0, number], [number, len(expected) - 1]):
            assert np.array_equal(read_frames(path, wanted), expected[wanted]), wanted


def test_a_frame_that_is_only_referred_to_is_not_counted(tmp_path: Path) -> None:
    original = MADE["vp8"](tmp_path)
    path = tmp_path / "hidden.webm"

    def hide(number: int, data: bytearray) -> None:
        if number == 7:
            data[0] &= ~0x10  # RFC 6386, 9.1: show_frame

    copy_edited(original, path, edit=hide)
    expected = np.delete(decoded_from_start(original), 7, axis=0)
    assert probe(path).num_frames == 39
    assert np.array_equal(read_frames(path, range(39)), expected)
    assert np.array_equal(read_frames(path, [30]), expected[[30]])


def test_probe_counts_packets_where_the_container_states_no_number(tmp_path: Path) -> None:
    path = encode(tmp_path / "count.mkv", grey_steps(7))
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 0
    assert probe(path).num_frames == 7


def test_what_an_edit_list_leaves_out_is_no_frame(with_b_frames: Path, tmp_path: Path) -> None:
    path = copy_shifted(with_b_frames, tmp_path / "trimmed.mp4", seconds=Fraction(-1, 2))
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 20
    assert probe(path).num_frames == 15
    assert [number_of(frame) for frame in read_frames(path, range(15))] == [*range(5, 20)]


def test_a_header_that_announces_more_than_the_file_holds(tmp_path: Path) -> None:
    whole = encode(
        tmp_path / "whole.mp4",
        moving_blobs(40),
        options={"bf": "0", "g": "12"},
        container_options={"movflags": "faststart"},
    )
    path = tmp_path / "half.mp4"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 40
    num_frames = probe(path).num_frames
    assert 0 < num_frames < 40
    assert np.array_equal(read_frames(path, range(num_frames)), read_frames(whole, range(num_frames)))
    with pytest.raises(VideoError, match=f"half.mp4: expected a frame {num_frames}, got {num_frames} frames in all"):
        read_frames(path, [num_frames])


TURNS = {
    (0, False, False): lambda pixels: pixels,
    (90, False, False): lambda pixels: np.rot90(pixels, 1, axes=(1, 2)),
    (180, False, False): lambda pixels: np.rot90(pixels, 2, axes=(1, 2)),
    (270, False, False): lambda pixels: np.rot90(pixels, 3, axes=(1, 2)),
    (0, True, False): lambda pixels: pixels[:, :, ::-1],
    (0, False, True): lambda pixels: pixels[:, ::-1],
}


@pytest.mark.parametrize("turn", TURNS)
def test_pixels_come_out_upright(tmp_path: Path, turn: tuple[float, bool, bool]) -> None:
    blobs = moving_blobs(5)
    stored = read_frames(encode(tmp_path / "stored.mp4", blobs), range(5))
    path = encode(tmp_path / "turned.mp4", blobs, turn=turn)
    upright = TURNS[turn](stored)
    assert np.array_equal(read_frames(path, range(5)), upright)
    info = probe(path)
    assert (info.height, info.width) == upright.shape[1:3]


def test_a_cover_picture_is_not_the_video(tmp_path: Path) -> None:
    path = tmp_path / "covered.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 96, 96, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        video = container.add_stream("libx264", rate=10)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((96, 96, 3), dtype=np.uint8), format="rgb24")
        container.mux(cover.encode(picture))
        for pixels in grey_steps(6):
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(cover.encode())
        container.mux(video.encode())
    with av.open(str(path)) as container:
        assert {stream.width for stream in container.streams.video} == {96, 64}
    info = probe(path)
    assert (info.num_frames, info.height, info.width) == (6, 48, 64)
    assert number_of(read_frames(path, [4])[0]) == 4


def test_a_change_of_size_is_named(tmp_path: Path) -> None:
    path = tmp_path / "both.ts"
    small = encode(tmp_path / "small.ts", grey_steps(5))
    large = encode(tmp_path / "large.ts", grey_steps(5, height=64, width=96))
    path.write_bytes(small.read_bytes() + large.read_bytes())
    assert read_frames(path, range(4)).shape == (4, 48, 64, 3)
    with pytest.raises(VideoError, match=r"both\.ts: expected frames of one size, 64x48, got 96x64 at frame \d"):
        read_frames(path, range(10))


def test_absurd_sizes_are_refused(tmp_path: Path) -> None:
    original = MADE["vp8"](tmp_path)
    assert MAX_PIXELS < 16383 * 16383
    path = tmp_path / "bomb.webm"

    def enlarge(number: int, data: bytearray) -> None:
        if number == 0:
            data[6:10] = b"\xff\x3f\xff\x3f"  # RFC 6386, 9.1: width and height, 14 bits each

    copy_edited(original, path, edit=enlarge)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(VideoError, match=r"bomb\.webm: "):
        probe(path)
    # A frame of that size takes 400 MB before it is converted.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100_000


def test_colours_are_rgb(tmp_path: Path) -> None:
    red = np.zeros((4, 32, 32, 3), dtype=np.uint8)
    red[..., 0] = 255
    write_video(tmp_path / "red.mp4", red, frame_rate=8)
    mean = read_frames(tmp_path / "red.mp4", [0]).mean(axis=(0, 1, 2))
    assert mean == pytest.approx([255, 0, 0], abs=4)


def test_a_sized_video_is_refused_where_h264_cannot_hold_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected frames of even height and width, got 35x32"):
        write_video(tmp_path / "odd.mp4", grey_steps(2, height=32, width=35), frame_rate=8)


def test_a_frame_past_the_end_is_an_error(with_b_frames: Path) -> None:
    with pytest.raises(VideoError, match="expected a frame 20, got 20 frames in all"):
        read_frames(with_b_frames, [3, 20])


@pytest.mark.parametrize("indices", [[], [-1], [[0, 1]], [0.5]])
def test_indices_must_be_a_row_from_zero(with_b_frames: Path, indices: list[int]) -> None:
    with pytest.raises(ValueError, match="expected a row of frame indices"):
        read_frames(with_b_frames, indices)


def test_a_name_that_looks_like_a_url_or_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("http:clip.mp4", "a%03d.mp4", "ein Wort äöü.mp4"):
        encode(tmp_path / "v.mp4", grey_steps(3)).rename(name)
        assert probe(Path(name)).num_frames == 3


def test_decoding_ends_at_the_time_limit(with_b_frames: Path) -> None:
    with pytest.raises(VideoError, match=r"b frames\.mp4: not decoded within 0 s; .* raise time_limit"):
        read_frames(with_b_frames, [3], time_limit=0)


def frames_of(pixels: Pixels) -> list[int]:
    return [number_of(frame) for frame in pixels]


def test_two_open_videos_do_not_disturb_each_other(with_b_frames: Path, tmp_path: Path) -> None:
    other = encode(tmp_path / "other.mkv", grey_steps(20), options=H264_B_FRAMES)
    with open_video(with_b_frames) as first, open_video(other) as second:
        assert frames_of(first.frames([13])) == [13]
        assert frames_of(second.frames([2])) == [2]
        assert frames_of(first.frames([1])) == [1]


def test_a_decoder_that_is_not_installed_is_named(with_b_frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "vswin.data.decoding.torchcodec_file", raising=False)
    for name in ("torchcodec", "torchcodec.decoders"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"expected torchcodec and FFmpeg .* or use the decoder pyav"):
        read_frames(with_b_frames, [0], decoder=Decoder.TORCHCODEC)
