"""How often a verdict is wrong, by simulation of seeds and videos: what the rule promises, it keeps."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.results.statistics import Estimate
from experiments.results.verdicts import MARGIN, Verdict, against_direction, against_printed

_TRIALS = 1500
# 5 %, and three standard errors of a rate that is measured in so many trials
_ALLOWED = 0.05 + 3 * (0.05 * 0.95 / _TRIALS) ** 0.5

Generator = np.random.Generator


def answers(rng: Generator, chances: NDArray[np.float64], *, seeds: int, spread: float) -> NDArray[np.int8]:
    """Right answers [seeds, videos]: a video has its own chance, and a seed shifts all of them (spread in points)."""
    shift = rng.normal(0, spread / 100, (seeds, 1))
    return (rng.random((seeds, len(chances))) < np.clip(chances + shift, 0, 1)).astype(np.int8)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.1, 0.5])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_reproduced_is_wrong_in_at_most_one_case_of_twenty(seeds: int, spread: float, share: float) -> None:
    """The true mean over the paper's list, of which a ``share`` is tested, is at the margin: the worst case."""
    rng = np.random.default_rng([seeds, round(100 * spread), round(10 * share)])
    size = 4000
    verdicts: Counter[Verdict] = Counter()
    for _ in range(_TRIALS):
        # away from 0 and 1, where a shift would be cut off
        chances = rng.uniform(0.3, 0.95, size)
        tested = rng.choice(size, round(share * size), replace=False)
        found = Estimate.of(answers(rng, chances[tested], seeds=seeds, spread=spread)).of_list(size)
        side = rng.choice([-1, 1])
        verdicts[against_printed(found, 100 * chances.mean() + side * MARGIN).verdict] += 1
    assert verdicts[Verdict.REPRODUCED] <= _ALLOWED * _TRIALS, verdicts
    assert verdicts[Verdict.NOT_REPRODUCED] <= _ALLOWED * _TRIALS, verdicts


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "least"), [(5, 0.6), (10, 0.9)])
def test_what_is_the_same_is_found_to_be(seeds: int, least: float) -> None:
    """A rule that never says anything would make no errors either. Seeds lie 0.3 points apart, as on 20,000 videos
    whose answers are independent: then five decide most cases, and ten nearly all.
    """
    rng = np.random.default_rng(0)
    verdicts: Counter[Verdict] = Counter()
    for _ in range(200):
        chances = rng.uniform(0.3, 0.95, 20_000)
        found = Estimate.of(answers(rng, chances, seeds=seeds, spread=0.1)).of_list(20_000)
        verdicts[against_printed(found, 100 * chances.mean()).verdict] += 1
    assert verdicts[Verdict.REPRODUCED] > least * 200, verdicts
    assert verdicts[Verdict.NOT_REPRODUCED] == 0, verdicts


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 1.0, 8.0])
def test_where_models_are_equal_neither_direction_is_found(seeds: int, spread: float) -> None:
    rng = np.random.default_rng([seeds, round(spread)])
    verdicts: Counter[Verdict] = Counter()
    for _ in range(_TRIALS):
        chances = rng.uniform(0.3, 0.7, 384)
        one, two = (answers(rng, chances, seeds=seeds, spread=spread) for _ in range(2))
        verdicts[against_direction(Estimate.of(one - two), -1.0).verdict] += 1
    assert verdicts[Verdict.AGREES] + verdicts[Verdict.DISAGREES] <= _ALLOWED * _TRIALS, verdicts


@pytest.mark.slow
def test_a_large_difference_is_found() -> None:
    rng = np.random.default_rng(1)
    verdicts: Counter[Verdict] = Counter()
    for _ in range(300):
        chances = rng.uniform(0.4, 0.6, 384)
        better = answers(rng, chances + 0.3, seeds=5, spread=2.0)
        worse = answers(rng, chances, seeds=5, spread=2.0)
        verdicts[against_direction(Estimate.of(worse - better), -1.0).verdict] += 1
    assert verdicts[Verdict.AGREES] > 0.95 * 300, verdicts
