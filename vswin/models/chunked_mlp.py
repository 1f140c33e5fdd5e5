"""An MLP on the CPU, some tokens at a time, so that what lies between its two layers stays in cache.

The backward pass computes GELU again instead of keeping its output, the largest activation of a block. Chunks are
added up in order, so equal inputs give equal bits.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

aten = torch.ops.aten

# Hidden activations computed at a time: 2 MB in bf16, 4 MB in fp32. Half or twice as many take as long.
LARGEST_CHUNK = 2**20

# Bytes of hidden activations from which on chunks take less time than whole layers, whose memory is then new each time.
SMALLEST_CHUNKED = 2**24


def hidden_bytes(x: Tensor, *, hidden: int) -> int:
    """Size of what lies between the layers for tokens [..., C], in autocast's dtype."""
    return x.shape[:-1].numel() * hidden * _dtype(x).itemsize


def chunked_mlp(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """Linear, GELU, linear: [..., C] -> [..., C'], with weights [hidden, C] and [C', hidden], in autocast's dtype."""
    tokens = x.to(_dtype(x)).flatten(0, -2)
    if torch.is_grad_enabled():
        out: Tensor = _ChunkedMlp.apply(tokens, weight1, bias1, weight2, bias2)  # type: ignore[no-untyped-call]
    else:
        out = _forward(tokens, weight1, bias1, weight2, bias2, hidden=None)
    return out.unflatten(0, x.shape[:-1])  # type: ignore[no-untyped-call]


def _forward(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, *, hidden: Tensor | None
) -> Tensor:
    """The first layer's output is kept in ``hidden`` [tokens, hidden], if given."""
    weight1, bias1, weight2, bias2 = (value.to(x.dtype) for value in (weight1, bias1, weight2, bias2))
    out = x.new_empty(len(x), len(weight2))
    with torch.autocast("cpu", enabled=False):
        for part in _chunks(len(x), width=len(weight1)):
            between = F.linear(x[part], weight1, bias1)
            if hidden is not None:
                hidden[part] = between
            out[part] = F.linear(F.gelu(between), weight2, bias2)
    return out


class _ChunkedMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
        hidden = x.new_empty(len(x), len(weight1))
        out = _forward(x, weight1, bias1, weight2, bias2, hidden=hidden)
        ctx.save_for_backward(x, hidden, weight1, bias1, weight2, bias2)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, hidden, *parameters = ctx.saved_tensors
        weight1, _, weight2, _ = (value.to(x.dtype) for value in parameters)
        # In bf16, what many chunks contribute would be lost in the sum.
        precise = torch.promote_types(x.dtype, torch.float32)
        grads = [torch.zeros_like(value, dtype=precise) for value in parameters]
        grad_weight1, grad_bias1, grad_weight2, grad_bias2 = grads
        grad_x = torch.empty_like(x)
        with torch.autocast("cpu", enabled=False):
            for part in _chunks(len(x), width=len(weight1)):
                g, between = grad[part], hidden[part]
                grad_weight2 += g.mT @ F.gelu(between)
                grad_bias2 += g.sum(0)
                grad_between = aten.gelu_backward(g @ weight2, between)
                grad_weight1 += grad_between.mT @ x[part]
                grad_bias1 += grad_between.sum(0)
                torch.mm(grad_between, weight1, out=grad_x[part])
        return grad_x, *(value.to(like.dtype) for value, like in zip(grads, parameters, strict=True))


def _dtype(x: Tensor) -> torch.dtype:
    # autocast leaves double precision alone
    lowered = torch.is_autocast_enabled("cpu") and x.dtype is not torch.float64
    return torch.get_autocast_dtype("cpu") if lowered else x.dtype


def _chunks(tokens: int, *, width: int) -> list[slice]:
    step = max(1, LARGEST_CHUNK // width)
    return [slice(start, start + step) for start in range(0, tokens, step)]
