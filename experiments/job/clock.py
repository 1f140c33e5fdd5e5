"""Time and energy spent on a run over all its attempts.

Energy is read from the counters of NVIDIA's management library (NVML), which names GPUs by UUID.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import provenance

if TYPE_CHECKING:
    from vswin.training.distributed import World

_ENERGY = "energy/joules"


@dataclass(frozen=True)
class Clock:
    """Counts from now on, on top of ``earlier``: the last metrics in the journal, which know of other attempts.

    ``cpu`` is of this process alone: it leaves out other processes of the run, and workers. ``energy`` is of ``gpus``
    (UUIDs), in joules; None where it is not counted, or was not in an earlier attempt.
    """

    earlier: Mapping[str, float] = field(default_factory=dict)
    gpus: Sequence[str] = ()
    _wall_start: float = field(default_factory=time.monotonic)
    _cpu_start: float = field(default_factory=time.process_time)
    _energy_start: float | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_energy_start", _joules(self.gpus))

    @property
    def wall(self) -> float:
        return round(self.earlier.get("time/wall", 0.0) + time.monotonic() - self._wall_start, 2)

    @property
    def cpu(self) -> float:
        return round(self.earlier.get("time/cpu", 0.0) + time.process_time() - self._cpu_start, 2)

    @property
    def energy(self) -> float | None:
        now = _joules(self.gpus)
        if now is None or self._energy_start is None or (self.earlier and _ENERGY not in self.earlier):
            return None
        return round(self.earlier.get(_ENERGY, 0.0) + now - self._energy_start, 1)

    def metrics(self) -> dict[str, float]:
        energy = self.energy
        return {"time/wall": self.wall, "time/cpu": self.cpu, **({} if energy is None else {_ENERGY: energy})}


def gpus(world: World) -> list[str]:
    """UUIDs of the GPUs that ``world`` computes with; empty where this process does not see all of them."""
    import torch

    # where every process sees its own GPU only, the first one cannot count for all
    if world.device.type != "cuda" or provenance.nodes() > 1 or torch.cuda.device_count() < world.size:
        return []
    return [f"GPU-{torch.cuda.get_device_properties(local).uuid}" for local in range(world.size)]


def _joules(gpus: Sequence[str]) -> float | None:
    """Energy that ``gpus`` have used since their driver was loaded: meaningful as a difference only.

    None without GPUs, and where nothing counts: before Volta, without a driver, or without the package nvidia-ml-py.
    Source: nvmlDeviceGetTotalEnergyConsumption.
    """
    if not gpus:
        return None
    try:
        import pynvml
    except ModuleNotFoundError:
        return None
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByUUID(gpu) for gpu in gpus]
        return sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles) / 1000
    except pynvml.NVMLError:
        return None
