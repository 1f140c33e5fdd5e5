"""Tensors out of a PyTorch file whose pickle names things that must not be imported.

Training frameworks save more than tensors: message hubs, history buffers, configuration objects. Unpickling those
runs whatever code the file names. This reader builds tensors and plain containers itself and puts an inert object
in the place of everything else.

Defended: nothing the file names is imported or called, nothing outside the result is changed, nothing outside the
file's bytes is read, and what the file claims to hold (storages, memo entries) may not exceed what it is large. Not
defended: the time and memory of containers built to be costly, such as tuples nested as keys, whose hash takes
exponential time. Read files of strangers in a process that may be killed.
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from io import BufferedReader
from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ...errors import ExplainedError
from .errors import WeightsError

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
_MEMO_WRITES = ("PUT", "BINPUT", "LONG_BINPUT")


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


class UnknownTensorError(ExplainedError, ValueError):
    """The file is whole, but holds a kind of tensor that this reader does not build."""


def read_inertly(path: str | PathLike[str]) -> tuple[Any, tuple[str, ...]]:
    """CheckpointContent of a PyTorch file, and the names of the code that it would have run.

    The content is tensors (on the CPU), plain containers, and :class:`Inert` elsewhere. The file may be a zip archive
    or, from before PyTorch 1.6, several pickles and the storages after them.

    Raises:
        ValueError: no PyTorch file, cut short, damaged, or with tensors of an unknown kind.
    """
    try:
        with Path(path).open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                stream.seek(0)
                return _read_legacy(stream)
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise ValueError(f"expected one data.pkl, got {len(pickles)}")
            folder = pickles[0].removesuffix("data.pkl")
            if f"{folder}byteorder" in archive.namelist() and _stored(archive, f"{folder}byteorder") != b"little":
                raise ValueError("expected little-endian numbers")
            reader = _ZipUnpickler(_stored(archive, pickles[0]), archive=archive, folder=folder)
            return reader.load(), tuple(reader.named)
    except UnknownTensorError as error:
        raise UnknownTensorError(f"{error}, got one in {path}; save its tensors as plain dense ones") from error
    except Exception as error:  # What a damaged pickle raises depends on the byte.
        raise WeightsError(f"{path} is cut short or no PyTorch checkpoint ({error}); download it again") from error


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member's bytes, which PyTorch never compresses; a compressed one could grow without bound."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"expected {name} stored, got it compressed")
    return archive.read(name)


def _read_legacy(stream: BufferedReader) -> tuple[Any, tuple[str, ...]]:
    """The content of a file that torch.save wrote before version 1.6, or without its zip format."""
    size = os.fstat(stream.fileno()).st_size
    magic, _, system = (_InertUnpickler(_one_pickle(stream)).load() for _ in range(3))
    if magic != torch.serialization.MAGIC_NUMBER or not system["little_endian"]:
        raise ValueError("expected PyTorch's number and little-endian numbers")
    reader = _LegacyUnpickler(_one_pickle(stream), size=size)
    content = reader.load()
    for key in _InertUnpickler(_one_pickle(stream)).load():
        storage = reader.storages.get(key)
        if int.from_bytes(stream.read(8), "little") != (None if storage is None else storage.numel()):
            raise ValueError(f"expected the storage {key} that the tensors have, got another")
        assert storage is not None
        data = stream.read(storage.nbytes)
        if len(data) != storage.nbytes:
            raise ValueError("its end is missing")
        if data:
            storage.copy_(torch.frombuffer(bytearray(data), dtype=storage.dtype))
    return content, tuple(reader.named)


def _one_pickle(stream: BufferedReader) -> bytes:
    """The bytes of the pickle that ``stream`` goes on with."""
    start = stream.tell()
    for _ in pickletools.genops(stream):
        pass
    end = stream.tell()
    stream.seek(start)
    return stream.read(end - start)


class _InertUnpickler(pickle.Unpickler):
    """``named``: what the pickle names and does not get, without doubles, in its order."""

    def __init__(self, data: bytes) -> None:
        for opcode, argument, _ in pickletools.genops(data):
            # The memo is an array, allocated up to the largest index.
            if opcode.name in _MEMO_WRITES and argument is not None and argument > len(data):
                raise ValueError(f"expected memo entries up to {len(data)}, got {argument}")
        super().__init__(io.BytesIO(data))
        self.named: dict[str, None] = {}

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor":
                return _RebuildTensor()
            case "torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state":
                return _RebuildParameter()
            case "torch._utils" | "torch._tensor", rebuild if rebuild.startswith("_rebuild_"):
                raise UnknownTensorError(f"expected tensors that {module}.{rebuild} is not needed for")
            case "torch" | "torch.cuda", storage if storage in _STORAGE_DTYPES:
                return _STORAGE_DTYPES[storage]
            case _:
                self.named[f"{module}.{name}"] = None
                return Inert


class _ZipUnpickler(_InertUnpickler):
    """Storages are members of the archive."""

    def __init__(self, data: bytes, *, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(data)
        self._archive = archive
        self._folder = folder
        self._storages: dict[str, Tensor] = {}

    def persistent_load(self, pid: Any) -> Any:
        match pid:
            case ("storage", torch.dtype() as dtype, str(key), _, int(numel)):
                if key not in self._storages:
                    data = bytearray(_stored(self._archive, f"{self._folder}data/{key}"))
                    if not 0 <= numel * dtype.itemsize <= len(data):
                        raise ValueError(f"expected {numel} numbers of {dtype} in storage {key}, got {len(data)} bytes")
                    self._storages[key] = (
                        torch.frombuffer(data, dtype=dtype, count=numel) if numel else torch.empty(0, dtype=dtype)
                    )
                return self._storages[key]
            case _:
                return Inert()


class _LegacyUnpickler(_InertUnpickler):
    """Storages come after the pickle: those that it names are made here, to be filled. A file holds all of them."""

    def __init__(self, data: bytes, *, size: int) -> None:
        super().__init__(data)
        self.storages: dict[str, Tensor] = {}
        self._left = size

    def persistent_load(self, pid: Any) -> Any:
        match pid:
            case ("storage", torch.dtype() as dtype, str(key), _, int(numel), None):
                if key not in self.storages:
                    self._left -= numel * dtype.itemsize
                    if numel < 0 or self._left < 0:
                        raise ValueError(f"expected storages that the file is large enough for, got {numel} numbers")
                    self.storages[key] = torch.empty(numel, dtype=dtype)
                return self.storages[key]
            case _:
                # ("module", ...): the source of a class
                return Inert


class _Rebuild:
    """A callable that the file may name. No function of this module: a pickle can set attributes of one."""

    __slots__ = ()

    def __setstate__(self, _state: Any) -> None: ...


class _RebuildTensor(_Rebuild):
    __slots__ = ()

    def __call__(self, storage: Any, offset: int, size: Any, stride: Any, *_rest: Any) -> Any:
        if not isinstance(storage, Tensor):
            return Inert()
        return torch.as_strided(storage, tuple(size), tuple(stride), offset)


class _RebuildParameter(_Rebuild):
    __slots__ = ()

    def __call__(self, data: Any, *_rest: Any) -> Any:
        return data
