"""What GPUs use, by the counters of NVIDIA's management library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import provenance

if TYPE_CHECKING:
    import torch

    from vswin.training.distributed import World


def gpus(world: World, *, device: torch.device) -> list[str]:
    """The UUIDs of the GPUs that ``world`` computes with, as NVML has them; empty where they are not all in here."""
    import torch

    # where every process sees its own GPU only, the first one cannot count for all
    if device.type != "cuda" or provenance.nodes() > 1 or torch.cuda.device_count() < world.size:
        return []
    return [f"GPU-{torch.cuda.get_device_properties(local).uuid}" for local in range(world.size)]


def joules(gpus: Sequence[str]) -> float | None:
    """Energy that ``gpus`` (NVML's UUIDs) have used since their driver was loaded, to be told apart by subtraction.

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
