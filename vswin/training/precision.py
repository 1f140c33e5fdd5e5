"""Arithmetic of the forward pass."""

from __future__ import annotations

import torch

from vswin.config import Precision

_DTYPES = {Precision.FP32: None, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The autocast context of ``precision``; a context that does nothing for fp32."""
    dtype = _DTYPES[precision]
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)
