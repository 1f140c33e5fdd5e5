"""Video files, decoded by the machine's own FFmpeg through torchcodec, an optional extra."""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torchcodec.decoders import VideoDecoder

from .video_source import VideoError, VideoInfo, ascending, check_file, check_size


class TorchcodecFile:
    """A video file. torchcodec offers no time limit. Raises VideoError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        check_file(path)
        try:
            self._decoder = VideoDecoder(
                path.absolute(), dimension_order="NHWC", num_ffmpeg_threads=1, device="cpu", seek_mode="exact"
            )
        except (RuntimeError, ValueError) as error:
            raise VideoError(f"{path}: cannot be decoded ({_first_line(error)}); replace the file") from error
        metadata = self._decoder.metadata
        check_size(path, height=metadata.height or 0, width=metadata.width or 0)

    @property
    def num_frames(self) -> int:
        return len(self._decoder)

    @cached_property
    def info(self) -> VideoInfo:
        _, height, width, _ = self.frames([0]).shape
        rate = self._decoder.metadata.average_fps_from_header
        # torchcodec divides FFmpeg's fraction; 1001 is the largest denominator in use.
        return VideoInfo(self.num_frames, height, width, Fraction(rate).limit_denominator(1001) if rate else None)

    def frames(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """As ``Video.frames``."""
        wanted, back = ascending(indices)
        if wanted[-1] >= self.num_frames:
            raise VideoError(
                f"{self._path}: expected a frame {wanted[-1]}, got {self.num_frames} frames in all; "
                "the file is cut off or its header lies: replace it, or run: vswin data check"
            )
        try:
            pixels = self._decoder.get_frames_at(wanted).data.numpy()
        except (IndexError, RuntimeError) as error:
            raise VideoError(f"{self._path}: cannot be decoded ({_first_line(error)}); replace the file") from error
        return pixels if np.array_equal(back, np.arange(len(wanted))) else pixels[back]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
