"""Memory: the peak so far, and advice where it was not enough."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import ExplainedError

# What allocators that raise a plain RuntimeError say: the one for CPUs, and cuBLAS for its workspace.
_SHORTAGES = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED")


class BatchTooLargeError(ExplainedError, RuntimeError):
    """A batch does not fit into memory; the message says which setting makes it fit and changes no result."""


def peak_memory(device: torch.device) -> float:
    """The most memory used so far in GiB: by tensors on a GPU, or by this process without its loader workers."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@contextmanager
def shortage_explained(*, micro_batch: int, rank_batch: int, effective_batch: int) -> Iterator[None]:
    """Turns an allocator's error inside into a BatchTooLargeError."""
    try:
        yield
    except RuntimeError as error:
        if not _is_shortage(error):
            raise
        if micro_batch == 1:
            advice = (
                "use activation checkpointing (--recompute), which computes activations again instead of keeping them"
            )
        else:
            half = micro_batch // 2
            advice = (
                f"use micro_batch={half}: {-(-rank_batch // half)} of them add up to the same gradient, "
                f"and the effective batch stays {effective_batch}"
            )
        reason = str(error).splitlines()[0]
        raise BatchTooLargeError(
            f"out of memory with micro-batches of {micro_batch} clips; {advice} ({reason})"
        ) from error


@contextmanager
def shortage_in_test_explained(*, views_at_once: int) -> Iterator[None]:
    """As ``shortage_explained``, for ``views_at_once`` views in a forward pass."""
    try:
        yield
    except RuntimeError as error:
        if not _is_shortage(error):
            raise
        advice = "this device is too small for the model"
        if views_at_once > 1:
            advice = f"use views_at_once={views_at_once // 2}, which changes scores by rounding only"
        reason = str(error).splitlines()[0]
        raise BatchTooLargeError(f"out of memory with {views_at_once} views at once; {advice} ({reason})") from error


def _is_shortage(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _SHORTAGES)
