"""Writing small videos: H.264 in MP4, the same bytes for the same frames on one version of the encoder."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

# Threads cut the work differently from run to run; and what the fast assembly of libx264 decides on frames of a few
# macroblocks depends on memory it was not given (5 files of 100 differed from run to run, none with this switch).
# Quality ("crf"): 0 is lossless, 23 the default.
_LIBX264 = {"threads": "1", "x264-params": "cpu-independent=1", "preset": "veryfast", "crf": "18"}


def write_video(path: Path, frames: NDArray[np.uint8], *, frame_rate: int) -> None:
    """Encode RGB ``frames``, uint8 [T, H, W, 3] of even height and width, to a new file.

    ValueError for odd sizes, which H.264 with halved colour planes cannot hold.
    """
    _, height, width, _ = frames.shape
    if height % 2 or width % 2:
        raise ValueError(f"{path}: expected frames of even height and width, got {width}x{height}; pad or crop them")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=frame_rate, options=_LIBX264)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        converter = VideoReformatter()
        for pixels in frames:
            rgb = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(converter.reformat(rgb, format="yuv420p", threads=1)))
        container.mux(stream.encode())
