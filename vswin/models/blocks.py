"""Transformer blocks of the three designs of spatio-temporal attention (Table 4): joint, split, factorized."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..config import ClampedBias, Extent
from .attention import TemporalAttention, WindowAttention
from .chunked_mlp import SMALLEST_CHUNKED, chunked_mlp, hidden_bytes
from .form import Form, TwoForms
from .windows import (
    NO_SHIFT,
    crop_grid,
    cut_windows,
    grid_of,
    pad_grid,
    padded_grid,
    paste_windows,
    shift_grid,
    unshift_grid,
)


@dataclass(frozen=True, kw_only=True)
class BlockOptions:
    """Options that all blocks of a network share. Fields are named after the published constructor's arguments."""

    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    qk_scale: float | None = None
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    norm_layer: Callable[[int], nn.Module] = nn.LayerNorm
    use_checkpoint: bool = False
    clamped_bias: ClampedBias = ClampedBias.EXACT


class DropPath(nn.Module):
    """Stochastic depth: in training, drops the whole branch of a sample with probability ``rate``.

    What remains is divided by ``1 - rate``, so the expected value stays. Input [B, ...], output the same.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"expected a drop path rate in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        kept = torch.empty((x.shape[0], *(1 for _ in x.shape[1:])), dtype=x.dtype, device=x.device)
        return x * kept.bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


class Mlp(TwoForms):
    """Two linear layers with a GELU between them: [..., dim] -> [..., hidden] -> [..., dim]."""

    def __init__(self, dim: int, *, hidden: int, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        if self._chunked(x):
            return chunked_mlp(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))

    def _chunked(self, x: Tensor) -> bool:
        """True if chunks are faster, and nobody replaced the layers or watches them."""
        layers = (self.fc1, self.act, self.fc2)
        return (
            self.form is Form.FAST
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
            and x.device.type == "cpu"
            and hidden_bytes(x, hidden=self.fc1.out_features) >= SMALLEST_CHUNKED
            and not (self.training and self.drop.p)
            and [type(layer) for layer in layers] == [nn.Linear, nn.GELU, nn.Linear]
            and not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)
        )


class SwinBlock(nn.Module):
    """Window attention, then an MLP, each on a normed input and added to it: *joint*, and spatial-only for P = 1.

    ``shifted`` blocks move their windows by the shift the stage hands to every forward pass.
    """

    def __init__(
        self, dim: int, *, num_heads: int, window: Extent, shifted: bool, drop_path: float, options: BlockOptions
    ) -> None:
        super().__init__()
        self.shifted = shifted
        self.use_checkpoint = options.use_checkpoint
        self.norm1 = options.norm_layer(dim)
        self.attn = WindowAttention(
            dim,
            window=window,
            num_heads=num_heads,
            qkv_bias=options.qkv_bias,
            qk_scale=options.qk_scale,
            attn_drop=options.attn_drop_rate,
            proj_drop=options.drop_rate,
            clamped_bias=options.clamped_bias,
        )
        self.drop_path = DropPath(drop_path)
        self.norm2 = options.norm_layer(dim)
        self.mlp = Mlp(dim, hidden=int(dim * options.mlp_ratio), drop=options.drop_rate)

    def forward(self, x: Tensor, *, window: Extent, shift: Extent, mask: Tensor | None) -> Tensor:
        """[B, T, H, W, C] -> the same.

        ``window`` and ``shift`` already fit the grid; ``mask`` [windows, tokens, tokens] belongs to the shifted
        grid and is ignored by blocks that do not shift or attend in boxes.
        """
        x = x + self._run(self._attend, x, window, shift if self.shifted else NO_SHIFT, mask if self.shifted else None)
        return x + self._run(self._feed_forward, x)

    def _attend(self, x: Tensor, window: Extent, shift: Extent, mask: Tensor | None) -> Tensor:
        grid = grid_of(x)
        boxed = self.attn.boxed(x, window)
        # Padding comes after the norm: padded tokens are zeros, not the norm's bias, and take part as keys.
        x = pad_grid(self.norm1(x), multiple=window)
        if boxed:
            x = self.attn.attend_displaced(x, window, shift)
        else:
            windows = cut_windows(shift_grid(x, shift), window)
            windows = self.attn(windows, window, mask)
            x = unshift_grid(paste_windows(windows, window, grid=padded_grid(grid, multiple=window)), shift)
        return self.drop_path(crop_grid(x, grid))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.drop_path(self.mlp(self.norm2(x)))

    def _run(self, branch: Callable[..., Tensor], *args: object) -> Tensor:
        """The branch, remembering its activations or computing them again in the backward pass."""
        if self.use_checkpoint and self.training:
            return checkpoint(branch, *args, use_reentrant=False)
        return branch(*args)


class GatedTemporalAttention(nn.Module):
    """The layer that *factorized* adds: a norm, temporal attention, and a weight that starts at zero (section 4.3)."""

    def __init__(self, dim: int, *, num_heads: int, reach: int, drop_path: float, options: BlockOptions) -> None:
        super().__init__()
        self.norm = options.norm_layer(dim)
        self.attn = TemporalAttention(
            dim,
            reach=reach,
            num_heads=num_heads,
            qkv_bias=options.qkv_bias,
            qk_scale=options.qk_scale,
            attn_drop=options.attn_drop_rate,
            proj_drop=options.drop_rate,
        )
        self.gate = nn.Parameter(torch.zeros(1))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """The branch to be added to its input: [B, T, H, W, C] -> the same."""
        return self.drop_path(self.gate * self.attn(self.norm(x)))


class FactorizedBlock(SwinBlock):
    """Spatial window attention, gated temporal attention, MLP: *factorized*. ``reach`` sizes the temporal bias."""

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        window: Extent,
        shifted: bool,
        reach: int,
        drop_path: float,
        options: BlockOptions,
    ) -> None:
        super().__init__(dim, num_heads=num_heads, window=window, shifted=shifted, drop_path=drop_path, options=options)
        self.temporal = GatedTemporalAttention(
            dim, num_heads=num_heads, reach=reach, drop_path=drop_path, options=options
        )

    def forward(self, x: Tensor, *, window: Extent, shift: Extent, mask: Tensor | None) -> Tensor:
        x = x + self._run(self._attend, x, window, shift if self.shifted else NO_SHIFT, mask if self.shifted else None)
        x = x + self._run(self.temporal, x)
        return x + self._run(self._feed_forward, x)


class TemporalBlock(nn.Module):
    """A full transformer layer along time, at each place on its own: two of them end *split* (section 4.3)."""

    def __init__(self, dim: int, *, num_heads: int, reach: int, drop_path: float, options: BlockOptions) -> None:
        super().__init__()
        self.use_checkpoint = options.use_checkpoint
        self.norm1 = options.norm_layer(dim)
        self.attn = TemporalAttention(
            dim,
            reach=reach,
            num_heads=num_heads,
            qkv_bias=options.qkv_bias,
            qk_scale=options.qk_scale,
            attn_drop=options.attn_drop_rate,
            proj_drop=options.drop_rate,
        )
        self.drop_path = DropPath(drop_path)
        self.norm2 = options.norm_layer(dim)
        self.mlp = Mlp(dim, hidden=int(dim * options.mlp_ratio), drop=options.drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, H, W, C] -> the same."""
        if self.use_checkpoint and self.training:
            return checkpoint(self._layer, x, use_reentrant=False)
        return self._layer(x)

    def _layer(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
