"""Training checkpoints: complete or absent, checksummed, loadable without running code.

One safetensors file holds weights, averaged weights and optimiser state by parameter name; its header holds the step,
the counters, the state of the loss scaling, the class names and a digest over all of it. No random state is saved:
every random stream of training is a function of (seed, step) or (seed, epoch, index).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.swa_utils import AveragedModel

from ..errors import ExplainedError
from ..models.weights.digest import raw_tensors
from ..tensor_files import write_tensors

_SCHEMA = 2
_KEEP = 2


class CheckpointError(ExplainedError, RuntimeError):
    """A checkpoint cannot be used; the message names the file and the reason."""


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """Everything that training carries from one step to the next.

    ``average`` is the moving average of the weights, where the recipe has one. ``counters`` count steps that were
    left out, over all attempts; a checkpoint may hold more or fewer names than are counted now. ``pending`` are the
    metrics of the last step where its validation is still to be done.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: GradScaler = field(default_factory=lambda: GradScaler("cpu", enabled=False))
    average: AveragedModel | None = None
    counters: dict[str, int] = field(default_factory=dict)
    pending: dict[str, float] = field(default_factory=dict)

    @property
    def weights_to_test(self) -> nn.Module:
        """The averaged weights where there are any, else the model itself."""
        return self.model if self.average is None else self.average.module


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """Where a training keeps its checkpoints, and the longest time between two of them."""

    directory: Path
    seconds: float = 600.0


def save(
    directory: Path,
    *,
    step: int,
    state: TrainState,
    classes: Sequence[str] = (),
    world_size: int = 1,
    micro_batch: int | None = None,
) -> Path:
    """Write ``step``'s checkpoint and drop all but the newest two.

    The file appears under its name only when it is complete and on disk, so a kill or a full disk leaves the
    previous checkpoint as it was. ``world_size`` and ``micro_batch`` are noted for the reader; a resume may change
    them. Raises CheckpointError where the file cannot be written.
    """
    tensors = _tensors(state)
    header = {
        "schema": _SCHEMA,
        "step": step,
        "counters": state.counters,
        "pending": state.pending,
        "scaler": state.scaler.state_dict(),
        "classes": list(classes),
        "world_size": world_size,
        "micro_batch": micro_batch,
    }
    metadata = {name: json.dumps(value) for name, value in header.items()}
    target = directory / f"step-{step:08d}.safetensors"
    for abandoned in directory.glob("*.partial"):
        abandoned.unlink()
    try:
        write_tensors(target, raw_tensors(tensors), {**metadata, "digest": _digest(metadata, tensors)})
        # its name, too
        _fsync(directory)
    except OSError as error:
        raise CheckpointError(f"could not save {target}: {error}; the checkpoints before it are intact") from error
    for old in available(directory)[:-_KEEP]:
        old.unlink()
    return target


def available(directory: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(directory.glob("step-*.safetensors"))


@dataclass(frozen=True)
class Content:
    """A checkpoint that is whole: the steps taken, the weights to test, and whether step's validation is to be done."""

    step: int
    weights: Mapping[str, Tensor]
    awaits_validation: bool


def examine(path: Path) -> Content:
    """The content of ``path``, for whoever has no model; raises CheckpointError unless it is what was written."""
    header, tensors = _read(path)
    averaged = _taken(tensors, "average/module.")
    return Content(int(header["step"]), averaged or _taken(tensors, "model/"), bool(header.get("pending")))


def load(path: Path, *, state: TrainState) -> int:
    """Restore ``state`` from ``path``; returns the number of steps taken.

    Raises CheckpointError, with nothing restored, if the file is damaged or belongs to another model or recipe.
    """
    header, tensors = _read(path)
    restored = dict(tensors)
    weights = _taken(restored, "model/")
    _check_same(path, state.model.state_dict(), weights)
    averaged = _taken(restored, "average/")
    _check_same(path, {} if state.average is None else state.average.state_dict(), averaged)
    names = {name: parameter for parameter, name in _parameter_names(state.optimizer).items()}
    moments = {tuple(name.split("/", 1)): value for name, value in _taken(restored, "optimizer/").items()}
    unknown = sorted({name for _, name in moments} - names.keys())
    if unknown:
        raise CheckpointError(f"{path} belongs to another recipe: it trains {unknown[0]}, which is not trained here")
    if bool(header["scaler"]) != state.scaler.is_enabled():
        raise CheckpointError(f"{path} belongs to another recipe: only one of the two scales its loss, as fp16 does")

    state.model.load_state_dict(weights)
    if state.average is not None:
        state.average.load_state_dict(averaged)
    state.optimizer.state.clear()
    for (key, name), value in moments.items():
        parameter = names[name]
        # AdamW keeps its step count on the CPU whatever the device of the parameter
        state.optimizer.state[parameter][key] = value if key == "step" else value.to(parameter.device)
    state.scaler.load_state_dict(header["scaler"])
    state.counters.update(header["counters"])
    state.pending.clear()
    state.pending.update(header.get("pending", {}))
    return int(header["step"])


def load_newest(directory: Path, *, state: TrainState) -> tuple[int, list[str]]:
    """Restore the newest usable checkpoint; returns (steps taken, one complaint per unusable newer one).

    0 steps and no complaint where there is no checkpoint yet. Raises CheckpointError if there are some and none is
    usable: starting over silently would hide a broken disk.
    """
    complaints: list[str] = []
    for path in reversed(available(directory)):
        try:
            return load(path, state=state), complaints
        except CheckpointError as error:
            complaints.append(str(error))
    if complaints:
        raise CheckpointError("no usable checkpoint; delete them to start over: " + "; ".join(complaints))
    return 0, complaints


def _tensors(state: TrainState) -> dict[str, Tensor]:
    """Every tensor of ``state`` by its name in the file, on the CPU and contiguous."""
    tensors: dict[str, Tensor] = {f"model/{name}": value for name, value in state.model.state_dict().items()}
    if state.average is not None:
        tensors |= {f"average/{name}": value for name, value in state.average.state_dict().items()}
    names = _parameter_names(state.optimizer)
    for parameter, moments in state.optimizer.state.items():
        for key, value in moments.items():
            tensors[f"optimizer/{key}/{names[parameter]}"] = torch.as_tensor(value)
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a file that is what was written."""
    try:
        # torch.load is not involved: the format holds tensors and strings only
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if metadata.get("schema") != json.dumps(_SCHEMA):
        raise CheckpointError(f"{path}: expected checkpoint schema {_SCHEMA}, got {metadata.get('schema')}")
    digest = metadata.pop("digest", None)
    if digest != _digest(metadata, tensors):
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum")
    return {name: json.loads(value) for name, value in metadata.items()}, tensors


def _check_same(path: Path, expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    here = {name: value.shape for name, value in expected.items()}
    there = {name: value.shape for name, value in got.items()}
    if here != there:
        differing = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
        raise CheckpointError(f"{path} belongs to another model: {len(differing)} entries differ, first {differing[0]}")


def _taken(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries under ``prefix``, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _parameter_names(optimizer: torch.optim.Optimizer) -> dict[Tensor, str]:
    return {
        parameter: name
        for group in optimizer.param_groups
        for parameter, name in zip(group["params"], group["names"], strict=True)
    }


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    # against damage, not forgery; processors have instructions for SHA-256, and none for faster-looking hashes
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
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
