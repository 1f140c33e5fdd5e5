"""Attention inside displaced windows on the CPU: some boxes and heads at a time, so that their scores stay in cache.

Nothing of the size of the scores is kept for the backward pass, which computes them again. Additions to gradients are
made in a fixed order, so equal inputs give equal bits.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..config import Extent
from .boxes import Boxes, displaced_windows, pieces

# Scores computed at a time: 4 MB in bf16, 8 MB in fp32, twice that in the backward pass, for a shared cache of 32 MB.
# Fewer than half of it, or more than four times, were slower (Zen 4, 2 cores).
LARGEST_PIECE = 2**21

# More windows than this are added up by one reduction, fewer one by one, which is three times as fast for large ones.
FEW_WINDOWS = 16


def box_attention(
    qkv: Tensor, *, num_heads: int, scale: float, offset_bias: Tensor, window: Extent, shift: Extent
) -> Tensor:
    """SoftMax(scale * QK^T + bias) V among the tokens of each displaced window.

    Args:
        qkv: a grid [B, T, H, W, 3C] of whole windows; the channels are (query | key | value), each heads-major.
        scale: factor of the scores.
        offset_bias: [heads, 2t - 1, h * w, h * w] for a window of t x h x w tokens: the bias of a pair of places in
            a frame for each temporal offset, from most negative to most positive.
        window: its extent.
        shift: how far windows are displaced; tokens of a window cut off at the ends of an axis do not meet.

    Returns:
        [B, T, H, W, C].
    """
    out: Tensor = _BoxAttention.apply(qkv, offset_bias, num_heads, scale, window, shift)  # type: ignore[no-untyped-call]
    return out


class _BoxAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, offset_bias: Tensor, num_heads: int, scale: float, window: Extent, shift: Extent
    ) -> Tensor:
        ctx.save_for_backward(qkv, offset_bias)
        ctx.options = num_heads, scale, window, shift
        query, key, value = _heads(qkv, 3 * num_heads).chunk(3, dim=-2)
        out = torch.empty_like(value, memory_format=torch.contiguous_format)
        with torch.autocast("cpu", enabled=False):
            for boxes in displaced_windows(_grid(qkv), batch=qkv.shape[0], window=window, shift=shift):
                bias = _bias_of_boxes(offset_bias, window=window, size=boxes.size).to(qkv.dtype)
                for part, heads in pieces(boxes, heads=num_heads, largest=LARGEST_PIECE):
                    q, k, v = (_take(x, part, heads) for x in (query, key, value))
                    weights = _attention_weights(q, k, bias[heads], scale=scale)
                    _put(out, part, heads, torch.bmm(weights, v))
        return out.flatten(-2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        qkv, offset_bias = ctx.saved_tensors
        num_heads, scale, window, shift = ctx.options
        query, key, value = _heads(qkv, 3 * num_heads).chunk(3, dim=-2)
        grad = _heads(grad, num_heads)
        grad_qkv = torch.empty_like(_heads(qkv, 3 * num_heads), memory_format=torch.contiguous_format)
        grad_query, grad_key, grad_value = grad_qkv.chunk(3, dim=-2)
        # In bf16, what many windows contribute would be lost in the sum.
        precise = torch.promote_types(offset_bias.dtype, torch.float32)
        grad_offset_bias = torch.zeros_like(offset_bias, dtype=precise)
        with torch.autocast("cpu", enabled=False):
            for boxes in displaced_windows(_grid(qkv), batch=qkv.shape[0], window=window, shift=shift):
                bias = _bias_of_boxes(offset_bias, window=window, size=boxes.size).to(qkv.dtype)
                grad_bias = torch.zeros_like(bias, dtype=precise)
                for part, heads in pieces(boxes, heads=num_heads, largest=LARGEST_PIECE):
                    q, k, v, g = (_take(x, part, heads) for x in (query, key, value, grad))
                    weights = _attention_weights(q, k, bias[heads], scale=scale)
                    _put(grad_value, part, heads, torch.bmm(weights.mT, g))
                    grad_weights = torch.bmm(g, v.mT)
                    grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
                    _add_up(grad_scores.unflatten(0, (part.count, -1)), into=grad_bias[heads])  # type: ignore[no-untyped-call]
                    _put(grad_query, part, heads, torch.bmm(grad_scores, k).mul_(scale))
                    _put(grad_key, part, heads, torch.bmm(grad_scores.mT, q).mul_(scale))
                _add_bias_of_boxes(grad_bias, window=window, size=boxes.size, into=grad_offset_bias)
        return grad_qkv.flatten(-2), grad_offset_bias.to(offset_bias.dtype), None, None, None, None


def _grid(x: Tensor) -> Extent:
    return Extent(*x.shape[1:4])


def _heads(x: Tensor, heads: int) -> Tensor:
    return rearrange(x, "b t h w (k d) -> b t h w k d", k=heads)


def _take(x: Tensor, boxes: Boxes, heads: slice) -> Tensor:
    """[B, T, H, W, heads, d] -> [boxes * heads, tokens, d]."""
    return rearrange(boxes.view(x)[..., heads, :], "b nt t nh h nw w k d -> (b nt nh nw k) (t h w) d")


def _put(x: Tensor, boxes: Boxes, heads: slice, values: Tensor) -> None:
    """The inverse of :func:`_take`, into ``x``."""
    places = rearrange(boxes.view(x)[..., heads, :], "b nt t nh h nw w k d -> b nt nh nw k t h w d")
    places.copy_(values.view(places.shape))


def _attention_weights(query: Tensor, key: Tensor, bias: Tensor, *, scale: float) -> Tensor:
    """Query and key [boxes * heads, n, d], bias [heads, n, n] -> [boxes * heads, n, n]."""
    n = query.shape[1]
    scores = query.new_empty(query.shape[0] // bias.shape[0], *bias.shape).copy_(bias).view(-1, n, n)
    torch.baddbmm(scores, query, key.mT, alpha=scale, out=scores)
    return torch.softmax(scores, -1, out=scores)


def _add_up(windows: Tensor, *, into: Tensor) -> None:
    """Add the sum of [windows, heads, n, n] to [heads, n, n]."""
    if len(windows) > FEW_WINDOWS:
        into += windows.sum(0, dtype=into.dtype)
    else:
        for window in windows:
            into += window


def _offsets_of_boxes(offset_bias: Tensor, *, window: Extent, size: Extent) -> Tensor:
    """The part of the bias that boxes of ``size`` use, a view: [heads, 2t - 1, h, w, h, w]."""
    time, height, width = size
    spatial = offset_bias.view(*offset_bias.shape[:2], window.height, window.width, window.height, window.width)
    return spatial[:, window.time - time : window.time + time - 1, :height, :width, :height, :width]


def _bias_of_boxes(offset_bias: Tensor, *, window: Extent, size: Extent) -> Tensor:
    """The bias [heads, 2t - 1, h * w, h * w] of a window -> that of boxes inside it: [heads, tokens, tokens]."""
    # Key frames in ascending order are offsets in descending order.
    offsets = _offsets_of_boxes(offset_bias, window=window, size=size).flip(1).flatten(4).flatten(2, 3)
    frames = [offsets[:, size.time - 1 - time : 2 * size.time - 1 - time] for time in range(size.time)]
    return rearrange(frames, "t k s n m -> k (t n) (s m)")


def _add_bias_of_boxes(grad_bias: Tensor, *, window: Extent, size: Extent, into: Tensor) -> None:
    """The transpose of :func:`_bias_of_boxes`: [heads, tokens, tokens] added to [heads, 2t - 1, h * w, h * w]."""
    time, height, width = size
    offsets = _offsets_of_boxes(into, window=window, size=size)
    frames = rearrange(
        grad_bias, "k (t h w) (s i j) -> t s k h w i j", t=time, h=height, w=width, s=time, i=height, j=width
    )
    for query in range(time):
        for key in range(time):
            offsets[:, query - key + time - 1] += frames[query, key]
