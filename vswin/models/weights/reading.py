"""Named tensors, class names and texts out of checkpoint files."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...tensor_files import TENSOR_DIGEST, tensor_damage, text_damage
from ..choices import chosen
from .digest import raw_tensors
from .errors import DamagedWeightsError, NoWeightsError, WeightsError
from .formats import few
from .inert import read_inertly
from .networks import CheckpointContent, WeightSet, select

_ZIP_START = b"PK\x03\x04"
# What torch.save began its files with before version 1.6 made them zip archives.
_LEGACY_START = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)

# Weights that were compressed after all become hardly smaller.
_MOST_INFLATED, _SMALL = 2, 2**26


def read_checkpoint(
    path: str | os.PathLike[str], *, weights: WeightSet | str = WeightSet.AVERAGED
) -> dict[str, Tensor]:
    """The named tensors of a checkpoint file, on the CPU, under the names it gives them.

    They are those that lie beside the network: training states and other weights are left aside (``read_content``
    names them). PyTorch files are read with ``weights_only=True``; where that refuses, by
    :mod:`vswin.models.weights.inert`. The format is told by how the file begins, whatever its name.

    Args:
        path: of the file.
        weights: ``averaged`` or ``raw``, of a file that has both.

    Raises:
        FileNotFoundError: no such file.
        ValueError: cut short, damaged, not a checkpoint, without tensors, or with several networks alike.
    """
    return read_content(path, weights=weights).tensors


def read_content(path: str | os.PathLike[str], *, weights: WeightSet | str = WeightSet.AVERAGED) -> CheckpointContent:
    """As :func:`read_checkpoint`, with notes on what else is in the file and what was chosen."""
    wanted = chosen(WeightSet, weights, name="weights")
    path = Path(path)
    if not path.is_file():
        raise NoWeightsError(f"expected a checkpoint file, found none at {path}")
    with path.open("rb") as stream:
        start = stream.read(len(_LEGACY_START))
    by_torch = start.startswith(_ZIP_START) or start == _LEGACY_START
    # Eight bytes for the length of a JSON object, then the object.
    safe = not by_torch and (start[8:9] == b"{" or path.suffix == ".safetensors")
    content, named = (_read_safetensors(path), ()) if safe else _read_torch_file(path, start=start)
    state = select(content, wanted, source=f"checkpoint {path}")
    if not state.tensors:
        keys = f"; its keys are {', '.join(map(repr, content))}" if isinstance(content, dict) else ""
        raise WeightsError(
            f"expected named tensors in checkpoint {path}, got none{keys}; if it holds a whole model, save the "
            "model's state_dict() where it was written"
        )
    if named:
        inert = f"the file names code{few(named)}, of which none was run"
        return replace(state, notes=(*state.notes, inert))
    return state


def read_classes(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of the classes, in the order of the logits, that :func:`save_weights` kept in a file.

    Empty for files of other origin, which do not name them. Raises FileNotFoundError, and ValueError for a damaged
    file.
    """
    return tuple(json.loads(read_metadata(path).get("classes", "[]")))


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts that a safetensors file keeps beside its tensors; empty for files of other kinds.

    Raises FileNotFoundError, and ValueError for a damaged file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise NoWeightsError(f"expected a checkpoint file, found none at {path}")
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            texts = dict(file.metadata() or {})
    except SafetensorError as error:
        raise DamagedWeightsError(path, f"is damaged ({error})") from error
    if wrong := text_damage(texts):
        raise DamagedWeightsError(path, wrong)
    return texts


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise DamagedWeightsError(path, f"is cut short or no safetensors file ({_first_line(error)})") from error
    wrong = text_damage(texts)
    # of foreign files, which may hold other types, none is kept
    if TENSOR_DIGEST in texts:
        wrong = wrong or tensor_damage(texts, raw_tensors(tensors))
    if wrong:
        raise DamagedWeightsError(path, wrong)
    return tensors


def _read_torch_file(path: Path, *, start: bytes) -> tuple[Any, tuple[str, ...]]:
    """The content of a file, and what it names that is no tensor or plain container: there is none of it in it."""
    zipped = start.startswith(_ZIP_START)
    try:
        if zipped and not zipfile.is_zipfile(path):
            # torch.load would take it for its format of before version 1.6, and fail on something else.
            raise EOFError("its end is missing")
        if zipped:
            _check_inflated(path)
        # Given a stream, since torch.load goes by a file's name.
        with path.open("rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True), ()
    except Exception as error:  # What a damaged file raises depends on the byte.
        if isinstance(error, pickle.UnpicklingError) and (zipped or start == _LEGACY_START):
            return read_inertly(path)
        # of a file that is no archive torch says how to run the code in it
        reason = f" ({_first_line(error)})" if zipped else ""
        raise WeightsError(f"{path} is cut short or no PyTorch checkpoint{reason}; download it again") from error


def _check_inflated(path: Path) -> None:
    """Raise ValueError for an archive of little that inflates to much: PyTorch stores tensors as they are."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        claimed = sum(member.file_size for member in archive.infolist())
    if claimed > _MOST_INFLATED * size + _SMALL:
        raise ValueError(f"it would inflate from {size:,} to {claimed:,} bytes")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
