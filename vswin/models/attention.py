"""Multi-head self-attention: plain, inside 3D windows, and along time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import ClampedBias, Extent
from .box_attention import box_attention
from .form import Form, TwoForms
from .windows import bias_rows, relative_position_index

# Most samples that the memory-efficient CUDA kernel takes at once: they are an axis of its grid.
LARGEST_BATCH = 65_535

# Scores of a batch from which on separate boxes take less time than masked windows.
SMALLEST_BOXED = 2**21


def fused_attention(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float, added: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """SoftMax(scale * QK^T + added) V: query [B, heads, N, d], key and value [B, heads, M, d] -> [B, heads, N, d].

    ``added`` [1, heads, N, M] is the same for every sample and cast to the query's dtype.
    """
    if not torch.compiler.is_exporting() and query.shape[0] > LARGEST_BATCH:
        chunks = zip(*(x.split(LARGEST_BATCH) for x in (query, key, value)), strict=True)  # type: ignore[no-untyped-call]
        return torch.cat([fused_attention(*chunk, scale=scale, added=added, dropout=dropout) for chunk in chunks])
    if added is not None:
        added = added.to(query.dtype)
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=added, dropout_p=dropout, scale=scale)
    # Some kernels lay their output out tokens first. A traced graph would come to rely on that, and break where
    # another kernel stands in, as in ONNX.
    return out.clone(memory_format=torch.contiguous_format) if torch.compiler.is_exporting() else out


def windowed_attention(
    qkv: Tensor, *, num_heads: int, scale: float, bias: Tensor | None, mask: Tensor | None, dropout: float
) -> Tensor:
    """SoftMax(scale * QK^T + bias + mask) V inside each window (section 3.2).

    Args:
        qkv: [B, windows, tokens, 3C]; the channels are (query | key | value), each heads-major.
        scale: factor of the scores, usually head_dim ** -0.5.
        bias: [heads, tokens, tokens], the same in every window; or None.
        mask: [windows, tokens, tokens], the same for every head and clip; or None.
        dropout: probability that an attention weight is dropped.

    Returns:
        [B, windows, tokens, C].
    """
    windows = qkv.shape[1]
    if mask is None:
        query, key, value = rearrange(qkv, "b w n (three h d) -> three (b w) h n d", three=3, h=num_heads)
        added = None if bias is None else bias[None]
        out = fused_attention(query, key, value, scale=scale, added=added, dropout=dropout)
        return rearrange(out, "(b w) h n d -> b w n (h d)", w=windows)
    # Windows become heads, so that one mask per window broadcasts over the batch instead of being copied for it.
    query, key, value = rearrange(qkv, "b w n (three h d) -> three b (w h) n d", three=3, h=num_heads)
    added = mask[:, None] if bias is None else mask[:, None] + bias
    added = rearrange(added.expand(-1, num_heads, -1, -1), "w h n m -> 1 (w h) n m")
    out = fused_attention(query, key, value, scale=scale, added=added, dropout=dropout)
    return rearrange(out, "b (w h) n d -> b w n (h d)", w=windows)


def explicit_attention(
    qkv: Tensor, *, num_heads: int, scale: float, bias: Tensor | None, mask: Tensor | None, dropout: float
) -> Tensor:
    """Same as :func:`windowed_attention`, written as published, one operation after the other."""
    query, key, value = rearrange(qkv, "b w n (three h d) -> three b w h n d", three=3, h=num_heads)
    scores = (query * scale) @ key.mT
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores + mask[:, None]
    weights = F.dropout(scores.softmax(dim=-1), p=dropout)
    return rearrange(weights @ value, "b w h n d -> b w n (h d)")


class SelfAttention(TwoForms):
    """Multi-head self-attention among the tokens of each window; ``dim`` channels in and out.

    Args:
        num_heads: must divide ``dim``.
        qkv_bias: whether the projection to queries, keys and values has a bias.
        qk_scale: factor of the scores; None for head_dim ** -0.5.
        attn_drop, proj_drop: dropout of attention weights and of the output.

    Raises:
        ValueError: ``num_heads`` does not divide ``dim``.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(
                f"expected a width divisible by its number of heads, got width {dim} and {num_heads} heads; "
                "change embed_dim or num_heads"
            )
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5 if qk_scale is None else qk_scale
        self.attn_drop = attn_drop
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def attend(self, x: Tensor, *, bias: Tensor | None, mask: Tensor | None) -> Tensor:
        """[B, windows, tokens, C] -> the same, with ``bias`` and ``mask`` as in :func:`windowed_attention`."""
        attention = windowed_attention if self.form is Form.FAST else explicit_attention
        out = attention(
            self.qkv(x),
            num_heads=self.num_heads,
            scale=self.scale,
            bias=bias,
            mask=mask,
            dropout=self.attn_drop if self.training else 0.0,
        )
        return self.proj_drop(self.proj(out))

    def forward(self, x: Tensor) -> Tensor:
        """[B, tokens, C] -> [B, tokens, C]: every token attends to every other."""
        return self.attend(x[:, None], bias=None, mask=None)[:, 0]


class WindowAttention(SelfAttention):
    """Attention inside 3D windows with a learned bias per relative position and head (section 3.2).

    ``window`` sizes the bias table; a grid smaller than that is attended to in clamped windows, whose bias is
    looked up as ``clamped_bias`` says. State-dict names and shapes are those of the published
    ``WindowAttention3D`` @db018fb8, its index buffer included.
    """

    relative_position_index: Tensor

    def __init__(
        self,
        dim: int,
        *,
        window: Extent,
        num_heads: int,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        clamped_bias: ClampedBias = ClampedBias.EXACT,
    ) -> None:
        super().__init__(
            dim,
            num_heads=num_heads,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            attn_drop=attn_drop,
            proj_drop=proj_drop,
        )
        self.window = window
        self.clamped_bias = clamped_bias
        self.relative_position_bias_table = nn.Parameter(torch.empty(bias_rows(window), num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(window))

    def bias(self, window: Extent) -> Tensor:
        """The bias of a window no larger than ``self.window``: [heads, tokens, tokens]."""
        index = self.relative_position_index
        if window != self.window:
            if self.clamped_bias is ClampedBias.EXACT:
                # A clamped window is a corner of the whole one, and offsets do not depend on where they are taken.
                tokens = torch.arange(self.window.volume, device=index.device).reshape(self.window)
                tokens = tokens[: window.time, : window.height, : window.width].flatten()
                index = index[tokens][:, tokens]
            else:
                index = index[: window.volume, : window.volume]
        return rearrange(self.relative_position_bias_table[index], "n m h -> h n m")

    def offset_bias(self, window: Extent) -> Tensor:
        """The bias of a window no larger than ``self.window``, by offset in time: [heads, 2t - 1, h * w, h * w].

        Equal to :meth:`bias` except where a clamped window is to have the published one.
        """
        time, height, width = self.window
        table: Tensor = rearrange(
            self.relative_position_bias_table, "(t h w) k -> k t h w", t=2 * time - 1, h=2 * height - 1, w=2 * width - 1
        )
        for axis, (size, wanted) in enumerate(zip(window, self.window, strict=True), start=1):
            table = table.narrow(axis, wanted - size, 2 * size - 1)
        # table[..., a + b] for positions a and b along an axis; with b turned round, their difference.
        pairs = table.unfold(2, window.height, 1).unfold(3, window.width, 1).flip(4, 5)
        return pairs.flatten(4).flatten(2, 3)

    def boxed(self, x: Tensor, window: Extent) -> bool:
        """True if :meth:`attend_displaced` works for ``x`` and is faster than masked windows."""
        return (
            self.form is Form.FAST
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
            and x.device.type == "cpu"
            and x.shape[:-1].numel() * window.volume * self.num_heads >= SMALLEST_BOXED
            and (self.clamped_bias is ClampedBias.EXACT or window[1:] == self.window[1:])
            and not (self.training and self.attn_drop)
        )

    def attend_displaced(self, x: Tensor, window: Extent, shift: Extent) -> Tensor:
        """A grid [B, T, H, W, C] of whole windows -> the same; its windows are displaced by ``shift``, not masked."""
        out = box_attention(
            self.qkv(x),
            num_heads=self.num_heads,
            scale=self.scale,
            offset_bias=self.offset_bias(window),
            window=window,
            shift=shift,
        )
        return self.proj_drop(self.proj(out))

    def forward(self, x: Tensor, window: Extent | None = None, mask: Tensor | None = None) -> Tensor:
        """[B, windows, tokens, C] -> the same; ``window`` is that of the tokens, ``mask`` [windows, tokens, tokens]."""
        return self.attend(x, bias=self.bias(window or self.window), mask=mask)


class TemporalAttention(SelfAttention):
    """Attention over all frames at one place, with a learned bias per temporal offset and head.

    The table has ``2 * reach - 1`` rows; offsets beyond it share the row of the farthest one, so that any number
    of frames is accepted (deviation 3 in :mod:`vswin.models.swin3d`).
    """

    def __init__(
        self,
        dim: int,
        *,
        reach: int,
        num_heads: int,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__(
            dim,
            num_heads=num_heads,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            attn_drop=attn_drop,
            proj_drop=proj_drop,
        )
        self.reach = reach
        self.relative_position_bias_table = nn.Parameter(torch.empty(2 * reach - 1, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def bias(self, frames: int) -> Tensor:
        """The bias among ``frames`` frames: [heads, frames, frames]."""
        frame = torch.arange(frames, device=self.relative_position_bias_table.device)
        farthest = self.reach - 1
        index = (frame[:, None] - frame).clamp(-farthest, farthest) + farthest
        return rearrange(self.relative_position_bias_table[index], "n m h -> h n m")

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, H, W, C] -> [B, T, H, W, C]; tokens at different places do not see each other."""
        _, frames, height, width, _ = x.shape
        columns = rearrange(x, "b t h w c -> b (h w) t c")
        out = self.attend(columns, bias=self.bias(frames), mask=None)
        return rearrange(out, "b (h w) t c -> b t h w c", h=height, w=width)
