"""Tensors out of a PyTorch file whose pickle names things that must not be imported.

Training frameworks save more than tensors: message hubs, history buffers, configuration objects. Unpickling those
runs whatever code the file names. This reader builds tensors and plain containers itself and puts an inert object
in the place of everything else; nothing the file names is imported or called.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from os import PathLike
from typing import Any, Self

import torch
from torch import Tensor

_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Inert:
    """Stands for a class, function or object the file names; accepts everything and does nothing."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None: ...

    def __setstate__(self, _state: Any) -> None: ...

    def __setitem__(self, _key: Any, _value: Any) -> None: ...

    def __call__(self, *_args: Any, **_kwargs: Any) -> Inert:
        return self

    def append(self, _item: Any) -> None: ...

    def extend(self, _items: Any) -> None: ...

    def add(self, _item: Any) -> None: ...


def read_inertly(path: str | PathLike[str]) -> Any:
    """What a zip-format PyTorch file holds: tensors (on the CPU), plain containers, and :class:`Inert` elsewhere.

    Raises:
        ValueError: not a zip-format file, or cut short.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise ValueError(f"expected one data.pkl in {path}, got {len(pickles)}; is it a PyTorch checkpoint?")
            folder = pickles[0].removesuffix("data.pkl")
            orders = [archive.read(name) for name in archive.namelist() if name == f"{folder}byteorder"]
            if orders and orders[0] != b"little":
                raise ValueError(f"expected a little-endian checkpoint, got {orders[0]!r} in {path}; save it again")
            with archive.open(pickles[0]) as stream:
                return _InertUnpickler(stream, archive=archive, folder=folder).load()
    except (zipfile.BadZipFile, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is cut short or no PyTorch checkpoint ({error}); download it again") from error


class _InertUnpickler(pickle.Unpickler):
    def __init__(self, stream: Any, *, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(stream)
        self._archive = archive
        self._folder = folder
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return _rebuild_tensor
            case "torch._utils", "_rebuild_parameter":
                return _rebuild_parameter
            case "torch", storage if storage in _STORAGE_DTYPES:
                return _STORAGE_DTYPES[storage]
            case _:
                return Inert

    def persistent_load(self, pid: Any) -> Any:
        match pid:
            case ("storage", torch.dtype() as dtype, str(key), _, int(numel)):
                if key not in self._storages:
                    data = bytearray(self._archive.read(f"{self._folder}data/{key}"))
                    self._storages[key] = (
                        torch.frombuffer(data, dtype=dtype, count=numel) if numel else torch.empty(0, dtype=dtype)
                    )
                return self._storages[key]
            case _:
                return Inert()


def _rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *_rest: Any) -> Any:
    if not isinstance(storage, Tensor):
        return Inert()
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)


def _rebuild_parameter(data: Any, *_rest: Any) -> Any:
    return data
