"""The verdict on a cell, by a rule that is stated before anything is measured.

**Scale paper, against the printed number.** The same model on the same list of videos, so numbers can be compared. A
trained cell is *reproduced* if it is equivalent to the printed value within 0.5 points: both one-sided t tests reject
at 5 % (TOST, Schuirmann 1987), that is, the 90 % interval lies inside printed value ± 0.5. It is *not reproduced* if
that interval lies wholly outside, *underpowered* otherwise, with the number of seeds that would decide it if mean and
spread stayed. So at the margin a cell is called reproduced in at most one case of twenty; a model that is the same,
with seeds 0.3 points apart, is called so from five seeds in two cases of three, from ten nearly always. Half a point
is what retrainings by others stay within: those of mmaction2 lie up to 0.4 from the printed values. Error of the test
videos counts as far as videos of the paper's list are missing; lists are taken to be as long as section 4.1 says.
Published weights have no seed: *reproduced* and *not reproduced* go by the error of the missing videos alone.

**Scale mini, against the printed differences only.** Another task at another size: numbers are never compared. A row
is held against its block's baseline, paired by seed and video, with p corrected by Holm over the table. If the paper
prints different numbers, the row *agrees* where the difference is significant at 5 % and has the paper's sign,
*disagrees* where it is significant and has the other, and is *underpowered* otherwise. If the paper prints the same
number twice there is no sign: the row *agrees* if the 90 % interval lies inside ± 5 points, *disagrees* if it lies
wholly outside. The same rule holds every pair of a block's rows against the paper's order.

One seed decides nothing. Nothing measured: *not run*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from .statistics import Estimate

MARGIN = 0.5
TIE_MARGIN = 5.0
ALPHA = 0.05
_MOST_SEEDS = 1000

# Section 4.1 of the paper; of Kinetics-600 and Something-Something v2 in thousands with one digit.
TEST_VIDEOS = {"kinetics400": 20_000, "kinetics600": 28_300, "something-something-v2": 24_700}


class Verdict(StrEnum):
    """The verdict of a cell about the paper."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    AGREES = "agrees"
    DISAGREES = "disagrees"
    UNDERPOWERED = "underpowered"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Judgement:
    """A verdict, and where it is underpowered what would decide it: so many ``seeds``, None if seeds would not."""

    verdict: Verdict
    needs: str = ""
    seeds: int | None = None

    def __str__(self) -> str:
        return f"{self.verdict} (needs {self.needs})" if self.needs else self.verdict.value


NOT_RUN = Judgement(Verdict.NOT_RUN)


def against_printed(estimate: Estimate, printed: float) -> Judgement:
    """Judge if a mean at scale paper is the ``printed`` one; videos of a list as ``Estimate.of_list`` has them."""
    difference = replace(estimate, mean=estimate.mean - printed)
    return _judge(difference, lambda item: _equivalent(item, MARGIN, (Verdict.REPRODUCED, Verdict.NOT_REPRODUCED)))


def of_published_weights(top: float, *, videos: int, video_error: float, printed: float) -> Judgement:
    """As ``against_printed``, of one file of weights; ``video_error`` comes of the videos that are missing."""
    # two equal seeds: nothing but the videos varies, and the degrees of freedom are theirs
    whole = Estimate(mean=top - printed, seeds=2, seed_error=0.0, videos=videos, video_error=video_error)
    verdict = _equivalent(whole, MARGIN, (Verdict.REPRODUCED, Verdict.NOT_REPRODUCED))
    return Judgement(verdict, "more videos" if verdict is Verdict.UNDERPOWERED else "")


def against_direction(difference: Estimate, printed: float, *, correction: float = 1.0) -> Judgement:
    """Judge if a ``difference`` at scale mini goes where the paper's goes.

    ``printed`` is the difference of two printed numbers; ``correction`` is what Holm multiplies p with.
    """
    # printed with one digit: anything smaller is the rounding of a subtraction
    if abs(printed) < 0.05:
        return _judge(difference, lambda item: _equivalent(item, TIE_MARGIN, (Verdict.AGREES, Verdict.DISAGREES)))

    def sign(item: Estimate) -> Verdict:
        half = item.half(1 - ALPHA / correction)
        if half is None or abs(item.mean) <= half:
            return Verdict.UNDERPOWERED
        return Verdict.AGREES if item.mean * printed > 0 else Verdict.DISAGREES

    return _judge(difference, sign)


def _equivalent(difference: Estimate, margin: float, words: tuple[Verdict, Verdict]) -> Verdict:
    half = difference.half(1 - 2 * ALPHA)
    inside, outside = words
    if half is None:
        return Verdict.UNDERPOWERED
    if abs(difference.mean) + half < margin:
        return inside
    return outside if abs(difference.mean) - half > margin else Verdict.UNDERPOWERED


def _judge(estimate: Estimate, rule: Callable[[Estimate], Verdict]) -> Judgement:
    verdict = rule(estimate)
    if verdict is not Verdict.UNDERPOWERED:
        return Judgement(verdict)
    if estimate.seed_error is None:
        # of the spread nothing is known yet
        return Judgement(verdict, "2 or more seeds", 2)

    def decided(seeds: int) -> bool:
        return rule(estimate.with_seeds(seeds)) is not Verdict.UNDERPOWERED

    if not decided(_MOST_SEEDS):
        return Judgement(verdict, "more videos" if estimate.video_error else f"more than {_MOST_SEEDS} seeds")
    few, enough = estimate.seeds, _MOST_SEEDS
    while enough - few > 1:
        middle = math.ceil((few + enough) / 2)
        few, enough = (few, middle) if decided(middle) else (middle, enough)
    return Judgement(verdict, f"{enough} seeds", enough)
