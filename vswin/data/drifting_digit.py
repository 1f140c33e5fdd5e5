"""The videos of Moving Digits: a handwritten digit hops about its place and changes between two colours.

A video has a number of beats, half of them in one colour and half in another. A class says which digit it is, or any,
and either how often the colour changes or which colours follow one another. By construction nothing but the order of
its beats tells a video that changes often from one that changes seldom, or red-then-green from green-then-red:

* where the digit is is drawn without looking at the class, and which two colours a video has, too, or they are those of
  the class with the other order;
* as many beats are of one colour as of the other, whatever the class;
* where the digit is in a frame is independent of where it is in the others, and so is the noise.

A network whose tokens end with the beats and that never looks from one token to another in time can therefore only
guess. How hard a video is comes in degrees: some change once and some seven times, with much between, and digits are
written more or less clearly.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Colour(IntEnum):
    """Colours of a digit; the value is the row of ``_RGB``."""

    RED = 0
    GREEN = 1
    BLUE = 2
    NEUTRAL = 3


_RGB = np.array([[1.0, 0.15, 0.15], [0.1, 0.85, 0.1], [0.2, 0.35, 1.0], [0.8, 0.8, 0.8]])


@dataclass(frozen=True, kw_only=True)
class VideoClass:
    """The content of a class: ``digit``, or any where it is None, in two of ``colours``, or one where there is
    only one, which change as often as ``changes`` says (least, most). ``in_order``: the first of ``colours`` comes
    first, then the second one, and no other.
    """

    name: str
    digit: int | None = None
    colours: tuple[Colour, ...] = (Colour.RED, Colour.GREEN, Colour.BLUE)
    changes: tuple[int, int]
    in_order: bool = False


@dataclass(frozen=True, kw_only=True)
class VideoStyle:
    """The look of the videos. Lengths are frames and pixels, brightness is from 0 to 1; pairs are (least, most).

    ``beats``: parts of equal length, each in one colour. ``rests``: a neutral frame before every beat and after the
    last, for clips whose neighbouring segments share a frame: so they share no colour. ``hop``: how far the digit is
    from its place at most, along each axis. ``saturation``: how much of its colours a video shows, 0 is neutral.
    ``texture``: of the background. ``noise``: standard deviation of the brightness of every pixel.
    """

    frames: int = 16
    beats: int = 8
    rests: bool = False
    side: int = 24
    digit: int = 16
    hop: float = 1.5
    saturation: tuple[float, float] = (0.6, 1.0)
    texture: float = 0.4
    noise: float = 0.1

    def __post_init__(self) -> None:
        if self.frames < self.beats:
            raise ValueError(f"expected at least {self.beats} frames, one for every beat, got {self.frames}")
        if self.rests and (self.frames % self.beats != 1 or self.frames // self.beats < 2):
            raise ValueError(f"expected beats of equal length of at least 2 and one frame more, got {self.frames}")

    @classmethod
    def scaled(cls, *, side: int, frames: int) -> Self:
        """The same videos with other sizes: lengths in pixels grow with ``side``, beats with ``frames``.

        ValueError for an odd side, which H.264 cannot hold, one below 16 pixels, and too few frames.
        """
        if side < 16 or side % 2:
            raise ValueError(f"expected an even side of at least 16 pixels, got {side}")
        space = side / cls.side
        return cls(frames=frames, side=side, digit=round(cls.digit * space), hop=cls.hop * space)


def render(glyph: Floats, *, shown: VideoClass, style: VideoStyle, generator: np.random.Generator) -> NDArray[np.uint8]:
    """A video of class ``shown`` with the digit ``glyph`` ([8, 8], from 0 to 1): RGB, uint8 [frames, side, side, 3]."""
    saturation = generator.uniform(*style.saturation)
    palette = _RGB[Colour.NEUTRAL] + saturation * (_RGB - _RGB[Colour.NEUTRAL])
    beats = _beats(shown, beats=style.beats, generator=generator)
    colours = palette[_timeline(beats, style=style)]
    corners = _places(style=style, generator=generator)
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


def _beats(shown: VideoClass, *, beats: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """The colour of every beat: int64 [beats]."""
    colours = [int(colour) for colour in shown.colours]
    first, *others = colours if shown.in_order else generator.permutation(colours)
    changes = int(generator.integers(*shown.changes, endpoint=True))
    if not changes:
        return np.full(beats, first)
    stretches = changes + 1
    lengths = np.empty(stretches, dtype=np.int64)
    # either colour has half of the beats, cut into its stretches at random
    lengths[0::2] = _parts(beats // 2, parts=(stretches + 1) // 2, generator=generator)
    lengths[1::2] = _parts(beats - beats // 2, parts=stretches // 2, generator=generator)
    return np.repeat(np.where(np.arange(stretches) % 2, others[0], first), lengths)


def _timeline(beats: NDArray[np.int64], *, style: VideoStyle) -> NDArray[np.int64]:
    """The colour of every frame: int64 [frames]."""
    if not style.rests:
        return beats[np.arange(style.frames) * style.beats // style.frames]
    length = style.frames // style.beats
    colours = np.append(np.repeat(beats, length), Colour.NEUTRAL)
    colours[::length] = Colour.NEUTRAL
    return colours


def _parts(whole: int, *, parts: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """``whole`` as a sum of so many numbers of at least 1, every such sum as likely as any other."""
    cuts = np.sort(generator.choice(whole - 1, size=parts - 1, replace=False)) + 1
    return np.diff([0, *cuts, whole])


def _places(*, style: VideoStyle, generator: np.random.Generator) -> Floats:
    """The upper left corner (top, left) of the digit in every frame: [frames, 2].

    Given its place, frames are independent of each other: they could come in any order.
    """
    room = style.side - style.digit
    hop = min(style.hop, room / 2)
    place = generator.uniform(hop, room - hop, size=2)
    return place + generator.uniform(-hop, hop, size=(style.frames, 2))


def _sample(image: Floats, *, rows: Floats, columns: Floats) -> Floats:
    """Bilinear values of ``image`` at every pair of a row and a column: [rows, columns]; outside, its edge."""
    return _weights(rows, length=image.shape[0]) @ image @ _weights(columns, length=image.shape[1]).T


def _weights(positions: Floats, *, length: int) -> Floats:
    """The share of each of ``length`` cells in each position: [positions, length]; rows add up to 1."""
    inside = positions.clip(0, length - 1)
    return (1 - np.abs(inside[:, None] - np.arange(length))).clip(0, 1)
