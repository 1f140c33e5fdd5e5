"""Load of the machine, sampled into the journal under the names that MLflow shows as system metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    import torch

SAMPLE_SECONDS = 10.0
_MB = 1e6


class SystemMetrics:
    """Samples the node of the first process: all its cores, its memory, and the GPUs that ``gpus`` names by UUID."""

    def __init__(self, *, gpus: tuple[str, ...] = (), now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._due_at = now()
        self._gpus = _handles(gpus)
        # the first answer is of the time since this call
        psutil.cpu_percent()

    def due(self) -> dict[str, float]:
        """A sample, where the last one is ``SAMPLE_SECONDS`` old; else nothing."""
        if self._now() < self._due_at:
            return {}
        self._due_at = self._now() + SAMPLE_SECONDS
        return self.sample()

    def sample(self) -> dict[str, float]:
        """Usage now; of the processor, the average since the last sample."""
        memory = psutil.virtual_memory()
        metrics = {
            "system/cpu_utilization_percentage": psutil.cpu_percent(),
            "system/system_memory_usage_megabytes": round(memory.used / _MB, 1),
            "system/system_memory_usage_percentage": memory.percent,
        }
        for number, gpu in enumerate(self._gpus):
            metrics |= {f"system/gpu_{number}_{name}": value for name, value in _gpu(gpu).items()}
        return metrics


def visible_gpus(device: torch.device) -> tuple[str, ...]:
    """The GPUs of this node that this process sees, by NVML's UUIDs; none where it computes without."""
    import torch

    seen = range(torch.cuda.device_count()) if device.type == "cuda" else ()
    return tuple(f"GPU-{torch.cuda.get_device_properties(index).uuid}" for index in seen)


def _handles(uuids: tuple[str, ...]) -> list[Any]:
    import pynvml

    try:
        if uuids:
            pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]
    except pynvml.NVMLError:
        # no NVIDIA driver, or one that hides the device: a training needs none of these numbers
        return []


def _gpu(handle: Any) -> dict[str, float]:
    import pynvml

    metrics = {}
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        metrics["memory_usage_megabytes"] = round(memory.used / _MB, 1)
        metrics["memory_usage_percentage"] = round(100 * memory.used / memory.total, 1)
        metrics["utilization_percentage"] = float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        metrics["power_usage_watts"] = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
    except pynvml.NVMLError:
        # a part of a GPU has a memory of its own, but no utilisation or power
        pass
    return metrics
