"""What a resume that is equal to the bit needs of the device."""

from __future__ import annotations

import os

import torch


def make_deterministic(device: torch.device) -> None:
    """Have the same step give the same bits on this machine, at whatever time it is computed.

    On a CPU nothing is to do: a fixed number of threads is enough, and that is the caller's. On a GPU the kernels
    with a deterministic version use it, cuDNN chooses without measuring, and cuBLAS gets a fixed workspace. It is
    strict: an operation without a deterministic version raises RuntimeError by its name, at the first step; had it
    only to warn, the backward pass of memory-efficient attention would take the other of its two ways. Call it before
    the first work on the GPU: cuBLAS reads its setting once. Source: the PyTorch notes on reproducibility,
    attention_backward.cu of PyTorch @00afd8f2.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True)
    # no code here reads memory that it has not written
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
