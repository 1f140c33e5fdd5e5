"""Time and energy spent on a run over all its attempts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .energy import joules

_ENERGY = "energy/joules"


@dataclass(frozen=True)
class Clock:
    """Counts from now on, on top of the ``earlier`` metrics of a run's journal, as far as it knows of other attempts.

    ``cpu`` is of this process alone: what other processes of the run and workers spend is not seen. ``energy`` is of
    ``gpus`` (UUIDs), in joules; None where it is not counted, or was not in an earlier attempt.
    """

    earlier: Mapping[str, float] = field(default_factory=dict)
    gpus: Sequence[str] = ()
    _wall_start: float = field(default_factory=time.monotonic)
    _cpu_start: float = field(default_factory=time.process_time)
    _energy_start: float | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_energy_start", joules(self.gpus))

    @property
    def wall(self) -> float:
        return round(self.earlier.get("time/wall", 0.0) + time.monotonic() - self._wall_start, 2)

    @property
    def cpu(self) -> float:
        return round(self.earlier.get("time/cpu", 0.0) + time.process_time() - self._cpu_start, 2)

    @property
    def energy(self) -> float | None:
        now = joules(self.gpus)
        if now is None or self._energy_start is None or (self.earlier and _ENERGY not in self.earlier):
            return None
        return round(self.earlier.get(_ENERGY, 0.0) + now - self._energy_start, 1)

    def metrics(self) -> dict[str, float]:
        energy = self.energy
        return {"time/wall": self.wall, "time/cpu": self.cpu, **({} if energy is None else {_ENERGY: energy})}
