"""Re-encoding a video to a short side in pixels: H.264 in MP4, every frame at its own time, upright, without sound.

The authors resized Kinetics to 256 pixels beforehand (issue #18 of their repository). Quality is set so high that the
resizing costs more than the compression ("crf" 18; 23 is the encoder's default, 0 lossless), and every 32nd frame is a
key frame, so that a clip is decoded without most of what lies before it.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.container import OutputContainer
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from ..decoding.orientation import Orientation
from ..decoding.video_source import VideoError, check_file
from ..writing import writing

# One thread and no decision that depends on the processor: the same file everywhere, for one version of the encoder.
ENCODER = {
    "crf": "18",
    "preset": "medium",
    "g": "32",
    "threads": "1",
    "x264-params": "cpu-independent=1",
}

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

# Where a file states none, as few do.
_DEFAULT_RATE = Fraction(25)


@dataclass(frozen=True)
class Encoded:
    """The written video: number of frames, and size in pixels."""

    num_frames: int
    height: int
    width: int


def reencode(source: Path, target: Path, *, short_side: int) -> Encoded:
    """Write ``source`` to the new MP4 file ``target``, ``short_side`` an even number of pixels.

    The long side is the nearest even number. Frames keep their times, counted from the first. Raises VideoError where
    ``source`` cannot be decoded to its end, has frames of several sizes or is a folder of frames, DataError where the
    disk is full or ``target`` cannot be written.
    """
    check_file(source)
    with writing(target):
        target.touch()
    try:
        with av.open(str(source.absolute()), metadata_errors="replace") as container:
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream):
                raise VideoError(f"{source}: expected a video stream, got none; replace the file")
            stream.thread_type = "NONE"
            frames = container.decode(stream)
            first = next(frames, None)
            if first is None:
                raise VideoError(f"{source}: expected at least one frame, got none; replace the file")
            with av.open(str(target), "w", format="mp4", options={"movflags": "faststart"}) as output:
                writer = _Writer(output, source, first, stream=stream, short_side=short_side)
                for frame in chain([first], frames):
                    writer.add(frame)
                return writer.end()
    except (av.FFmpegError, OSError) as error:
        if error.errno in _DISK_FULL:
            with writing(target):
                raise
        raise VideoError(f"{source}: cannot be re-encoded ({error.strerror}); replace the file") from error


class _Writer:
    """Takes frames as they were decoded, and encodes them all as the first one says."""

    def __init__(
        self, output: OutputContainer, source: Path, first: VideoFrame, *, stream: VideoStream, short_side: int
    ) -> None:
        self._output = output
        self._source = source
        self._size = first.width, first.height
        self._scaled = _scaled(first.width, first.height, short_side=short_side)
        self._turn = _Turn(Orientation.of(first), *self._scaled)
        self._converter = VideoReformatter()
        rate = stream.average_rate or _DEFAULT_RATE
        self._time_base = stream.time_base or 1 / rate
        self._usual_step = max(1, round(1 / rate / self._time_base))
        self._start: int | None = None
        self._last = -1
        self._count = 0
        self._stream = output.add_stream("libx264", rate=rate, options=ENCODER)
        context = self._stream.codec_context
        context.width, context.height = self._turn.size
        context.pix_fmt = "yuv420p"
        context.time_base = self._stream.time_base = self._time_base
        context.color_range = ColorRange.MPEG
        if not first.format.is_rgb:
            context.colorspace = first.colorspace
            context.color_primaries, context.color_trc = first.color_primaries, first.color_trc

    def add(self, frame: VideoFrame) -> None:
        """Encode one more frame."""
        if (frame.width, frame.height) != self._size:
            width, height = self._size
            raise VideoError(
                f"{self._source}: expected frames of one size, {width}x{height}, got {frame.width}x{frame.height} at "
                f"frame {self._count}; cut or replace the file"
            )
        time = self._time(frame)
        width, height = self._scaled
        small = self._converter.reformat(
            frame,
            width,
            height,
            format="yuv420p",
            interpolation=Interpolation.BICUBIC,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        upright = self._turn.apply(small)
        upright.pts, upright.time_base = time, self._time_base
        # Key frames of the source are not to be key frames here.
        upright.pict_type = PictureType.NONE
        self._output.mux(self._stream.encode(upright))
        self._last = time
        self._count += 1

    def end(self) -> Encoded:
        """Encode what is left."""
        self._output.mux(self._stream.encode())
        width, height = self._turn.size
        return Encoded(self._count, height, width)

    def _time(self, frame: VideoFrame) -> int:
        """When the frame is shown, later than the one before it even where the file does not say so."""
        if frame.pts is None:
            return self._last + self._usual_step if self._count else 0
        if self._start is None:
            self._start = frame.pts
        return max(frame.pts - self._start, self._last + 1)


class _Turn:
    """Turns scaled frames of ``width`` x ``height`` upright; ``size`` is theirs afterwards."""

    def __init__(self, orientation: Orientation, width: int, height: int) -> None:
        self.size = (height, width) if orientation.transpose else (width, height)
        names = {
            "transpose": ("transpose", "cclock_flip") if orientation.transpose else None,
            "mirror": ("hflip", None) if orientation.mirror else None,
            "flip": ("vflip", None) if orientation.flip else None,
        }
        filters = [found for found in names.values() if found]
        self._graph: Graph | None = None
        if filters:
            graph = Graph()
            source = graph.add_buffer(
                width=width, height=height, format=VideoFormat("yuv420p"), time_base=Fraction(1, 1000)
            )
            turned = [graph.add(name, arguments) for name, arguments in filters]
            graph.link_nodes(source, *turned, graph.add("buffersink")).configure()
            self._graph = graph

    def apply(self, frame: VideoFrame) -> VideoFrame:
        if self._graph is None:
            return frame
        self._graph.vpush(frame)
        return self._graph.vpull()


def _scaled(width: int, height: int, *, short_side: int) -> tuple[int, int]:
    """Width and height at which the short one is ``short_side``, even."""
    long = 2 * round(short_side * max(width, height) / min(width, height) / 2)
    return (short_side, long) if width <= height else (long, short_side)
