"""The identity of weights: a digest of their tensors, whatever file they lie in."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...tensor_files import RawTensor, digest_of_tensors
from .errors import WeightsError

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
# A view may claim any size over a few bytes; what is small may.
_MOST_EXPANDED = 2**30


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256, in hexadecimal, over names, types, shapes and bytes of ``tensors``, whatever their order.

    Equal weights have equal digests, from whichever file and device; so much is not promised of the files themselves.
    Raises ValueError for tensors that are not dense numbers.
    """
    return digest_of_tensors(raw_tensors(tensors))


def raw_tensors(tensors: Mapping[str, Tensor]) -> dict[str, RawTensor]:
    """``tensors`` as bytes, on the CPU; raises WeightsError for those that are not dense numbers."""
    return {name: _raw(name, value.detach()) for name, value in tensors.items()}


def _raw(name: str, value: Tensor) -> RawTensor:
    if value.layout is not torch.strided or value.is_meta or value.dtype not in _DTYPES:
        raise WeightsError(
            f"expected dense real numbers, got {name} as {value.dtype}, {value.layout} on {value.device}; convert it"
        )
    if value.nbytes > max(_MOST_EXPANDED, value.untyped_storage().nbytes()):
        raise WeightsError(f"expected weights, got {name}, which claims {value.nbytes:,} bytes and does not have them")
    data = value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return RawTensor(_DTYPES[value.dtype], tuple(value.shape), data)
