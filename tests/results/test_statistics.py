"""Intervals, p and corrections agree with scipy and statsmodels, and say nothing where nothing is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from experiments.results.statistics import Estimate, Summary, bootstrap_error, holm, summarise
from experiments.results.verdicts import (
    MARGIN,
    TIE_MARGIN,
    Judgement,
    Verdict,
    against_direction,
    against_printed,
    of_published_weights,
)

RNG = np.random.default_rng(0)


def right(seeds: int, videos: int, share: float = 0.8) -> NDArray[np.int8]:
    return (RNG.random((seeds, videos)) < share).astype(np.int8)


def estimate(mean: float, seed_error: float | None, *, seeds: int = 5, video_error: float = 0.0) -> Estimate:
    return Estimate(mean=mean, seeds=seeds, seed_error=seed_error, videos=20_000, video_error=video_error)


def test_summaries_are_t_intervals() -> None:
    assert summarise([]) is None
    assert summarise([80.0]) == Summary(1, 80.0, None)
    values = RNG.normal(80, 2, 6).tolist()
    summary = summarise(values)
    assert summary is not None
    assert summary.half is not None
    low, high = DescrStatsW(values).tconfint_mean(0.05)
    assert (summary.mean - summary.half, summary.mean + summary.half) == pytest.approx((low, high))


def test_over_seeds_alone_a_difference_is_the_paired_t_test() -> None:
    one, two = RNG.normal(80, 2, 7), RNG.normal(79, 2, 7)
    found = estimate(float((one - two).mean()), float(stats.sem(one - two)), seeds=7)
    expected = stats.ttest_rel(one, two)
    assert found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.9)
    assert found.half(0.9) == pytest.approx((interval.high - interval.low) / 2)


def test_equivalence_is_statsmodels_two_one_sided_tests() -> None:
    for spread in (0.05, 0.2, 0.4, 0.6):
        values = RNG.normal(78.8, spread, 6)
        p, *_ = ttost_paired(values, np.full(6, 78.8), -MARGIN, MARGIN)
        verdict = against_printed(estimate(float(values.mean()), float(stats.sem(values)), seeds=6), 78.8).verdict
        assert (verdict is Verdict.REPRODUCED) == (p < 0.05)


def test_estimates_from_videos() -> None:
    values = right(4, 500)
    found = Estimate.of(values)
    assert found.mean == pytest.approx(100 * values.mean())
    assert found.seed_error == pytest.approx(stats.sem(100 * values.mean(axis=1)))
    # the bootstrap of a mean is known in closed form; a thousand resamples are within a few percent of it
    assert found.video_error == pytest.approx(100 * values.mean(axis=0).std() / math.sqrt(500), rel=0.08)
    expected = stats.bootstrap(
        (values.mean(axis=0),), np.mean, n_resamples=4000, rng=np.random.default_rng(1)
    ).standard_error
    assert found.video_error == pytest.approx(100 * expected, rel=0.08)


def test_the_bootstrap_is_paired() -> None:
    """Two models that are right about the same videos differ by nothing that other videos would change."""
    one = right(3, 400)
    assert Estimate.of(one - one) == Estimate(mean=0, seeds=3, seed_error=0, videos=400, video_error=0)
    other = one.copy()
    other[:, :8] ^= 1
    assert Estimate.of(one - other).video_error < 0.5 * Estimate.of(one).video_error


def test_the_bootstrap_repeats_to_the_bit() -> None:
    totals = right(5, 333).sum(axis=0)
    assert bootstrap_error(totals) == bootstrap_error(totals.astype(np.int64)) != bootstrap_error(totals[::-1])


def test_both_errors_widen_an_interval() -> None:
    seeds, videos = estimate(2, 0.5), estimate(2, 0.0, video_error=0.7)
    both = estimate(2, 0.5, video_error=0.7)
    halves = [item.half() for item in (seeds, videos, both)]
    assert None not in halves
    assert halves[2] == pytest.approx(math.hypot(halves[0] or 0, halves[1] or 0))
    # p is where the interval touches zero
    assert both.p is not None
    assert both.half(1 - both.p) == pytest.approx(2)
    assert both.p > max(seeds.p or 0, videos.p or 0)


def test_one_seed_has_neither_interval_nor_p() -> None:
    found = Estimate.of(right(1, 100))
    assert (found.seed_error, found.half(), found.p) == (None, None, None)
    assert against_direction(found, -1.0) == Judgement(Verdict.UNDERPOWERED, "2 or more seeds", 2)


def test_p_of_no_difference_and_of_no_doubt() -> None:
    assert estimate(0.0, 0.0).p == 1
    assert estimate(1.0, 0.0).p == 0
    assert estimate(0.0, 0.3).p == 1
    assert 0 < (estimate(1000.0, 0.001, video_error=0.001).p or 0) < 1e-9


def test_holm_is_statsmodels_holm() -> None:
    for size in (1, 2, 7, 30):
        values = RNG.random(size) ** 3
        np.testing.assert_allclose(holm(values.tolist()), multipletests(values, method="holm")[1])
    assert holm([]) == []
    assert holm([0.01, 0.01, 0.9]) == pytest.approx([0.03, 0.03, 0.9])


def test_a_whole_list_of_videos_is_no_sample() -> None:
    part = estimate(80, 0.1, video_error=0.4)
    assert part.of_list(20_000).video_error == part.of_list(19_000).video_error == 0
    assert part.of_list(40_000).video_error == pytest.approx(0.4 * math.sqrt(0.5))


def test_the_seeds_that_would_decide_do_decide() -> None:
    found = estimate(0.25, 0.3)
    judged = against_printed(found, 0.0)
    assert judged.verdict is Verdict.UNDERPOWERED
    assert judged.seeds is not None
    assert against_printed(found.with_seeds(judged.seeds), 0.0).verdict is Verdict.REPRODUCED
    assert against_printed(found.with_seeds(judged.seeds - 1), 0.0).verdict is Verdict.UNDERPOWERED
    # what no number of seeds decides says so
    assert against_printed(estimate(MARGIN, 0.3), 0.0).needs == "more than 1000 seeds"
    assert against_printed(estimate(0.0, 0.1, video_error=1.0), 0.0).needs == "more videos"


@pytest.mark.parametrize(
    ("mean", "printed", "verdict"),
    [
        (-3.0, -2.4, Verdict.AGREES),
        (3.0, -2.4, Verdict.DISAGREES),
        (-0.5, -2.4, Verdict.UNDERPOWERED),
        # the paper prints the same number twice
        (0.5, 0.0, Verdict.AGREES),
        (TIE_MARGIN + 2, 0.0, Verdict.DISAGREES),
        (TIE_MARGIN, 0.0, Verdict.UNDERPOWERED),
        # 78.8 - 78.5 and the like
        (-3.0, 78.5 - 78.8, Verdict.AGREES),
        (0.5, 78.8 - 78.8 + 1e-14, Verdict.AGREES),
    ],
)
def test_at_scale_mini_only_directions_count(mean: float, printed: float, verdict: Verdict) -> None:
    assert against_direction(estimate(mean, 0.5), printed).verdict is verdict


def test_holms_correction_counts_in_a_verdict() -> None:
    found = estimate(-1.6, 0.5)
    assert against_direction(found, -1.0).verdict is Verdict.AGREES
    assert against_direction(found, -1.0, correction=3).verdict is Verdict.UNDERPOWERED


@pytest.mark.parametrize(
    ("top", "error", "verdict"),
    [
        (78.84, 0.0, Verdict.REPRODUCED),
        (77.7, 0.0, Verdict.NOT_REPRODUCED),
        # a few hundred videos decide nothing
        (78.84, 1.8, Verdict.UNDERPOWERED),
        (70.0, 1.8, Verdict.NOT_REPRODUCED),
    ],
)
def test_published_weights_are_judged_by_the_missing_videos(top: float, error: float, verdict: Verdict) -> None:
    assert of_published_weights(top, videos=500, video_error=error, printed=78.8).verdict is verdict


@pytest.mark.parametrize("mean", [1e-18, 3e-16, -3e-16])
def test_a_mean_of_rounding_errors_is_no_difference(mean: float) -> None:
    estimate = Estimate(mean=mean, seeds=5, seed_error=2.0, videos=384, video_error=1.0)
    assert estimate.p == pytest.approx(1.0)
