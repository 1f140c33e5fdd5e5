"""The videos of Moving Digits: a handwritten digit drifts about and shows two colours, one after the other.

The class is the ordered pair of colours, and by construction nothing but their order tells a pair from its reverse:

* both colours last equally long in distribution, and start equally early in the video in distribution;
* between the two the digit is neutral, so that no two neighbouring frames, which make a token, show both;
* the digit moves like a ball between walls from a uniformly random place in a uniformly random direction, so where it
  is and where it goes say nothing of how late it is.

Single frames, or the two of a token, therefore give away which two colours a video has and not which came first: a
network without temporal attention is right about half of the time, where chance is one in six.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from itertools import permutations
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Colour(IntEnum):
    """Colours a digit goes through; the value is the row of ``_RGB``."""

    RED = 0
    GREEN = 1
    BLUE = 2
    NEUTRAL = 3


_RGB = np.array([[1.0, 0.15, 0.15], [0.1, 0.85, 0.1], [0.2, 0.35, 1.0], [0.8, 0.8, 0.8]])

# The classes, in the order of their labels.
ORDERS: tuple[tuple[Colour, Colour], ...] = tuple(permutations((Colour.RED, Colour.GREEN, Colour.BLUE), 2))
CLASSES = tuple(f"{first.name.lower()}-{second.name.lower()}" for first, second in ORDERS)


@dataclass(frozen=True, kw_only=True)
class VideoStyle:
    """How the videos look. Lengths are frames and pixels, brightness is from 0 to 1; pairs are (least, most).

    ``hold``: frames of each colour. ``gap``: neutral frames between the two. ``margin``: least neutral frames before
    the first and after the second. ``speed``: pixels per frame.
    """

    frames: int = 18
    side: int = 24
    digit: int = 14
    hold: tuple[int, int] = (2, 4)
    gap: tuple[int, int] = (2, 8)
    margin: int = 1
    speed: tuple[float, float] = (0.2, 0.8)
    texture: float = 0.4
    noise: float = 0.08

    @classmethod
    def scaled(cls, *, side: int, frames: int) -> Self:
        """The same videos with other sizes: lengths in pixels grow with ``side``, in frames with ``frames``.

        ValueError for an odd side, which H.264 cannot hold, one below 16 pixels, and too few frames.
        """
        if side < 16 or side % 2:
            raise ValueError(f"expected an even side of at least 16 pixels, got {side}")
        usual = cls()
        space, time = side / usual.side, frames / usual.frames
        hold = max(1, int(usual.hold[0] * time)), max(1, int(usual.hold[1] * time))
        most = min(int(usual.gap[1] * time), frames - 2 * usual.margin - 2 * hold[1])
        return cls(
            frames=frames,
            side=side,
            digit=round(usual.digit * space),
            hold=hold,
            # two at least, so that no two neighbouring frames show both colours
            gap=(max(2, int(usual.gap[0] * time)), max(2, most)),
            speed=(usual.speed[0] * space / time, usual.speed[1] * space / time),
        )

    def __post_init__(self) -> None:
        needed = 2 * self.margin + 2 * self.hold[1] + self.gap[1]
        if self.frames < needed:
            raise ValueError(f"expected at least {needed} frames for two colours and the gap, got {self.frames}")


def render(glyph: Floats, *, label: int, style: VideoStyle, generator: np.random.Generator) -> NDArray[np.uint8]:
    """A video of ``glyph`` ([8, 8], from 0 to 1) of class ``label``: RGB, uint8 [frames, side, side, 3]."""
    colours = _RGB[_timetable(label, style=style, generator=generator)]
    corners = _path(style=style, generator=generator)
    pixels = np.arange(style.side)
    coarse = generator.uniform(0, style.texture, size=(4, 4))
    at = (pixels + 0.5) / style.side * 4 - 0.5
    texture = _sample(np.pad(coarse, 1, mode="edge"), rows=at + 1, columns=at + 1)
    zoom = len(glyph) / style.digit
    # A border of zeros, so that beyond its edge the digit fades out.
    padded = np.pad(glyph, 1)
    frames = np.empty((style.frames, style.side, style.side, 3))
    for frame, (top, left), colour in zip(frames, corners, colours, strict=True):
        rows = (pixels + 0.5 - top) * zoom + 0.5
        columns = (pixels + 0.5 - left) * zoom + 0.5
        opacity = _sample(padded, rows=rows, columns=columns)[:, :, None]
        frame[:] = texture[:, :, None] * (1 - opacity) + colour * opacity
    frames += generator.normal(0, style.noise, size=(*frames.shape[:3], 1))
    return (frames.clip(0, 1) * 255).round().astype(np.uint8)


def _timetable(label: int, *, style: VideoStyle, generator: np.random.Generator) -> NDArray[np.int64]:
    """The colour of every frame: int64 [frames]."""
    first, second = generator.integers(*style.hold, size=2, endpoint=True)
    gap = generator.integers(*style.gap, endpoint=True)
    slack = style.frames - 2 * style.margin - first - gap - second
    start = style.margin + generator.integers(slack, endpoint=True)
    table = np.full(style.frames, Colour.NEUTRAL, dtype=np.int64)
    table[start : start + first] = ORDERS[label][0]
    table[start + first + gap :][:second] = ORDERS[label][1]
    return table


def _path(*, style: VideoStyle, generator: np.random.Generator) -> Floats:
    """The upper left corner (top, left) of the digit in every frame: [frames, 2].

    Unfolding the walls makes reflection a straight line, and a uniform start stays uniform at any time.
    """
    room = style.side - style.digit
    angle = generator.uniform(0, 2 * np.pi)
    velocity = generator.uniform(*style.speed) * np.array([np.sin(angle), np.cos(angle)])
    straight = generator.uniform(0, 2 * room, size=2) + np.arange(style.frames)[:, None] * velocity
    return room - np.abs(straight % (2 * room) - room)


def _sample(image: Floats, *, rows: Floats, columns: Floats) -> Floats:
    """Bilinear values of ``image`` at every pair of a row and a column: [rows, columns]; outside, its edge."""
    return _weights(rows, length=image.shape[0]) @ image @ _weights(columns, length=image.shape[1]).T


def _weights(positions: Floats, *, length: int) -> Floats:
    """The share of each of ``length`` cells in each position: [positions, length]; rows add up to 1."""
    inside = positions.clip(0, length - 1)
    return (1 - np.abs(inside[:, None] - np.arange(length))).clip(0, 1)
