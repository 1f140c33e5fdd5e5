"""Videos that cannot be read: counted, named once, and a reason to stop once there are too many of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..errors import ExplainedError

# How many of them an error names.
_NAMED = 5


class ReadFailure(NamedTuple):
    """Row ``video`` of the list could not be read; ``message`` is the VideoError's and starts with its path."""

    video: int
    message: str


class TooManyBrokenError(ExplainedError, RuntimeError):
    """More videos than the limit could not be read: the file system, or a wrong data set, rather than a few files."""


class BrokenVideos:
    """Counts the failures of each epoch; ``warn`` is told of every video once.

    ``draws_per_epoch`` is how many clips an epoch draws, ``limit`` the share of them that may fail.
    """

    def __init__(self, *, draws_per_epoch: int, limit: float = 0.01, warn: Callable[[str], None]) -> None:
        self._draws_per_epoch = draws_per_epoch
        self._limit = limit
        self._warn = warn
        self._seen: dict[int, str] = {}
        self._epoch = -1
        self._count = 0

    def see(self, failures: Iterable[ReadFailure], *, epoch: int) -> None:
        """Take note of what failed for a batch of ``epoch``. Raises TooManyBrokenError beyond the limit."""
        if epoch != self._epoch:
            self._epoch, self._count = epoch, 0
        for failure in failures:
            self._count += 1
            if failure.video not in self._seen:
                self._seen[failure.video] = failure.message
                self._warn(f"broken video, another one is taken: {failure.message}")
        if self._count > self._limit * self._draws_per_epoch:
            raise TooManyBrokenError(
                f"{self._count} of the {self._draws_per_epoch} clips of epoch {epoch} could not be read, "
                f"more than {self._limit:.2%} of them; {name_failures(self._seen.values())}"
            )


def name_failures(messages: Iterable[str]) -> str:
    """The first few of ``messages``, and how to find all."""
    shown = list(dict.fromkeys(messages))
    more = f"\n  and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return "\n  ".join(["the first:", *shown[:_NAMED]]) + more + "\nto see every broken file, run: vswin data check"
