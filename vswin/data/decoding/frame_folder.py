"""Videos kept as a folder of images, one per frame, as ``ffmpeg -i video.mp4 img_%05d.jpg`` writes them."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, UnidentifiedImageError

from .video_source import VideoError, VideoInfo, ascending, check_file, check_size

_NAME = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)\.(?P<format>jpe?g|png)", re.IGNORECASE | re.DOTALL)

# Optical flow lies beside the frames in folders that mmaction2 extracts: flow_x_00001.jpg.
_FRAMES_OF_MMACTION = "img_"

# What converts to eight bits of red, green and blue without losing more than transparency.
_EIGHT_BITS = {"1", "CMYK", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr"}

# What Pillow raises for images that are cut off, damaged or too large.
_DAMAGED = (
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    OSError,
    SyntaxError,
    UnidentifiedImageError,
    ValueError,
)


class FrameFolder:
    """A directory of ``<prefix><number>.jpg`` or ``.png`` files, numbered without gaps from 0 or 1.

    Numbers may be padded with zeros; other files are ignored. Raises VideoError where the names do not make one video.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._images = _numbered_images(path)

    @property
    def num_frames(self) -> int:
        return len(self._images)

    @property
    def info(self) -> VideoInfo:
        _, height, width, _ = self.frames([0]).shape
        return VideoInfo(self.num_frames, height, width, None)

    def frames(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """As ``Video.frames``."""
        wanted, back = ascending(indices)
        if wanted[-1] >= self.num_frames:
            raise VideoError(
                f"{self._path}: expected a frame {wanted[-1]}, got {self.num_frames} images in all; "
                "extract the frames again, or run: vswin data check"
            )
        images = [_read_image(self._images[number]) for number in wanted]
        sizes = {image.shape for image in images}
        if len(sizes) > 1:
            raise VideoError(f"{self._path}: expected images of one size, got {sorted(sizes)}; extract them again")
        return np.stack(images)[back]


def _numbered_images(folder: Path) -> list[Path]:
    by_prefix: defaultdict[tuple[str, str], list[tuple[int, Path]]] = defaultdict(list)
    try:
        for path in folder.iterdir():
            match = _NAME.fullmatch(path.name)
            if match:
                key = match["prefix"], match["format"].lower()
                by_prefix[key].append((int(match["number"]), path))
    except OSError as error:
        raise VideoError(f"{folder}: cannot be read ({error.strerror}); correct its permissions") from error
    if len(by_prefix) > 1:
        by_prefix = defaultdict(list, {key: by_prefix[key] for key in by_prefix if key[0] == _FRAMES_OF_MMACTION})
    if len(by_prefix) != 1:
        raise VideoError(
            f"{folder}: expected images of one name and format, as img_00001.jpg, img_00002.jpg, "
            f"got {_listed(folder)}; extract the frames again, or correct the path"
        )
    ((_, images),) = by_prefix.items()
    images.sort()
    numbers = [number for number, _ in images]
    first = min(numbers[0], 1)
    for expected, number in enumerate(numbers, start=first):
        if number != expected:
            raise VideoError(
                f"{folder}: expected images numbered from 0 or 1 without gaps or repeats, got {number} for {expected}; "
                "extract the frames again"
            )
    return [path for _, path in images]


def _listed(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "nothing"


def _read_image(path: Path) -> NDArray[np.uint8]:
    """RGB pixels [H, W, 3]."""
    check_file(path)
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            check_size(path, height=image.height, width=image.width)
            if image.mode not in _EIGHT_BITS:
                raise VideoError(f"{path}: expected eight bits a channel, got mode {image.mode}; convert the image")
            return np.asarray(image.convert("RGB"))
    except _DAMAGED as error:
        raise VideoError(f"{path}: cannot be decoded ({error}); extract the frames again") from error
