"""What a network that never looks from one token to another in time could know of the miniature's classes.

Such a network sees the tokens of a clip in no order. The best it can do is known from how often each such collection
comes with each class; the digit, which single frames show, is taken as known. Of Kinetics-like videos the rest of the
class is one of two. Of Something-like ones it is one of six, of which frames leave two.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.registry.catalogue import experiments
from experiments.registry.recipe import Recipe, Scale
from vswin.config import ClipConfig, Swin3DConfig
from vswin.data.clips import training_frames, view_frames
from vswin.data.drifting_digit import _beats, _timeline
from vswin.data.moving_digits import MINI_TASKS, Task

VIDEOS = 1500
TASKS = {task.name: task for task in MINI_TASKS}


class Look(NamedTuple):
    """All that decides what is in a clip: its videos, its frames, and how many of them make a token."""

    task: str
    clip: ClipConfig
    clips: int
    frames_per_token: int


def look(recipe: Recipe) -> Look:
    frames_per_token = recipe.model.patch.time if isinstance(recipe.model, Swin3DConfig) else 1
    return Look(recipe.data.dataset.rpartition("/")[2], recipe.data.clip, recipe.protocol.clips, frames_per_token)


def looks() -> dict[Look, list[str]]:
    """Every way of looking at a mini video, and the rows that look so."""
    found: dict[Look, list[str]] = {}
    for experiment in experiments(Scale.MINI):
        if experiment.recipe.data.clip.length > 1:
            found.setdefault(look(experiment.recipe), []).append(experiment.name)
    return found


# Their tokens hold several beats, or their clips only some of the beats: that is said under tables 5 and 5-patches, and
# each has its own control in table baselines.
NOT_BLIND = {"table5/global-8", "table5/global-4", "table5-patches/global-8", "table5-patches/global-4"}


def best_share(look: Look, *, training: bool) -> float:
    """How many videos of a digit the best classifier of unordered tokens gets right, learnt from as many others."""
    task = TASKS[look.task]
    digit = task.classes[0].digit
    classes = [shown for shown in task.classes if shown.digit == digit]
    generator = np.random.default_rng(0)
    known, asked = (
        [
            Counter(_unordered(_colours(task, label, generator), look, generator, training) for _ in range(VIDEOS))
            for label in range(len(classes))
        ]
        for _ in range(2)
    )
    right = 0
    for label, seen in enumerate(asked):
        for tokens, count in seen.items():
            votes = [each[tokens] for each in known]
            # of several that are as likely the last: no class is favoured for what was never seen
            right += count * (max(range(len(votes)), key=lambda index: (votes[index], index)) == label)
    return right / (VIDEOS * len(classes))


def _colours(task: Task, label: int, generator: np.random.Generator) -> NDArray[np.int64]:
    beats = _beats(task.classes[label], beats=task.style.beats, generator=generator)
    return _timeline(beats, style=task.style)


def _unordered(
    colours: NDArray[np.int64], look: Look, generator: np.random.Generator, training: bool
) -> tuple[object, ...]:
    """The tokens of every clip, sorted: colours of their frames."""
    if training:
        frames = training_frames(len(colours), clip=look.clip, generator=generator)[None]
    else:
        frames = view_frames(len(colours), clip=look.clip, num_clips=look.clips)
    return tuple(
        tuple(sorted(tuple(token) for token in colours[clip].reshape(-1, look.frames_per_token).tolist()))
        for clip in frames
    )


@pytest.mark.parametrize(
    ("look", "rows"), looks().items(), ids=lambda value: value[0] if isinstance(value, list) else ""
)
def test_only_the_order_of_tokens_tells_the_class(look: Look, rows: list[str]) -> None:
    # half, and five standard errors of guessing in the smallest case
    most = 0.5 + 5 * (0.25 / (2 * VIDEOS)) ** 0.5
    shares = [best_share(look, training=training) for training in (False, True)]
    if NOT_BLIND & set(rows):
        assert min(shares) > most, shares
    else:
        assert max(shares) < most, shares


def test_every_row_that_is_not_blind_is_looked_at() -> None:
    assert set().union(*looks().values()) >= NOT_BLIND
