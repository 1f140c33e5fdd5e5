"""A token grid cut by displaced windows into boxes, so that nothing is rolled and nothing masked.

The published code rolls the grid, cuts it into equal windows, and masks the pairs of tokens that the roll brought
together from both ends of an axis. Such pairs never meet: the windows at the borders are several smaller ones. Taken
as such they are less work. Of the scores in Swin-T's shifted blocks at 32x224x224, a third (first stage) to more than
half (third stage) belong to masked pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

from torch import Tensor

from ..config import Extent


@dataclass(frozen=True, kw_only=True)
class Span:
    """``count`` segments of ``size`` tokens, side by side along one axis."""

    start: int
    size: int
    count: int

    @property
    def end(self) -> int:
        return self.start + self.size * self.count

    def halves(self) -> tuple[Span, Span]:
        left = replace(self, count=self.count // 2)
        return left, replace(self, start=left.end, count=self.count - left.count)


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """Boxes of one size, side by side along every axis, in consecutive samples of a batch."""

    samples: Span
    time: Span
    height: Span
    width: Span

    @property
    def size(self) -> Extent:
        """The extent of each box."""
        return Extent(self.time.size, self.height.size, self.width.size)

    @property
    def count(self) -> int:
        return self.samples.count * self.time.count * self.height.count * self.width.count

    def halves(self) -> tuple[Boxes, Boxes]:
        """The same boxes in two parts; there must be at least two."""
        axis = next(axis for axis in ("samples", "time", "height", "width") if getattr(self, axis).count > 1)
        left, right = getattr(self, axis).halves()
        return replace(self, **{axis: left}), replace(self, **{axis: right})

    def view(self, x: Tensor) -> Tensor:
        """The boxes of a grid [B, T, H, W, ...] as [samples, nt, t, nh, h, nw, w, ...], without a copy."""
        samples, time, height, width = (slice(run.start, run.end) for run in self._runs())
        x = x[samples, time, height, width]
        for axis, run in ((3, self.width), (2, self.height), (1, self.time)):
            x = x.unflatten(axis, (run.count, run.size))  # type: ignore[no-untyped-call]
        return x

    def _runs(self) -> tuple[Span, Span, Span, Span]:
        return self.samples, self.time, self.height, self.width


def displaced_runs(length: int, *, window: int, shift: int) -> list[Span]:
    """Pieces that windows displaced by ``shift`` cut an axis into: a part of one, whole ones, the other part."""
    if shift == 0:
        return [Span(start=0, size=window, count=length // window)]
    whole = Span(start=shift, size=window, count=length // window - 1)
    runs = [Span(start=0, size=shift, count=1), whole, Span(start=whole.end, size=window - shift, count=1)]
    return [run for run in runs if run.count]


@lru_cache(maxsize=128)
def displaced_windows(grid: Extent, *, batch: int, window: Extent, shift: Extent) -> tuple[Boxes, ...]:
    """The windows of a (padded) grid [B, T, H, W], displaced by ``shift`` and cut off at its ends."""
    axes = [
        displaced_runs(length, window=size, shift=moved)
        for length, size, moved in zip(grid, window, shift, strict=True)
    ]
    samples = Span(start=0, size=1, count=batch)
    return tuple(
        Boxes(samples=samples, time=time, height=height, width=width) for time, height, width in product(*axes)
    )


def pieces(boxes: Boxes, *, heads: int, largest: int) -> Iterator[tuple[Boxes, slice]]:
    """``boxes`` and ``heads`` in parts with at most ``largest`` scores each, or of one box and one head."""
    pending = [(boxes, 0, heads)]
    while pending:
        part, first, end = pending.pop()
        if part.count * (end - first) * part.size.volume**2 <= largest or part.count == end - first == 1:
            yield part, slice(first, end)
        elif part.count > 1:
            pending += [(half, first, end) for half in part.halves()[::-1]]
        else:
            middle = (first + end) // 2
            pending += [(part, middle, end), (part, first, middle)]
