"""NaN and infinity: the message about a step whose loss or gradient is not finite."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..errors import ExplainedError


class NonFiniteLossError(ExplainedError, RuntimeError):
    """More steps than allowed had a NaN or infinite loss or gradient; the last checkpoint is from before that."""


def explain(model: nn.Module, *, step: int, loss: float, norm: float, videos: str) -> str:
    """One sentence on step ``step`` (from 1): loss, gradient, whose they are, whether the weights are still good."""
    gradients = [(name, value.grad) for name, value in model.named_parameters() if value.grad is not None]
    finite = [(value.norm().item(), name) for name, value in gradients if torch.isfinite(value).all()]
    largest = "no gradient is finite"
    if finite:
        value, name = max(finite)
        largest = f"the largest finite one is {name} with norm {value:.3g}"
    return (
        f"loss is {loss:.6g} at step {step}, norm of the gradient {norm:.6g}, from {videos}; "
        f"{_bad('gradients', gradients)}, {largest}; {_bad('weights', model.named_parameters())}"
    )


def _bad(what: str, tensors: Iterable[tuple[str, Tensor]]) -> str:
    tensors = list(tensors)
    bad = [name for name, value in tensors if not torch.isfinite(value).all()]
    return f"{len(bad)} of {len(tensors)} {what} are not finite" + (f", first {bad[0]}" if bad else "")
