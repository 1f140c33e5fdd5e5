"""Which frames of a video and which boxes of a frame a model sees. Integers only: no torch, no decoding.

Source: the published test and training pipelines (SampleFrames, Resize, RandomResizedCrop, ThreeCrop, CenterCrop of
mmaction/datasets/pipelines @db018fb8), described in section 4.1 of the paper.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vswin.config import ClipConfig, Sampling

Indices = NDArray[np.int64]

# Random boxes tried before the largest centred square is taken.
_CROP_ATTEMPTS = 10


class Box(NamedTuple):
    """A rectangle of pixels; ``left`` and ``top`` count from the upper left corner of the frame."""

    left: int
    top: int
    width: int
    height: int


# ---------------------------------------------------------------------- frames


def dense_test_indices(num_frames: int, *, clip_len: int, interval: int, num_clips: int) -> Indices:
    """Frames of ``num_clips`` clips centred in equal parts of the video: int64 [num_clips, clip_len].

    Frames of a clip are ``interval`` apart; a video too short for one clip is looped. ValueError where an argument is
    below 1.
    """
    _require_positive(num_frames=num_frames, clip_len=clip_len, interval=interval, num_clips=num_clips)
    room = _dense_room(num_frames, clip_len=clip_len, interval=interval)
    part = room / num_clips
    # Floating point on purpose: exact integers differ from the published indices by one frame for some lengths.
    starts = (np.arange(num_clips) * part + part / 2).astype(np.int64)
    return _dense_clips(starts, num_frames=num_frames, clip_len=clip_len, interval=interval)


def dense_train_indices(num_frames: int, *, clip_len: int, interval: int, generator: np.random.Generator) -> Indices:
    """Frames of one clip at a random offset: int64 [clip_len].

    A video too short for the clip starts at its first frame and is looped. ValueError where an argument is below 1.
    """
    _require_positive(num_frames=num_frames, clip_len=clip_len, interval=interval)
    room = _dense_room(num_frames, clip_len=clip_len, interval=interval)
    start = generator.integers(max(room, 1), size=1)
    return _dense_clips(start, num_frames=num_frames, clip_len=clip_len, interval=interval)[0]


def uniform_test_indices(num_frames: int, *, clip_len: int) -> Indices:
    """The middle frame of each of ``clip_len`` equal segments, as one clip: int64 [1, clip_len].

    A video shorter than ``clip_len`` repeats frames. ValueError where an argument is below 1.
    """
    _require_positive(num_frames=num_frames, clip_len=clip_len)
    edges = _segment_edges(num_frames, clip_len=clip_len)
    return ((edges[:-1] + edges[1:]) // 2)[None]


def uniform_train_indices(num_frames: int, *, clip_len: int, generator: np.random.Generator) -> Indices:
    """A random frame of each of ``clip_len`` equal segments: int64 [clip_len], never decreasing.

    Neighbouring segments share the frame between them, as published. ValueError where an argument is below 1.
    """
    _require_positive(num_frames=num_frames, clip_len=clip_len)
    edges = _segment_edges(num_frames, clip_len=clip_len)
    return generator.integers(edges[:-1], edges[1:], endpoint=True)


def training_frames(num_frames: int, *, clip: ClipConfig, generator: np.random.Generator) -> Indices:
    """Frames of one training clip as ``clip`` says: int64 [clip.length]."""
    if clip.sampling is Sampling.UNIFORM:
        return uniform_train_indices(num_frames, clip_len=clip.length, generator=generator)
    return dense_train_indices(num_frames, clip_len=clip.length, interval=clip.interval, generator=generator)


def view_frames(num_frames: int, *, clip: ClipConfig, num_clips: int) -> Indices:
    """Frames of ``num_clips`` test clips as ``clip`` says: int64 [num_clips, clip.length].

    ValueError where uniform sampling, which spans the video, is asked for more than one clip.
    """
    if clip.sampling is Sampling.UNIFORM:
        if num_clips != 1:
            raise ValueError(
                f"expected 1 test clip with uniform sampling, which spans the whole video, got {num_clips}; "
                "set clips=1 in the protocol"
            )
        return uniform_test_indices(num_frames, clip_len=clip.length)
    return dense_test_indices(num_frames, clip_len=clip.length, interval=clip.interval, num_clips=num_clips)


def _dense_room(num_frames: int, *, clip_len: int, interval: int) -> int:
    """The number of frames that a clip can start at; the published code counts ``interval`` frames per clip frame."""
    return max(num_frames - clip_len * interval + 1, 0)


def _dense_clips(starts: Indices, *, num_frames: int, clip_len: int, interval: int) -> Indices:
    return (starts[:, None] + np.arange(clip_len) * interval) % num_frames


def _segment_edges(num_frames: int, *, clip_len: int) -> Indices:
    """First and last frames of the segments: int64 [clip_len + 1]. Rounds halves to even, as published."""
    return np.round((num_frames - 1) / clip_len * np.arange(clip_len + 1)).astype(np.int64)


# ----------------------------------------------------------------------- boxes


def short_side_size(height: int, width: int, *, short_side: int) -> tuple[int, int]:
    """(height, width) of a frame resized to ``short_side``, its aspect kept, halves rounded up as published."""
    _require_positive(height=height, width=width, short_side=short_side)
    scale = short_side / min(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def random_short_side(bounds: tuple[int, int], *, generator: np.random.Generator) -> int:
    """A shorter side in pixels, drawn uniformly between ``bounds`` and rounded, as TimeSformer's scale jitter is
    (facebookresearch/TimeSformer @a5ef29a7).
    """
    return round(generator.uniform(*bounds))


def centre_crop(height: int, width: int, *, crop: int) -> Box:
    """The square of side ``crop`` in the middle of a frame; ValueError where the frame is smaller."""
    _require_fits(height, width, crop=crop)
    return Box((width - crop) // 2, (height - crop) // 2, crop, crop)


def view_boxes(height: int, width: int, *, crop: int, num_crops: int) -> list[Box]:
    """``num_crops`` squares of side ``crop`` along the longer axis, centred on the shorter one.

    1 is the centre. 3 are the published ones in their order: left (top), right (bottom), middle; the second one ends
    one pixel before the border where the free space is odd. Any other number is spread evenly from border to border,
    in order: the paper does not say how its five crops were placed. ValueError where the frame is smaller than the
    crop.
    """
    _require_positive(num_crops=num_crops)
    centre = centre_crop(height, width, crop=crop)
    if num_crops == 1:
        return [centre]
    free = max(height, width) - crop
    if num_crops == 3:
        offsets = [0, 2 * (free // 2), free // 2]
    else:
        offsets = [round(free * i / (num_crops - 1)) for i in range(num_crops)]
    if width >= height:
        return [centre._replace(left=offset) for offset in offsets]
    return [centre._replace(top=offset) for offset in offsets]


def random_resized_crop(
    height: int,
    width: int,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
    generator: np.random.Generator,
) -> Box:
    """A box of random area (a share of the frame) and aspect (width / height, log-uniform) at a random place.

    Ten boxes are tried; if none fits, it is the largest centred square.
    """
    _require_positive(height=height, width=width)
    log_aspect = (math.log(aspect[0]), math.log(aspect[1]))
    for _ in range(_CROP_ATTEMPTS):
        ratio = math.exp(generator.uniform(*log_aspect))
        pixels = generator.uniform(*area) * height * width
        # A sliver of a small frame may round to nothing.
        box_width = max(round(math.sqrt(pixels * ratio)), 1)
        box_height = max(round(math.sqrt(pixels / ratio)), 1)
        if box_width <= width and box_height <= height:
            left = int(generator.integers(width - box_width, endpoint=True))
            top = int(generator.integers(height - box_height, endpoint=True))
            return Box(left, top, box_width, box_height)
    return centre_crop(height, width, crop=min(height, width))


def random_crop(height: int, width: int, *, crop: int, generator: np.random.Generator) -> Box:
    """A square of side ``crop`` at a random place; ValueError where the frame is smaller."""
    _require_fits(height, width, crop=crop)
    left = int(generator.integers(width - crop, endpoint=True))
    top = int(generator.integers(height - crop, endpoint=True))
    return Box(left, top, crop, crop)


# ---------------------------------------------------------------------- checks


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"expected {name} of at least 1, got {value}")


def _require_fits(height: int, width: int, *, crop: int) -> None:
    _require_positive(height=height, width=width, crop=crop)
    if crop > min(height, width):
        raise ValueError(
            f"expected a crop of at most {min(height, width)}, the short side of a {width}x{height} frame, got {crop}; "
            "resize the short side to the crop or more first"
        )
