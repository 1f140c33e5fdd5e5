"""Statistics over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Mean and spread over seeds. ``deviation`` is the sample standard deviation; None for a single seed."""

    n: int
    mean: float
    deviation: float | None


def summarise(values: Sequence[float]) -> Summary | None:
    """The summary of ``values``; None where there are none."""
    if not values:
        return None
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Summary(n=len(values), mean=float(np.mean(values)), deviation=deviation)
