"""torchcodec behind the same interface gives the same frames; skipped where that extra is not installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.video_files import H264_B_FRAMES, encode, moving_blobs
from vswin.data.video import Decoder, VideoError, open_video, probe, read_frames

pytest.importorskip("torchcodec.decoders")

X265 = {"x265-params": "keyint=12:min-keyint=12:bframes=3:log-level=none:pools=none:frame-threads=1"}
FEW_KEYS = {"g": "12", "threads": "1"}
# Not among them: 10 bits with halved colour planes, and odd sizes. There colours are resampled, and the FFmpeg of the
# machine and that of PyAV place them differently.
FILES = {
    "h264.mp4": {"options": H264_B_FRAMES},
    "h264.mkv": {"options": H264_B_FRAMES},
    "full range.mp4": {"options": H264_B_FRAMES, "pix_fmt": "yuvj420p"},
    "every colour.mp4": {"options": H264_B_FRAMES, "pix_fmt": "yuv444p"},
    "turned.mp4": {"options": H264_B_FRAMES, "turn": (90, False, False)},
    "hevc.mp4": {"codec": "libx265", "options": X265},
    "vp8.webm": {"codec": "libvpx", "options": FEW_KEYS},
    "vp9.webm": {"codec": "libvpx-vp9", "options": FEW_KEYS},
    "mpeg4.mp4": {"codec": "mpeg4", "options": FEW_KEYS},
}


@pytest.mark.parametrize("name", FILES)
def test_both_decoders_give_the_same_pixels(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, moving_blobs(30), **FILES[name])
    assert probe(path, decoder=Decoder.TORCHCODEC) == probe(path)
    for wanted in (range(30), [29, 3, 3, 14]):
        ours = read_frames(path, wanted)
        theirs = read_frames(path, wanted, decoder=Decoder.TORCHCODEC)
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)


def test_frames_past_the_end_are_an_error(tmp_path: Path) -> None:
    path = encode(tmp_path / "short.mp4", moving_blobs(5))
    with (
        open_video(path, decoder=Decoder.TORCHCODEC) as video,
        pytest.raises(VideoError, match=r"short\.mp4: expected a frame 5, got 5 frames in all"),
    ):
        video.frames([0, 5])


@pytest.mark.parametrize("content", [b"", b"not a video\n" * 100])
def test_what_is_no_video_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"text\.mp4: .* replace the file"):
        probe(path, decoder=Decoder.TORCHCODEC)
