"""Times of several implementations, taken in turn so that other load on the machine disturbs all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median, least and greatest of some measurements."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(median=median(values), least=min(values), greatest=max(values))


def seconds_in_turn(
    calls: Mapping[str, Callable[[], object]], *, rounds: int, repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds per call, ``rounds`` measurements of each; one goes over ``repeats`` calls in a row.

    One round before the first is not counted: it compiles, allocates and fills caches.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for counted in range(-1, rounds):
        for name, call in calls.items():
            _wait_for(device)
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            _wait_for(device)
            if counted >= 0:
                seconds[name].append((time.perf_counter() - start) / repeats)
    return seconds


def ratios(slow: list[float], fast: list[float]) -> list[float]:
    """Speed-up of ``fast`` over ``slow``, round by round."""
    return [one / other for one, other in zip(slow, fast, strict=True)]


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
