"""Estimates of accuracies and of differences, with intervals. scipy does the statistics.

Answers are a table of seeds by videos, crossed: every seed's model is tested on the same videos. An answer is modelled
with random effects of both (Cornfield and Tukey 1956), so a mean has three sources of error:

- **seeds**: another seed would give other weights. Two rows' seeds have nothing in common: rows with the same seed are
  no more alike than rows with different ones (over the pairs of committed rows their accuracies correlate by -0.01 on
  average), so a difference takes each row's own spread, with the degrees of freedom of Welch and Satterthwaite;
- **videos**: other test videos would be right and wrong elsewhere. All rows are tested on the same videos, so a
  difference is paired by video: what counts is the spread over videos of the difference of the two rows' means;
- **luck of one seed at one video**, which is part of both spreads. It is estimated from what is left of the table
  when seeds and videos are taken out, and counted once: with the seeds.

All three have a closed form. The half-widths of the t intervals over seeds and over videos add as the sides of a right
angle (Howe 1974); ``tests/results/test_verdicts.py`` measures how often such intervals and verdicts are wrong.

Models differ by no less than that luck, so the variance over seeds is at least what it gives: seeds that are equal by
chance have no error of zero. Seeds that give the very same answers say nothing about the spread; then there is no
interval. The paper's own list of test videos is no sample of videos: ``Estimate.of_list``. Every training of a row
starts from one image model, whose own luck is in no interval.

The interval of one row's accuracy (``Summary``) is over seeds alone, and stays within 0 and 100.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

LEVEL = 0.95
# the logarithm of the smallest p that is told apart from zero
_LEAST = math.log(1e-12)
# and of the largest that is told apart from one
_MOST = -1e-15
# Half-widths are told by one number (the wider) where the two differ by no more than this, in points.
_LEVEL_ENOUGH = 0.5


@dataclass(frozen=True)
class Summary:
    """The mean of an accuracy over ``values``, the seeds, and its 95 % interval from ``low`` to ``high``, in percent.

    None for a single seed and for equal ones, which show no spread.
    """

    values: tuple[float, ...]
    low: float | None
    high: float | None

    @property
    def n(self) -> int:
        """The number of seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.values))

    def __str__(self) -> str:
        """``71.9 ± 2.4``; ``83.2 (51.2 to 95.9)`` where the interval is lopsided; ``75.0 (2 equal seeds)``."""
        if self.low is None or self.high is None:
            return f"{self.mean:.1f}" + (f" ({self.n} equal seeds)" if self.n > 1 else "")
        below, above = self.mean - self.low, self.high - self.mean
        if abs(below - above) <= _LEVEL_ENOUGH:
            return f"{self.mean:.1f} ± {max(below, above):.1f}"
        return f"{self.mean:.1f} ({self.low:.1f} to {self.high:.1f})"


def summarise(values: Sequence[float]) -> Summary | None:
    """The summary of accuracies in percent; None where there are none.

    The interval is Wilson's at the effective sample size, with t in place of z (Korn and Graubard 1998, Dean and Pagano
    2015): a seed is a cluster of right and wrong answers, and the spread that would be seen if the mean were m goes
    with m (100 - m). Near the middle this is the t interval; it never leaves 0 to 100, and is lopsided near an end.
    """
    if not values:
        return None
    kept = tuple(float(value) for value in values)
    spread = float(np.std(kept, ddof=1)) if len(kept) > 1 else 0.0
    # equal but for rounding
    if spread < 1e-9:
        return Summary(kept, None, None)
    share = float(np.mean(kept)) / 100
    squared = float(special.stdtrit(len(kept) - 1, (1 + LEVEL) / 2)) ** 2 * (spread / 100) ** 2 / len(kept)
    # the roots of (share - m)^2 = m (1 - m) weight
    weight = squared / (share * (1 - share))
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(squared + weight**2 / 4) / (1 + weight)
    return Summary(kept, 100 * max(0.0, centre - half), 100 * min(1.0, centre + half))


@dataclass(frozen=True)
class SeedSpread:
    """The ``variance`` of one seed's accuracy over ``seeds`` seeds, in points squared; None where it is unknown."""

    seeds: int
    variance: float | None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds and test videos, or the difference of two, in points.

    ``spreads`` has one entry for each mean. ``video_error`` is the standard error over videos of what seeds do not
    move; ``fixed_error`` that of these very models, their luck at single videos included. ``against_runs``: what it is
    held against is a single run of each row and not a mean, so it has the spread of one, too.
    """

    mean: float
    spreads: tuple[SeedSpread, ...]
    videos: int
    video_error: float
    fixed_error: float
    against_runs: bool = False

    @classmethod
    def of(cls, values: NDArray[np.signedinteger]) -> Self:
        """From ``values`` [seeds, videos], 0 or 1: a row's right answers."""
        return cls._of((values,), signs=(1,))

    @classmethod
    def between(cls, here: NDArray[np.signedinteger], there: NDArray[np.signedinteger]) -> Self:
        """``here`` minus ``there``, both as in ``of`` and on the same videos, with any seeds."""
        return cls._of((here, there), signs=(1, -1))

    @classmethod
    def _of(cls, rows: tuple[NDArray[np.signedinteger], ...], *, signs: tuple[int, ...]) -> Self:
        videos = rows[0].shape[1]
        by_video = sum(sign * row.mean(axis=0) for sign, row in zip(signs, rows, strict=True))
        over_videos = float(np.var(by_video, ddof=1))
        lucks = [_luck(row) for row in rows]
        shared = sum(luck / len(row) for luck, row in zip(lucks, rows, strict=True) if luck is not None)
        return cls(
            mean=100 * float(np.mean(by_video)),
            spreads=tuple(_spread(row, luck) for row, luck in zip(rows, lucks, strict=True)),
            videos=videos,
            video_error=100 * math.sqrt(max(0.0, over_videos - shared) / videos),
            fixed_error=100 * math.sqrt(over_videos / videos),
        )

    @property
    def seeds(self) -> int:
        """The number of seeds, of two rows the smaller one."""
        return min(spread.seeds for spread in self.spreads)

    @property
    def _over_seeds(self) -> list[tuple[float, int]] | None:
        """Variances that add up to that of the mean over seeds, with their degrees of freedom."""
        runs = 1 if self.against_runs else 0
        parts = []
        for spread in self.spreads:
            if spread.variance is None:
                return None
            parts.append((spread.variance * (1 / spread.seeds + runs), spread.seeds - 1))
        return parts if any(variance for variance, _ in parts) else None

    @property
    def seed_error(self) -> float | None:
        """The standard error over seeds; None for one seed, and for seeds that all gave the same answers."""
        parts = self._over_seeds
        return None if parts is None else math.sqrt(sum(variance for variance, _ in parts))

    @property
    def freedom(self) -> float:
        """The degrees of freedom of ``seed_error``, by Welch and Satterthwaite."""
        parts = self._over_seeds or []
        total = sum(variance for variance, _ in parts)
        return total**2 / sum(variance**2 / freedom for variance, freedom in parts if freedom) if total else 0.0

    def half(self, level: float = LEVEL) -> float | None:
        """Half the width of the interval at ``level``, over seeds and videos; None where seeds show no spread."""
        error = self.seed_error
        if error is None:
            return None
        of_seeds, of_videos = special.stdtrit([self.freedom, self.videos - 1], (1 + level) / 2)
        return math.hypot(of_seeds * error, of_videos * self.video_error)

    def video_half(self, level: float = LEVEL) -> float:
        """Half the width of the interval at ``level`` of these very models over videos alone."""
        return float(special.stdtrit(self.videos - 1, (1 + level) / 2)) * self.fixed_error

    @property
    def p(self) -> float | None:
        """Two-sided p of the mean being zero: one minus the level at which the interval just touches zero."""
        if self.seed_error is None:
            return None
        if self.mean == 0:
            return 1.0

        def excess(logarithm: float) -> float:
            half = self.half(1 - math.exp(logarithm))
            assert half is not None
            return half - abs(self.mean)

        if excess(_LEAST) < 0:
            return math.exp(_LEAST)
        if excess(_MOST) >= 0:
            # differences that cancel out, but for rounding
            return 1.0
        return math.exp(optimize.brentq(excess, _LEAST, _MOST, xtol=1e-12))

    def minus(self, printed: float) -> Self:
        """The distance to ``printed``, one run's number or the difference of two rows' single runs.

        Its interval is one of prediction: of how far a run (two) of these very rows would lie from this mean.
        """
        return replace(self, mean=self.mean - printed, against_runs=True)

    def of_list(self, size: int) -> Self:
        """As an estimate of the mean over a list of ``size`` videos of which these are some: the finite population
        correction. The whole list is no sample and leaves no error; lost videos are taken to be like the others.
        """
        left = math.sqrt(max(0.0, 1 - self.videos / size))
        return replace(self, video_error=self.video_error * left, fixed_error=self.fixed_error * left)

    def with_seeds(self, seeds: int) -> Self:
        """The estimate that ``seeds`` seeds of every row would give if means and spreads stayed."""
        return replace(self, spreads=tuple(replace(spread, seeds=seeds) for spread in self.spreads))


def _luck(values: NDArray[np.signedinteger]) -> float | None:
    """The variance of an answer, [seeds, videos], that is neither its seed's nor its video's; None for one seed."""
    seeds, videos = values.shape
    if seeds < 2:
        return None
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    return float((rest**2).sum() / ((seeds - 1) * (videos - 1)))


def _spread(values: NDArray[np.signedinteger], luck: float | None) -> SeedSpread:
    seeds, videos = values.shape
    if luck is None:
        return SeedSpread(seeds, None)
    variance = 100**2 * max(float(np.var(values.mean(axis=1), ddof=1)), luck / videos)
    # the same answers, but for rounding
    return SeedSpread(seeds, variance if variance > 1e-12 else 0.0)


def holm(values: Sequence[float]) -> list[float]:
    """``values``, a family of p, corrected by Holm (1979): the step-down Bonferroni."""
    order = np.argsort(values, kind="stable")
    raised = np.asarray(values, dtype=float)[order] * np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(raised))
    return [float(value) for value in corrected]
