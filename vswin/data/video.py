"""Videos as arrays: what a file or a folder of frames holds, and the frames asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .decoding.frame_folder import FrameFolder
from .decoding.video_file import VideoFile
from .decoding.video_source import Video, VideoError, VideoInfo

__all__ = ["Decoder", "Video", "VideoError", "VideoInfo", "open_video", "probe", "read_frames"]

TIME_LIMIT = 60.0


class Decoder(StrEnum):
    """Who decodes video files; TORCHCODEC is the optional extra of that name.

    Both give the same frames, to the bit where colour planes have full size or hold 8 bits and even sizes. Elsewhere
    (10 bits with halved planes, odd sizes, frames marked as interlaced) colours are resampled, and FFmpeg's versions
    and filters place them differently.
    """

    PYAV = "pyav"
    TORCHCODEC = "torchcodec"


@contextmanager
def open_video(path: Path, *, decoder: Decoder = Decoder.PYAV, time_limit: float = TIME_LIMIT) -> Iterator[Video]:
    """A video file, or a directory of images ``img_00001.jpg``, opened once for its number of frames and its frames.

    ``time_limit`` is in seconds, for opening and for each reading; it does not bind TORCHCODEC and directories. Raises
    VideoError, here and in the methods of what it gives; ImportError where ``decoder`` cannot be loaded.
    """
    # Not Path.is_dir: it raises what a file server or a folder without permission answers; check_file names that.
    if os.path.isdir(path):  # noqa: PTH112
        yield FrameFolder(path)
    elif decoder is Decoder.TORCHCODEC:
        yield _torchcodec_file(path)
    else:
        with closing(VideoFile(path, time_limit=time_limit)) as video:
            yield video


def probe(path: Path, *, decoder: Decoder = Decoder.PYAV, time_limit: float = TIME_LIMIT) -> VideoInfo:
    """Number of frames, upright size in pixels and frame rate; the first frame is decoded. Raises VideoError.

    Frames that an MP4 edit list leaves out, as a trim without encoding does, are not counted, nor those behind the end
    of a file cut off. Packets are counted where the container does not index every frame.
    """
    with open_video(path, decoder=decoder, time_limit=time_limit) as video:
        return video.info


def read_frames(
    path: Path, indices: ArrayLike, *, decoder: Decoder = Decoder.PYAV, time_limit: float = TIME_LIMIT
) -> NDArray[np.uint8]:
    """The frames at ``indices`` (in display order, from 0) as RGB: uint8 [T, H, W, 3].

    ``indices`` may repeat and need not be sorted. Raises VideoError where the file cannot be decoded that far,
    ValueError where ``indices`` is empty, negative or not a row.
    """
    with open_video(path, decoder=decoder, time_limit=time_limit) as video:
        return video.frames(indices)


def _torchcodec_file(path: Path) -> Video:
    try:
        from .decoding.torchcodec_file import TorchcodecFile
    except (ImportError, RuntimeError) as error:  # torchcodec raises the latter where it finds no FFmpeg
        raise ImportError(
            "decoder torchcodec: expected torchcodec and FFmpeg 4 to 8 on this machine, got "
            f"{str(error).strip().partition(chr(10))[0]!r}; install both (pip install --no-deps torchcodec==0.13.0), "
            "or use the decoder pyav"
        ) from error
    return TorchcodecFile(path)
