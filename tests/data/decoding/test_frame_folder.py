"""Folders of numbered images are videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.video_files import Pixels, grey_steps, moving_blobs, number_of
from vswin.data.video import VideoError, VideoInfo, open_video, probe, read_frames


def save(folder: Path, frames: Pixels, *, name: str = "img_{:05}.jpg", first: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    for number, pixels in enumerate(frames, start=first):
        Image.fromarray(pixels).save(folder / name.format(number))
    return folder


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", ["img_{:05}.jpg", "{:06}.JPEG", "frame{}.png", "clip 2-{:03}.png"])
def test_frames_come_in_the_order_of_their_numbers(tmp_path: Path, name: str, first: int) -> None:
    folder = save(tmp_path / "video.mp4", grey_steps(12), name=name, first=first)
    assert probe(folder) == VideoInfo(num_frames=12, height=48, width=64, frame_rate=None)
    wanted = [10, 0, 11, 2, 2]
    frames = read_frames(folder, wanted)
    assert frames.shape == (5, 48, 64, 3)
    assert frames.dtype == np.uint8
    assert [number_of(frame) for frame in frames] == wanted


def test_pixels_are_those_of_the_images(tmp_path: Path) -> None:
    blobs = moving_blobs(3, height=33, width=35)
    assert np.array_equal(read_frames(save(tmp_path / "v", blobs, name="{}.png"), range(3)), blobs)


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    folder.mkdir()
    Image.new("L", (8, 8), 70).save(folder / "1.png")
    Image.new("RGBA", (8, 8), (70, 70, 70, 255)).save(folder / "2.png")
    assert np.array_equal(read_frames(folder, [0, 1]), np.full((2, 8, 8, 3), 70))


def test_what_lies_beside_the_frames_is_ignored(tmp_path: Path) -> None:
    folder = save(tmp_path / "v", grey_steps(3))
    save(folder, grey_steps(5), name="flow_x_{:05}.jpg")
    (folder / "Thumbs.db").write_bytes(b"x")
    with open_video(folder) as video:
        assert video.num_frames == 3
        assert number_of(video.frames([2])[0]) == 2


def gap(folder: Path) -> None:
    (folder / "img_00003.jpg").unlink()


def late_start(folder: Path) -> None:
    (folder / "img_00001.jpg").unlink()


def the_same_number_twice(folder: Path) -> None:
    (folder / "img_3.jpg").write_bytes((folder / "img_00003.jpg").read_bytes())


def two_names(folder: Path) -> None:
    for path in sorted(folder.iterdir())[3:]:
        path.rename(folder / f"image{path.stem[4:]}.jpg")
    for path in sorted(folder.glob("img_*")):
        path.rename(folder / f"picture{path.stem[4:]}.jpg")


def two_formats(folder: Path) -> None:
    (folder / "img_00003.jpg").rename(folder / "img_00003.png")


def nothing(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def cut_off(folder: Path) -> None:
    path = folder / "img_00003.jpg"
    path.write_bytes(path.read_bytes()[:300])


def another_size(folder: Path) -> None:
    Image.new("RGB", (10, 10)).save(folder / "img_00003.jpg")


def many_bits(folder: Path) -> None:
    Image.fromarray(np.zeros((48, 64), dtype=np.uint16)).save(folder / "img_00003.jpg", format="PNG")


def absurd_size(folder: Path) -> None:
    Image.new("1", (60_000, 600)).save(folder / "img_00003.jpg", format="PNG")


def a_folder_inside(folder: Path) -> None:
    gap(folder)
    (folder / "img_00003.jpg").mkdir()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (gap, "without gaps or repeats, got 4 for 3"),
        (late_start, "from 0 or 1 without gaps or repeats, got 2 for 1"),
        (the_same_number_twice, "without gaps or repeats, got 3 for 4"),
        (two_names, "expected images of one name and format"),
        (two_formats, "expected images of one name and format"),
        (nothing, "got nothing"),
        (cut_off, r"img_00003\.jpg: cannot be decoded"),
        (another_size, "expected images of one size"),
        (many_bits, "expected eight bits a channel"),
        (absurd_size, "expected frames of 1 to 33177600 pixels, got 60000x600"),
        (a_folder_inside, "expected a regular file, got a directory"),
    ],
)
def test_what_makes_no_video_is_named(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    folder = save(tmp_path / "v", moving_blobs(5))
    damage(folder)
    with pytest.raises(VideoError, match=said) as caught:
        read_frames(folder, range(5))
    assert str(caught.value).startswith(str(folder))


def test_a_frame_past_the_end_is_an_error(tmp_path: Path) -> None:
    folder = save(tmp_path / "v", grey_steps(3))
    with pytest.raises(VideoError, match="expected a frame 3, got 3 images in all"):
        read_frames(folder, [0, 3])
