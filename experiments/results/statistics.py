"""Estimates of accuracies and of differences, with intervals. scipy does the statistics.

Two things are left to chance, and every interval says which of them it covers:

- **seeds**: another seed would give other weights. Measured by the spread over the seeds that were run; the ± of a
  mean in a table is this alone (Student's t, 95 %): another seed, tested on the same videos.
- **videos**: other test videos would be right and wrong elsewhere. Measured by a bootstrap over the test videos, of the
  mean over seeds; for a difference it is paired: both models are right or wrong about the same resampled videos.

Intervals and p of differences, and every verdict, cover both: the half-widths of the two t intervals add as the sides
of a right angle. (One t with the degrees of freedom of Welch and Satterthwaite is narrower, and for two seeds it errs
too often; ``tests/results/test_verdicts.py`` measures how often this rule does.) Luck that belongs to one seed and
one video alone is in both parts, which errs on the side of wider intervals. The paper's own list of test videos is no
sample of videos: ``Estimate.of_list``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

LEVEL = 0.95
_RESAMPLES = 1000
_CHUNK = 100
# the logarithm of the smallest p that is told apart from zero
_LEAST = math.log(1e-12)
# and of the largest that is told apart from one
_MOST = -1e-15


@dataclass(frozen=True)
class Summary:
    """Mean over ``n`` seeds and half the width of its 95 % t interval; None for a single seed, which has no spread."""

    n: int
    mean: float
    half: float | None


def summarise(values: Sequence[float]) -> Summary | None:
    """The summary of ``values``; None where there are none."""
    if not values:
        return None
    n = len(values)
    if n == 1:
        return Summary(n=1, mean=float(values[0]), half=None)
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n)
    return Summary(n=n, mean=float(np.mean(values)), half=float(half))


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds and test videos, in points, with its standard errors from either.

    ``seed_error`` is None for a single seed: then there is no interval and no p.
    """

    mean: float
    seeds: int
    seed_error: float | None
    videos: int
    video_error: float

    @classmethod
    def of(cls, values: NDArray[np.signedinteger]) -> Self:
        """From ``values`` [seeds, videos]: 0 or 1 for a model's right answers, -1 to 1 for a difference of two."""
        seeds, videos = values.shape
        points = 100 * values.mean(axis=1)
        return cls(
            mean=float(points.mean()),
            seeds=seeds,
            seed_error=float(points.std(ddof=1) / math.sqrt(seeds)) if seeds > 1 else None,
            videos=videos,
            video_error=100 * bootstrap_error(values.sum(axis=0)) / seeds,
        )

    def half(self, level: float = LEVEL) -> float | None:
        """Half the width of the interval at ``level``, over seeds and videos."""
        if self.seed_error is None:
            return None
        of_seeds, of_videos = special.stdtrit([self.seeds - 1, self.videos - 1], (1 + level) / 2)
        return math.hypot(of_seeds * self.seed_error, of_videos * self.video_error)

    def video_half(self, level: float = LEVEL) -> float:
        """Half the width of the interval at ``level`` over videos alone."""
        return float(special.stdtrit(self.videos - 1, (1 + level) / 2)) * self.video_error

    @property
    def p(self) -> float | None:
        """Two-sided p of the mean being zero: one minus the level at which the interval just touches zero."""
        if self.seed_error is None:
            return None
        if self.seed_error == self.video_error == 0 or self.mean == 0:
            return float(self.mean == 0)

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

    def of_list(self, size: int) -> Self:
        """As an estimate of the mean over a list of ``size`` videos of which these are some: the finite population
        correction. The whole list is no sample and leaves no error; lost videos are taken to be like the others.
        """
        return replace(self, video_error=self.video_error * math.sqrt(max(0.0, 1 - self.videos / size)))

    def with_seeds(self, seeds: int) -> Self:
        """The estimate that ``seeds`` seeds would give if mean and spread stayed."""
        assert self.seed_error is not None
        return replace(self, seeds=seeds, seed_error=self.seed_error * math.sqrt(self.seeds / seeds))


def holm(values: Sequence[float]) -> list[float]:
    """``values``, a family of p, corrected by Holm (1979): the step-down Bonferroni."""
    order = np.argsort(values, kind="stable")
    raised = np.asarray(values, dtype=float)[order] * np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(raised))
    return [float(value) for value in corrected]


def bootstrap_error(totals: NDArray[np.signedinteger]) -> float:
    """Standard deviation of the mean of ``totals`` [videos] over resampled videos. Repeats to the bit."""
    counts = _resamples(len(totals))
    # whole numbers below 2**24, so sums are exact whatever adds them up
    column = totals.astype(np.float32)
    sums = [counts[start : start + _CHUNK].astype(np.float32) @ column for start in range(0, _RESAMPLES, _CHUNK)]
    return float(np.concatenate(sums).astype(np.float64).std(ddof=1) / len(totals))


@lru_cache(maxsize=4)
def _resamples(videos: int) -> NDArray[np.uint8]:
    """Counts of each video in each resample, [resamples, videos]; the same for all models of one list."""
    rng = np.random.default_rng(0)
    chunks = [
        rng.multinomial(videos, np.full(videos, 1 / videos), size=_CHUNK).astype(np.uint8)
        for _ in range(0, _RESAMPLES, _CHUNK)
    ]
    return np.concatenate(chunks)
