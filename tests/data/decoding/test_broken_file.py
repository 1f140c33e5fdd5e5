"""What is no video, or is one no more, is named and never hangs."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.video_files import H264_B_FRAMES, encode, grey_steps
from vswin.data.video import VideoError, probe, read_frames


def truncated(path: Path, whole: bytes) -> None:
    path.write_bytes(whole[: len(whole) // 2])


def empty(path: Path, whole: bytes) -> None:
    path.write_bytes(b"")


def text(path: Path, whole: bytes) -> None:
    path.write_text("not a video\n" * 100)


def noise(path: Path, whole: bytes) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(10_000))


def playlist(path: Path, whole: bytes) -> None:
    """FFmpeg would fetch what it names."""
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")


def concatenation(path: Path, whole: bytes) -> None:
    (path.parent / "other.mp4").write_bytes(whole)
    path.write_text("ffconcat version 1.0\nfile other.mp4\n")


def picture(path: Path, whole: bytes) -> None:
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width, stream.pix_fmt = 16, 16, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(grey_steps(1, height=16, width=16)[0], format="rgb24")))


def sound(path: Path, whole: bytes) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def folder(path: Path, whole: bytes) -> None:
    path.mkdir()


def missing(path: Path, whole: bytes) -> None:
    pass


def loop(path: Path, whole: bytes) -> None:
    path.symlink_to(path)


def named_pipe(path: Path, whole: bytes) -> None:
    os.mkfifo(path)


def unix_socket(path: Path, whole: bytes) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # the name of a socket holds 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)


DAMAGES = [
    truncated,
    empty,
    text,
    noise,
    playlist,
    concatenation,
    picture,
    sound,
    folder,
    missing,
    loop,
    named_pipe,
    unix_socket,
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("damage", DAMAGES)
def test_it_is_named_with_what_to_do(
    tmp_path: Path, damage: Callable[[Path, bytes], None], capfd: pytest.CaptureFixture[str]
) -> None:
    whole = encode(tmp_path / "whole.mp4", grey_steps(20), options=H264_B_FRAMES)
    path = tmp_path / "broken.mp4"
    damage(path, whole.read_bytes())
    for attempt in (lambda: probe(path), lambda: read_frames(path, [0])):
        with pytest.raises(VideoError, match=r"(replace|restore|correct|extract)") as caught:
            attempt()
        assert str(caught.value).startswith(f"{path}: ")
    assert capfd.readouterr() == ("", "")


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    sound(path, b"")
    with pytest.raises(VideoError, match="expected a video stream, got none"):
        probe(path)


def test_a_path_that_the_system_refuses_is_a_broken_video_and_no_crash(tmp_path: Path) -> None:
    # As one that a file server does not answer for, or below a folder without permission.
    path = tmp_path / ("x" * 300)
    for attempt in (lambda: probe(path), lambda: read_frames(path, [0])):
        with pytest.raises(VideoError, match=r"cannot be read .* correct the path or its permissions"):
            attempt()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = encode(tmp_path / "secret.mp4", grey_steps(3))
    path.chmod(0)
    with pytest.raises(VideoError, match=r"secret\.mp4: cannot be read .* correct its permissions"):
        probe(path)
