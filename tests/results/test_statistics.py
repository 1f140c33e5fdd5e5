"""Intervals, p and corrections agree with scipy and statsmodels, and say nothing where nothing is known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from experiments.results.statistics import Estimate, SeedSpread, Summary, holm, summarise
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
    """Of one mean, with this error over seeds."""
    spread = SeedSpread(seeds, None if seed_error is None else seeds * seed_error**2)
    return Estimate(mean=mean, spreads=(spread,), videos=20_000, video_error=video_error, fixed_error=video_error)


def accuracies(*rows: list[float]) -> Estimate:
    """Of a mean or a difference of two, on the paper's own videos."""
    spreads = tuple(SeedSpread(len(row), float(np.var(row, ddof=1))) for row in rows)
    means = [float(np.mean(row)) for row in rows]
    mean = means[0] - sum(means[1:])
    return Estimate(mean=mean, spreads=spreads, videos=20_000, video_error=0.0, fixed_error=0.0)


def test_summaries_are_t_intervals_away_from_the_ends() -> None:
    assert summarise([]) is None
    assert summarise([80.0]) == Summary((80.0,), None, None)
    values = RNG.normal(50, 0.5, 6).tolist()
    summary = summarise(values)
    assert summary is not None
    assert (summary.n, summary.mean) == (6, pytest.approx(np.mean(values)))
    assert (summary.low, summary.high) == pytest.approx(DescrStatsW(values).tconfint_mean(0.05), abs=0.01)


def test_summaries_are_wilsons_interval_where_seeds_scatter_as_answers_do() -> None:
    """With the spread of means of 20 independent answers the effective sample is seeds x 20 answers."""
    seeds, share = 2000, 0.9
    spread = math.sqrt(share * (1 - share) / 20)
    values = share + spread * stats.norm.ppf((np.arange(seeds) + 0.5) / seeds)
    values = share + (values - values.mean()) * spread / values.std(ddof=1)
    summary = summarise((100 * values).tolist())
    assert summary is not None
    low, high = proportion_confint(20 * seeds * share, 20 * seeds, method="wilson")
    assert (summary.low, summary.high) == pytest.approx((100 * low, 100 * high), abs=0.005)


@pytest.mark.parametrize("values", [[53, 80, 83, 100, 100], [100, 99.9], [0, 0, 0.3], [0, 100], [0.1, 99.7, 100]])
def test_summaries_stay_within_0_and_100(values: list[float]) -> None:
    summary = summarise(values)
    assert summary is not None
    assert summary.low is not None
    assert summary.high is not None
    assert 0 <= summary.low < summary.mean < summary.high <= 100


def test_summaries_in_words() -> None:
    assert str(summarise([75.0])) == "75.0"
    assert str(summarise([75.0, 75.0])) == "75.0 (2 equal seeds)"
    assert str(summarise([0.1 + 0.2, 0.3, 0.3])) == "0.3 (3 equal seeds)"
    assert str(summarise([49.0, 50.0, 51.0])) == "50.0 ± 2.5"
    assert str(summarise([53, 80, 83, 100, 100])) == "83.2 (51.2 to 95.9)"


def test_over_seeds_alone_a_difference_is_welchs_t_test() -> None:
    one, two = RNG.normal(80, 2, 7).tolist(), RNG.normal(79, 0.5, 4).tolist()
    found = accuracies(one, two)
    expected = stats.ttest_ind(one, two, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.freedom == pytest.approx(expected.df)
    interval = expected.confidence_interval(0.9)
    assert found.half(0.9) == pytest.approx((interval.high - interval.low) / 2)


def test_equivalence_is_statsmodels_two_one_sided_tests_of_a_single_run() -> None:
    """Of the printed run nothing is known but its value; it has the spread of ours, and theirs is the pooled test."""
    verdicts = set()
    for spread in (0.05, 0.2, 0.3, 0.4, 0.6):
        values = RNG.normal(78.8, spread, 6)
        pair = CompareMeans(DescrStatsW(values), DescrStatsW([78.8]))
        p, *_ = pair.ttost_ind(-MARGIN, MARGIN, usevar="pooled")
        verdict = against_printed(accuracies(values.tolist()), 78.8).verdict
        assert (verdict is Verdict.REPRODUCED) == (p < 0.05)
        verdicts.add(verdict)
    assert verdicts == {Verdict.REPRODUCED, Verdict.UNDERPOWERED}


def test_estimates_from_videos() -> None:
    values = right(4, 500)
    found = Estimate.of(values)
    assert found.mean == pytest.approx(100 * values.mean())
    assert found.seed_error is not None
    # these models on other videos: the bootstrap, in closed form
    assert found.fixed_error == pytest.approx(stats.sem(100 * values.mean(axis=0)))
    expected = stats.bootstrap(
        (values.mean(axis=0),), np.mean, n_resamples=4000, rng=np.random.default_rng(1)
    ).standard_error
    assert found.fixed_error == pytest.approx(100 * expected, rel=0.08)


def test_the_parts_are_those_of_a_two_way_analysis_of_variance() -> None:
    chances = RNG.uniform(0.2, 0.9, 60)
    values = (RNG.random((4, 60)) < chances + RNG.normal(0, 0.1, (4, 1))).astype(np.int8)
    frame = pd.DataFrame([(s, v, 100 * values[s, v]) for s in range(4) for v in range(60)], columns=["s", "v", "y"])
    found = anova_lm(ols("y ~ C(s) + C(v)", frame).fit())
    seed, video, rest = (found.loc[name, "mean_sq"] for name in ("C(s)", "C(v)", "Residual"))
    estimate = Estimate.of(values)
    assert estimate.spreads[0].variance == pytest.approx(max(seed, rest) / 60)
    assert estimate.video_error**2 == pytest.approx(max(0, video - rest) / 4 / 60)
    assert estimate.fixed_error**2 == pytest.approx(video / 4 / 60)


def test_differences_are_paired_by_video_and_not_by_seed() -> None:
    """Two models that are right about the same videos differ by nothing that other videos would change."""
    chances = RNG.permutation(np.repeat([0.0, 1.0], 200))
    one, two = ((RNG.random((3, 400)) < 0.1 + 0.8 * chances).astype(np.int8) for _ in range(2))
    found = Estimate.between(one, two)
    assert found.video_error < 0.3 * Estimate.of(one).video_error
    # whichever seed stands beside which
    shuffled = Estimate.between(one[[1, 2, 0]], two)
    assert shuffled.half() == pytest.approx(found.half())
    # and as many as there are
    uneven = Estimate.between(one, two[:2])
    assert [spread.seeds for spread in uneven.spreads] == [3, 2]
    assert uneven.mean == pytest.approx(100 * (one.mean() - two[:2].mean()))
    assert uneven.half() is not None


def test_seeds_that_are_equal_by_chance_have_the_error_of_their_luck() -> None:
    one = np.tile(np.repeat([0, 1], 50), (2, 1)).astype(np.int8)
    one[0, :5], one[1, 5:10] = 1, 1
    found = Estimate.of(one)
    assert one.mean(axis=1).tolist() == [0.55, 0.55]
    assert found.seed_error is not None
    assert found.seed_error > 0


def test_seeds_that_give_the_same_answers_say_nothing_of_the_spread() -> None:
    same = np.tile(right(1, 300), (2, 1))
    found = Estimate.between(same, 1 - same)
    assert (found.seed_error, found.half(), found.p) == (None, None, None)
    assert against_direction(found, -1.0) == Judgement(Verdict.UNDERPOWERED, "3 or more seeds", 3)


def test_intervals_repeat_to_the_bit() -> None:
    one, two = right(5, 333), right(4, 333)
    assert Estimate.between(one, two) == Estimate.between(one.astype(np.int64), two.astype(np.int64))


def test_both_errors_widen_an_interval() -> None:
    seeds, both = estimate(2, 0.5), estimate(2, 0.5, video_error=0.7)
    of_seeds, of_both = seeds.half(), both.half()
    assert of_seeds is not None
    assert of_both == pytest.approx(math.hypot(of_seeds, both.video_half()))
    # p is where the interval touches zero
    assert both.p is not None
    assert both.half(1 - both.p) == pytest.approx(2)
    assert both.p > (seeds.p or 0)


def test_one_seed_has_neither_interval_nor_p() -> None:
    found = Estimate.of(right(1, 100))
    assert (found.seed_error, found.half(), found.p) == (None, None, None)
    assert against_direction(found, -1.0) == Judgement(Verdict.UNDERPOWERED, "2 or more seeds", 2)


def test_p_of_no_difference_and_of_no_doubt() -> None:
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
    assert part.of_list(40_000).fixed_error == pytest.approx(0.4 * math.sqrt(0.5))


def test_the_seeds_that_would_decide_do_decide() -> None:
    found = estimate(0.3, 0.15)
    judged = against_printed(found, 0.0)
    assert judged.verdict is Verdict.UNDERPOWERED
    assert judged.seeds is not None
    assert against_printed(found.with_seeds(judged.seeds), 0.0).verdict is Verdict.REPRODUCED
    assert against_printed(found.with_seeds(judged.seeds - 1), 0.0).verdict is Verdict.UNDERPOWERED
    # what no number of seeds decides says so
    assert against_printed(estimate(0.0, 0.5), 0.0).needs == "more than one printed run"
    assert against_printed(estimate(0.0, 0.1, video_error=1.0), 0.0).needs == "more videos"
    assert against_direction(estimate(TIE_MARGIN, 0.3), 0.0).needs == "more than 1000 seeds"


def test_a_printed_number_is_one_run_and_its_own_weights_are_that_run() -> None:
    """Half a point off and with seeds 0.3 apart: the mean is known, what one run would give is not."""
    seeds = estimate(78.8, 0.3 / math.sqrt(5))
    assert against_printed(seeds, 78.3).verdict is Verdict.UNDERPOWERED
    assert against_printed(seeds, 78.7).verdict is Verdict.REPRODUCED
    assert against_printed(seeds, 76.8).verdict is Verdict.NOT_REPRODUCED
    assert of_published_weights(78.8, videos=20_000, video_error=0.0, printed=78.2).verdict is Verdict.NOT_REPRODUCED


@pytest.mark.parametrize(
    ("mean", "printed", "verdict"),
    [
        (-3.0, -2.4, Verdict.AGREES),
        (3.0, -2.4, Verdict.DISAGREES),
        (-0.5, -2.4, Verdict.UNDERPOWERED),
        # what two runs of one model may differ by has no sign
        (-3.0, 78.5 - 78.8, Verdict.PAPER_CANNOT_TELL),
        (-3.0, 79.1 - 78.6, Verdict.PAPER_CANNOT_TELL),
        (3.0, -0.1, Verdict.PAPER_CANNOT_TELL),
        (-3.0, 80.0 - 80.6, Verdict.AGREES),
        # the paper prints the same number twice
        (0.5, 0.0, Verdict.AGREES),
        (TIE_MARGIN + 2, 0.0, Verdict.DISAGREES),
        (TIE_MARGIN, 0.0, Verdict.UNDERPOWERED),
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
    assert estimate(mean, 2.0, video_error=1.0).p == pytest.approx(1.0)
