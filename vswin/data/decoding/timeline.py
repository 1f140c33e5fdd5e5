"""Which frames a file shows and where decoding can start, read from its packets without decoding them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

# Containers that state when each frame is shown and find a key frame again, and codecs in which a packet is a frame and
# nothing before a key frame is needed to decode what is shown after it. Everything else is decoded from its start.
_CONTAINERS = {"mov", "matroska"}
_CODECS = {"av1", "h264", "hevc", "mjpeg", "mpeg4", "vp8", "vp9"}

# Bytes of an MPEG-4 packet that may hold no frame: a frame of which nothing changes is hardly larger.
_NOT_CODED = 32
# Between two looks at the clock: some milliseconds.
_CHECKED_ENTRIES = 10_000


@dataclass(frozen=True)
class KeyFrame:
    """Display number (of the next shown frame if it is hidden), times in units of the stream's time base, and place in
    the file, in bytes.
    """

    number: int
    pts: int
    dts: int | None
    pos: int


@dataclass(frozen=True)
class Timeline:
    """``times`` are the presentation times of the shown frames, ascending; ``key_frames`` are in display order.

    ``key_frames`` is empty where decoding must start at the beginning; then ``times`` only tells how many frames there
    are. ``is_certain`` is False where packets may give no frame, which only decoding tells.
    """

    times: tuple[int | None, ...]
    key_frames: tuple[KeyFrame, ...]
    is_certain: bool = True

    def shown(self, decoded: Sequence[int | None]) -> Timeline:
        """This timeline with those frames alone that decoding gave, at the times ``decoded``."""
        known = sorted({time for time in decoded if time is not None})
        if not self.key_frames or len(known) != len(decoded):
            return Timeline(tuple(decoded), ())
        keys = (KeyFrame(bisect_left(known, key.pts), key.pts, key.dts, key.pos) for key in self.key_frames)
        return Timeline(tuple(known), tuple(keys))

    @cached_property
    def number_of(self) -> dict[int | None, int]:
        """Display number by presentation time."""
        return {time: number for number, time in enumerate(self.times)}

    def last_key_frame(self, number: int) -> KeyFrame:
        """The one to start at for the frame ``number``."""
        return self.key_frames[max(0, bisect_right(self.key_frames, number, key=lambda key: key.number) - 1)]


def count_in_index(
    container: InputContainer, stream: VideoStream, *, check_time: Callable[[], None] = lambda: None
) -> int | None:
    """Number of frames by the index that an MP4 file starts or ends with; None where there is no complete one.

    Left out are frames that an edit list hides, as a trim without encoding does, and those that lie behind the end of
    a file cut off. ``check_time`` is called again and again, and raises where it takes too long.
    """
    # Other containers index key frames only, and the index of a fragmented MP4 grows as it is read.
    if not _is_a(container, {"mov"}) or not stream.frames or stream.frames > len(stream.index_entries):
        return None
    size = container.size
    count = 0
    for number, entry in enumerate(stream.index_entries):
        if number % _CHECKED_ENTRIES == 0:
            check_time()
        count += not entry.is_discard and entry.pos + entry.size <= size
    return count


def read_timeline(
    container: InputContainer, stream: VideoStream, *, packets: Iterable[Packet[VideoStream]]
) -> Timeline:
    """The timeline that ``packets``, all of ``stream``, describe."""
    times: list[int | None] = []
    keys: list[tuple[int, int | None, int]] = []
    first_is_key = False
    position = 0
    codec = stream.codec_context.codec.canonical_name
    hides_frames, certain = codec == "vp8", True
    for packet in packets:
        # Packets that flush the decoder at the end are empty.
        if packet.size == 0:
            continue
        if packet.is_keyframe and packet.pts is not None:
            keys.append((packet.pts, packet.dts, -1 if packet.pos is None else packet.pos))
            first_is_key |= position == 0
        position += 1
        # XviD and DivX drop a frame by a packet that says "not coded" and little else (ISO 14496-2, 6.2.5), and pack
        # two frames in one packet with such a one behind it. UCF-101 and HMDB-51 are full of them.
        certain &= codec != "mpeg4" or packet.size > _NOT_CODED
        # A VP8 frame is shown if the fifth bit of its first byte says so (RFC 6386, 9.1).
        if packet.is_discard or (hides_frames and not memoryview(packet)[0] & 0x10):
            continue
        times.append(packet.pts)
    known = sorted({time for time in times if time is not None})
    places = {pos for _, _, pos in keys}
    seekable = (
        first_is_key
        and _is_a(container, _CONTAINERS)
        and codec in _CODECS
        and len(known) == len(times)
        and len(places) == len(keys)
        and min(places) >= 0
    )
    if not seekable:
        return Timeline(tuple(times), (), certain)
    # A key frame that an edit list hides is a place to start all the same.
    key_frames = (KeyFrame(bisect_left(known, pts), pts, dts, pos) for pts, dts, pos in sorted(keys))
    return Timeline(tuple(known), tuple(key_frames), certain)


def _is_a(container: InputContainer, formats: set[str]) -> bool:
    return not formats.isdisjoint(container.format.name.split(","))
