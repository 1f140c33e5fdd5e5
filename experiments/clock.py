"""Seconds spent on a run over all its attempts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Clock:
    """Counts from now on, on top of the ``earlier`` metrics of a run's journal, as far as it knows of other attempts.

    ``cpu`` is of this process alone: what other processes of the run and workers spend is not seen.
    """

    earlier: Mapping[str, float] = field(default_factory=dict)
    _wall_start: float = field(default_factory=time.monotonic)
    _cpu_start: float = field(default_factory=time.process_time)

    @property
    def wall(self) -> float:
        return round(self.earlier.get("time/wall", 0.0) + time.monotonic() - self._wall_start, 2)

    @property
    def cpu(self) -> float:
        return round(self.earlier.get("time/cpu", 0.0) + time.process_time() - self._cpu_start, 2)

    def metrics(self) -> dict[str, float]:
        return {"time/wall": self.wall, "time/cpu": self.cpu}
