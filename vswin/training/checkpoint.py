"""Training checkpoints: complete or absent, checksummed, loadable without running code.

One safetensors file holds weights and optimiser state by parameter name; its header holds the step and a digest.
No random state is saved: every random stream of training is a function of (seed, step) or (seed, epoch, index).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

_SCHEMA = "1"
_KEEP = 2


class CheckpointError(RuntimeError):
    """A checkpoint cannot be used; the message names the file and the reason."""


def save(directory: Path, *, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> Path:
    """Write ``step``'s checkpoint and drop all but the newest two.

    The file appears under its name only when it is complete and on disk, so a kill or a full disk leaves the
    previous checkpoint as it was.
    """
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    names = _parameter_names(optimizer)
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"optimizer/{key}/{names[parameter]}"] = torch.as_tensor(value)
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}

    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"step-{step:08d}.safetensors"
    partial = target.with_suffix(".partial")
    for abandoned in directory.glob("*.partial"):
        abandoned.unlink()
    try:
        save_file(tensors, partial, metadata={"schema": _SCHEMA, "step": str(step), "digest": _digest(tensors)})
        _fsync(partial)
        partial.rename(target)
        _fsync(directory)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(f"could not save {target}: {error}; the checkpoints before it are intact") from error
    for old in available(directory)[:-_KEEP]:
        old.unlink()
    return target


def available(directory: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(directory.glob("step-*.safetensors"))


def load(path: Path, *, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore model and optimiser from ``path``; returns the number of steps taken.

    Raises CheckpointError, with nothing restored, if the file is damaged or belongs to another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # torch.load is not involved: the format holds tensors and strings only
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if metadata.get("schema") != _SCHEMA:
        raise CheckpointError(f"{path}: expected checkpoint schema {_SCHEMA}, got {metadata.get('schema')}")
    if metadata.get("digest") != _digest(tensors):
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum")

    weights = {name.removeprefix("model/"): value for name, value in tensors.items() if name.startswith("model/")}
    expected = {name: value.shape for name, value in model.state_dict().items()}
    got = {name: value.shape for name, value in weights.items()}
    if expected != got:
        differing = sorted(name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name))
        raise CheckpointError(f"{path} belongs to another model: {len(differing)} entries differ, first {differing[0]}")
    model.load_state_dict(weights)
    for parameter, name in _parameter_names(optimizer).items():
        prefix, suffix = "optimizer/", f"/{name}"
        state = {
            key.removeprefix(prefix).removesuffix(suffix): value
            for key, value in tensors.items()
            if key.startswith(prefix) and key.endswith(suffix) and key.count("/") == 2
        }
        if state:
            optimizer.state[parameter] = {
                # AdamW keeps its step count on the CPU whatever the device of the parameter
                key: value if key == "step" else value.to(parameter.device)
                for key, value in state.items()
            }
    return int(metadata["step"])


def load_newest(directory: Path, *, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, list[str]]:
    """Restore the newest usable checkpoint; returns (steps taken, one complaint per unusable newer one).

    0 steps and no complaint where there is no checkpoint yet. Raises CheckpointError if there are some and none is
    usable: starting over silently would hide a broken disk.
    """
    complaints: list[str] = []
    for path in reversed(available(directory)):
        try:
            return load(path, model=model, optimizer=optimizer), complaints
        except CheckpointError as error:
            complaints.append(str(error))
    if complaints:
        raise CheckpointError("no usable checkpoint; delete them to start over: " + "; ".join(complaints))
    return 0, complaints


def _parameter_names(optimizer: torch.optim.Optimizer) -> dict[Tensor, str]:
    return {
        parameter: name
        for group in optimizer.param_groups
        for parameter, name in zip(group["params"], group["names"], strict=True)
    }


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
