"""The machine of a measurement, and its speed at multiplying matrices."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import torch

from .timing import seconds_in_turn


def describe(device: torch.device) -> dict[str, str | int]:
    """Processor, cores in use, instruction set and software."""
    described: dict[str, str | int] = {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if device.type == "cuda":
        described |= {
            "accelerator": torch.cuda.get_device_name(device),
            "accelerator_memory_mb": torch.cuda.get_device_properties(device).total_memory // 2**20,
            "cuda": str(torch.version.cuda),
        }
    return described


def name(device: torch.device) -> str:
    """A name for files: of the accelerator, or of the processor with its threads."""
    text = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{processor()} {torch.get_num_threads()} threads"
    )
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def processor() -> str:
    """The processor's name, with its family and model where the name alone says little, as in virtual machines."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor() or platform.machine()
    fields: dict[str, str] = {}
    for line in cpuinfo.read_text().splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    model = fields.get("model name", platform.machine())
    if "cpu family" in fields:
        model += f" family {fields['cpu family']} model {fields.get('model', '?')}"
    return model


def matmul_flops(dtype: torch.dtype, *, device: torch.device) -> float:
    """FLOPs per second of a large square matrix product, two per multiply-accumulate: the best of several."""
    size, repeats = (8192, 20) if device.type == "cuda" else (2048, 4)
    left, right = (torch.randn(size, size, dtype=torch.float32).to(device, dtype) for _ in range(2))
    seconds = seconds_in_turn({"product": lambda: left @ right}, rounds=5, repeats=repeats, device=device)
    return 2 * size**3 / min(seconds["product"])
