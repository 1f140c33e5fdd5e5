"""Determinism on the device, without which a resume could not be equal to the bit."""

from __future__ import annotations

import os

import torch


def make_deterministic(device: torch.device) -> None:
    """Make the same step give the same bits on this machine whenever it is computed.

    A CPU needs no more than a fixed number of threads, which the caller sets. On a GPU, kernels take their
    deterministic version, cuDNN chooses algorithms without timing them, and cuBLAS gets a fixed workspace. An
    operation without a deterministic version raises RuntimeError with its name at the first step; a mere warning
    would send the backward pass of memory-efficient attention down its non-deterministic path. Call this before the
    first work on the GPU: cuBLAS reads its setting once. Source: the PyTorch notes on reproducibility,
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
