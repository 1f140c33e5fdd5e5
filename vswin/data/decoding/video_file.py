"""Video files, decoded by FFmpeg through PyAV."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import ArrayLike, NDArray

from .orientation import Orientation
from .timeline import KeyFrame, Timeline, count_in_index, read_timeline
from .video_source import MAX_PIXELS, VideoError, VideoInfo, ascending, check_file, check_size

# Demuxers for files people keep videos in. FFmpeg tries all it has, and among them are some that take text for video
# or fetch what a file names from the network.
_FORMATS = "avi,asf,flv,gif,h264,hevc,ivf,m4v,matroska,mov,mpeg,mpegts,mpegvideo,mxf,nut,obu,ogg,rm,yuv4mpegpipe"

# Frames between two wanted ones that are worth a jump to a later key frame.
_WORTH_A_JUMP = 8

# Codecs that mark frames which no other refers to; those with temporal layers mean something weaker by the mark.
_WITH_UNREFERENCED = {"h264"}

# Codecs in which a packet may say that there is no frame.
_MAY_SKIP = {"mpeg4"}

# FieldOrder of FFmpeg: unknown, progressive. Two packets may hold the two fields of one interlaced frame.
_PROGRESSIVE = {0, 1}


class VideoFile:
    """A video file, open until ``close``.

    ``time_limit`` is in seconds, for opening and for each call of ``frames``. Raises VideoError.
    """

    def __init__(self, path: Path, *, time_limit: float) -> None:
        self._path = path
        self._time_limit = time_limit
        check_file(path)
        with self._guarded():
            self._open()

    def close(self) -> None:
        self._container.close()

    @cached_property
    def num_frames(self) -> int:
        with self._guarded():
            count = count_in_index(self._container, self._stream, check_time=self._check_time)
            if count is None or self._stream.codec_context.codec.canonical_name in _MAY_SKIP:
                count = len(self._timeline.times)
        if count == 0:
            raise VideoError(f"{self._path}: expected at least one frame, got none; replace the file")
        return count

    @cached_property
    def info(self) -> VideoInfo:
        _, height, width, _ = self.frames([0]).shape
        return VideoInfo(self.num_frames, height, width, self._stream.average_rate)

    def frames(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """As ``Video.frames``. Frames are decoded from the key frame before them on, and pixels are the same as if
        decoding had begun at the start of the file.
        """
        wanted, back = ascending(indices)
        with self._guarded():
            try:
                found = self._from_key_frames(wanted)
            except av.InvalidDataError:
                found = None  # what follows a key frame and is shown before it may be refused without what it refers to
            found = found or self._from_start(wanted)
        pixels = found.upright()
        return pixels if np.array_equal(back, np.arange(len(wanted))) else pixels[back]

    def _open(self) -> None:
        limits = {"max_pixels": str(MAX_PIXELS)}
        # The half of a frame that a file cut off ends with is none.
        demuxing = {"format_whitelist": _FORMATS, "protocol_whitelist": "file", "fflags": "+discardcorrupt"}
        try:
            # An absolute path is never taken for a URL ("clip 1:2.mp4").
            container = av.open(
                str(self._path.absolute()),
                options=limits,
                container_options=demuxing,
                metadata_errors="replace",
                timeout=self._time_limit,
            )
        except av.ArgumentError as error:
            raise VideoError(f"{self._path}: expected a video file, got another format; replace the file") from error
        try:
            stream = self._video_stream(container)
        except VideoError:
            container.close()
            raise
        # Parallelism is over files; threads of a decoder would only wait for each other.
        stream.codec_context.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        stream.codec_context.options = limits
        self._container, self._stream = container, stream
        self._reorder_depth = stream.codec_context.reorder_depth
        self._used = False

    def _video_stream(self, container: InputContainer) -> VideoStream:
        """The stream that FFmpeg takes for the main one; the others are not read."""
        best = container.streams.best("video")
        if not isinstance(best, VideoStream):
            raise VideoError(f"{self._path}: expected a video stream, got none; replace the file")
        if best.codec_context is None:
            raise VideoError(f"{self._path}: expected a codec that FFmpeg decodes, got another; re-encode the file")
        check_size(self._path, height=best.codec_context.height, width=best.codec_context.width)
        for stream in container.streams:
            if stream.index != best.index:
                stream.discard = Discard.all
        return best

    def _at_start(self) -> None:
        """Open again what has been read from: not every container can be rewound."""
        if self._used:
            self._container.close()
            self._open()

    @cached_property
    def _timeline(self) -> Timeline:
        self._at_start()
        timeline = read_timeline(self._container, self._stream, packets=self._packets())
        if timeline.is_certain:
            return timeline
        self._at_start()
        return timeline.shown([frame.pts for packet in self._packets() for frame in packet.decode()])

    def _from_key_frames(self, wanted: list[int]) -> _Found | None:
        """The frames ``wanted``, or None where the file proves to be one to decode from its start."""
        timeline = self._timeline
        if not timeline.key_frames or self._stream.codec_context.field_order not in _PROGRESSIVE:
            return None
        found = _Found(self._path, wanted)
        leaves_out = self._leaves_out
        for key, numbers in _stretches(wanted, timeline=timeline):
            last = key.number - 1
            for frame in self._decode_from(key, wanted=set(numbers)):
                number = timeline.number_of.get(frame.pts)
                if number is None:
                    return None
                # What follows a key frame and is shown before it lacks the frames that it refers to.
                if number < key.number:
                    continue
                if number <= last or (number > last + 1 and not leaves_out):
                    return None
                last = number
                found.add(number, frame)
                if number >= numbers[-1]:
                    break
        return found if found.is_complete else None

    @property
    def _leaves_out(self) -> bool:
        """True where frames that nothing needs are skipped undecoded."""
        return self._stream.codec_context.codec.canonical_name in _WITH_UNREFERENCED

    def _decode_from(self, key: KeyFrame, *, wanted: set[int]) -> Iterator[VideoFrame]:
        """Frames from ``key`` on, or none where it is not found. Some that are not ``wanted`` are left out."""
        context = self._stream.codec_context
        number_of = self._timeline.number_of
        leaves_out = self._leaves_out
        for packet in self._packets_from(key):
            if leaves_out:
                needed = packet.size == 0 or number_of.get(packet.pts) in wanted
                context.skip_frame = "DEFAULT" if needed else "NONREF"
            yield from packet.decode()

    def _packets_from(self, key: KeyFrame) -> Iterator[Packet[VideoStream]]:
        # MP4 is indexed by decoding time, but FFmpeg compares some key frames with presentation times.
        for moment in (key.pts, key.pts if key.dts is None else key.dts):
            try:
                self._container.seek(moment, stream=self._stream)
            except av.FFmpegError:
                continue
            self._used = True
            # The flush that comes with it forgets how far frames are out of order.
            self._stream.codec_context.reorder_depth = self._reorder_depth
            packets = self._packets()
            first = next(packets, None)
            if first is not None and first.pos == key.pos:
                yield first
                yield from packets
                return

    def _from_start(self, wanted: list[int]) -> _Found:
        self._at_start()
        found = _Found(self._path, wanted)
        number = 0
        for packet in self._packets():
            for frame in packet.decode():
                found.add(number, frame)
                number += 1
                if found.is_complete:
                    return found
        raise VideoError(
            f"{self._path}: expected a frame {wanted[-1]}, got {number} frames in all; "
            "the file is cut off or its header lies: replace it, or run: vswin data check"
        )

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        self._used = True
        for packet in self._container.demux(self._stream):
            self._check_time()
            yield packet

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise VideoError(self._too_slow())

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Start the clock; whatever FFmpeg and PyAV complain of inside becomes a VideoError."""
        self._deadline = time.monotonic() + self._time_limit
        try:
            yield
        except av.ExitError as error:
            raise VideoError(self._too_slow()) from error
        except PermissionError as error:
            raise VideoError(f"{self._path}: cannot be read ({error.strerror}); correct its permissions") from error
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{self._path}: cannot be decoded ({error.strerror}); replace the file") from error
        except IndexError as error:
            # PyAV 18.1 stumbles over streams that a damaged file adds while it is read.
            raise VideoError(f"{self._path}: cannot be decoded (streams appear in it); replace the file") from error

    def _too_slow(self) -> str:
        return f"{self._path}: not decoded within {self._time_limit:g} s; replace the file or raise time_limit"


def _stretches(wanted: list[int], *, timeline: Timeline) -> Iterator[tuple[KeyFrame, list[int]]]:
    """The ascending numbers ``wanted``, divided where a jump to a key frame between two of them saves decoding."""
    key, numbers = timeline.last_key_frame(wanted[0]), [wanted[0]]
    for number in wanted[1:]:
        later = timeline.last_key_frame(number)
        if later.number - numbers[-1] > _WORTH_A_JUMP:
            yield key, numbers
            key, numbers = later, []
        numbers.append(number)
    yield key, numbers


class _Found:
    """The frames asked for, as they are found."""

    def __init__(self, path: Path, wanted: list[int]) -> None:
        self._path = path
        self._row_of = {number: row for row, number in enumerate(wanted)}
        self._pixels: NDArray[np.uint8] | None = None
        self._orientation = Orientation()
        self._missing = len(wanted)
        # One converter for all frames: a frame's own one costs six times the decoding of a small frame.
        self._converter = VideoReformatter()

    @property
    def is_complete(self) -> bool:
        return self._missing == 0

    def add(self, number: int, frame: VideoFrame) -> None:
        """Convert ``frame`` to RGB if it is wanted. VideoError where its size is not that of the others."""
        row = self._row_of.get(number)
        if row is None:
            return
        height, width = frame.height, frame.width
        if self._pixels is None:
            check_size(self._path, height=height, width=width)
            self._pixels = np.empty((len(self._row_of), height, width, 3), dtype=np.uint8)
            self._orientation = Orientation.of(frame)
        if self._pixels.shape[1:3] != (height, width):
            _, first_height, first_width, _ = self._pixels.shape
            raise VideoError(
                f"{self._path}: expected frames of one size, {first_width}x{first_height}, got {width}x{height} "
                f"at frame {number}; re-encode the file"
            )
        plane = self._converter.reformat(frame, format="rgb24", threads=1).planes[0]
        # Rows of the plane are padded; to_ndarray would copy once more.
        rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(height, plane.line_size)
        self._pixels[row] = rows[:, : 3 * width].reshape(height, width, 3)
        self._missing -= 1

    def upright(self) -> NDArray[np.uint8]:
        assert self._pixels is not None
        return self._orientation.apply(self._pixels)
