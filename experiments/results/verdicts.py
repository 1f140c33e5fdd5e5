"""The verdict on a cell, by a rule that is stated before anything is measured.

**A number at scale paper, against the printed one.** The same model on the same list of videos, so numbers can be
compared. The printed number is no truth but one run, with the spread of one. So the interval is one of prediction: of
the distance between a single run and our mean, from the spread of our own seeds (as a reference of several runs judges
a submission in MLPerf). A trained cell is *reproduced* if the 90 % prediction interval of that distance lies within
± 1 point: both one-sided t tests reject at 5 % (TOST, Schuirmann 1987) that the models behind the two numbers are a
point or more apart. It is *not reproduced* if that interval lies wholly outside, *underpowered* otherwise, with the
number of seeds that would decide it if mean and spread stayed, or the word that no number would: where single runs
scatter by more than about 0.6 points, one printed run cannot be reproduced within one point, by anybody. Half of the
point is what retrainings by others stay within (those of mmaction2 lie up to 0.4 from the printed values), the other
half what single runs scatter by. Error of the test videos counts as far as videos of the paper's list are missing;
lists are taken to be as long as section 4.1 says. Published weights are the printed run itself: *reproduced* and *not
reproduced* within half a point, by the error of the missing videos alone.

**A difference, at any scale, against the printed difference.** A row is held against its block's baseline, paired by
video, seeds unpaired, with p corrected by Holm over one family: all pairs of rows that the table compares. At scale
mini that is all there is, another task at another size, and numbers are never compared. If the paper prints numbers
more than 0.5 points apart, the row *agrees* where our difference is significant at 5 % and has the paper's sign,
*disagrees* where it is significant and has the other, and is *underpowered* otherwise. Printed differences of 0.1 to
0.5 points are what two runs of one and the same model may differ by, and have no sign to agree with: *the paper cannot
tell*. If the paper prints the same number twice, the row *agrees* if the 90 % interval lies inside ± 5 points (± 1 at
scale paper), *disagrees* if it lies wholly outside. The same rule holds every pair of a block's rows against the
paper's order, with the same p.

Nothing is concluded from or against a row that was not shown to be better than its control, the same model without
attention in time, or than guessing: that row, and every row held against it, *did not learn*, whatever p. It says what
became of it in the time that it had, not how it compares once it has learnt.

One seed decides nothing. Nothing measured: *not run*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from scipy import special

from .statistics import Estimate

# In points: for a trained row against a printed run, and for the printed run's own weights.
MARGIN = 1.0
WEIGHTS_MARGIN = 0.5
# What is the same number to the paper, at scale mini and at scale paper.
TIE_MARGIN = 5.0
TIE_MARGIN_PAPER = 1.0
# Printed differences up to here, but for zero, are within what two single runs of one model differ by.
CANNOT_TELL = 0.5
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
    PAPER_CANNOT_TELL = "the paper cannot tell"
    DID_NOT_LEARN = "did not learn"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Judgement:
    """A verdict, and where it is underpowered what would decide it: so many ``seeds``, None if seeds would not.

    ``whose``: in words, who did not learn where it is not the row itself.
    """

    verdict: Verdict
    needs: str = ""
    seeds: int | None = None
    whose: str = ""

    def __str__(self) -> str:
        if self.needs:
            return f"{self.verdict} (needs {self.needs})"
        return f"{self.verdict} ({self.whose})" if self.whose else self.verdict.value


NOT_RUN = Judgement(Verdict.NOT_RUN)


def did_not_learn(*, row: bool, baseline: bool) -> Judgement:
    """The verdict where the ``row``, its ``baseline`` or both were not shown to have learnt."""
    whose = "nor did its baseline" if row and baseline else "its baseline" if baseline else ""
    return Judgement(Verdict.DID_NOT_LEARN, whose=whose)


def against_printed(estimate: Estimate, printed: float) -> Judgement:
    """Judge if a mean at scale paper is the ``printed`` one; videos of a list as ``Estimate.of_list`` has them."""
    words = (Verdict.REPRODUCED, Verdict.NOT_REPRODUCED)
    return _judge(estimate.minus(printed), lambda item: _equivalent(item.mean, item.half(1 - 2 * ALPHA), MARGIN, words))


def of_published_weights(top: float, *, videos: int, video_error: float, printed: float) -> Judgement:
    """As ``against_printed``, of one file of weights; ``video_error`` comes of the videos that are missing."""
    half = float(special.stdtrit(videos - 1, 1 - ALPHA)) * video_error
    words = (Verdict.REPRODUCED, Verdict.NOT_REPRODUCED)
    verdict = _equivalent(top - printed, half, WEIGHTS_MARGIN, words)
    return Judgement(verdict, "more videos" if verdict is Verdict.UNDERPOWERED else "")


def can_tell(printed: float) -> bool:
    """True where two printed numbers that differ by ``printed`` are either the same or further apart than noise."""
    # printed with one digit: anything smaller is the rounding of a subtraction
    return not 0.05 < abs(printed) < CANNOT_TELL + 0.05


def against_direction(
    difference: Estimate, printed: float, *, correction: float = 1.0, tie_margin: float = TIE_MARGIN
) -> Judgement:
    """Judge if a ``difference`` goes where the paper's goes.

    ``printed`` is the difference of two printed numbers; ``correction`` is what Holm multiplies p with.
    """
    if not can_tell(printed):
        return Judgement(Verdict.PAPER_CANNOT_TELL)
    if abs(printed) < 0.05:
        words = (Verdict.AGREES, Verdict.DISAGREES)
        return _judge(difference, lambda item: _equivalent(item.mean, item.half(1 - 2 * ALPHA), tie_margin, words))

    def sign(item: Estimate) -> Verdict:
        half = item.half(1 - ALPHA / correction)
        if half is None or abs(item.mean) <= half:
            return Verdict.UNDERPOWERED
        return Verdict.AGREES if item.mean * printed > 0 else Verdict.DISAGREES

    return _judge(difference, sign)


def _equivalent(mean: float, half: float | None, margin: float, words: tuple[Verdict, Verdict]) -> Verdict:
    inside, outside = words
    if half is None:
        return Verdict.UNDERPOWERED
    if abs(mean) + half < margin:
        return inside
    return outside if abs(mean) - half > margin else Verdict.UNDERPOWERED


def _judge(estimate: Estimate, rule: Callable[[Estimate], Verdict]) -> Judgement:
    verdict = rule(estimate)
    if verdict is not Verdict.UNDERPOWERED:
        return Judgement(verdict)
    if estimate.seed_error is None:
        # of the spread nothing is known yet: one seed, or equal ones
        more = 2 if estimate.seeds < 2 else estimate.seeds + 1
        return Judgement(verdict, f"{more} or more seeds", more)

    def decided(seeds: int) -> bool:
        return rule(estimate.with_seeds(seeds)) is not Verdict.UNDERPOWERED

    if not decided(_MOST_SEEDS):
        if estimate.against_runs and not estimate.video_error:
            return Judgement(verdict, "more than one printed run")
        return Judgement(verdict, "more videos" if estimate.video_error else f"more than {_MOST_SEEDS} seeds")
    few, enough = estimate.seeds, _MOST_SEEDS
    while enough - few > 1:
        middle = math.ceil((few + enough) / 2)
        few, enough = (few, middle) if decided(middle) else (middle, enough)
    return Judgement(verdict, f"{enough} seeds", enough)
