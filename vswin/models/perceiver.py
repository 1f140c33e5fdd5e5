"""Perceiver (Jaegle et al. 2021) on video: a few latents read the pixels, again and again.

Sizes and structure of github.com/lucidrains/perceiver-pytorch @96097c6a, written from its documented behaviour.
"""

from __future__ import annotations

from math import pi

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..config import FeedForward, WeightSharing
from .attention import fused_attention
from .families import Family
from .patches import check_pixels

CHANNELS = 3
AXES = 3


def fourier_features(size: tuple[int, ...], *, bands: int, max_frequency: float, device: torch.device) -> Tensor:
    """Where each cell of a grid is, as sines and cosines: float32 [*size, axes * (2 * bands + 1)].

    A position runs from -1 to 1 along each axis. Its features are sin(f pi p) for all bands, cos(f pi p) for all
    bands, and p itself, with frequencies f evenly spaced from 1 to ``max_frequency / 2`` (section 3.2 of the
    Perceiver paper); one axis after the other.
    """
    frequencies = torch.linspace(1.0, max_frequency / 2, bands, device=device) * pi
    axes = []
    for axis, length in enumerate(size):
        position = torch.linspace(-1.0, 1.0, length, device=device)[:, None]
        features = torch.cat([(position * frequencies).sin(), (position * frequencies).cos(), position], dim=-1)
        shape = [1] * len(size)
        shape[axis] = length
        axes.append(features.reshape(*shape, -1).expand(*size, -1))
    return torch.cat(axes, dim=-1)


class LatentAttention(nn.Module):
    """Multi-head attention of normed latents to a context, or to themselves.

    Args:
        dim: width of the latents.
        context_dim: width of the context, which gets a norm of its own; None if the latents are the context.
        num_heads, head_dim: of the attention; their product need not be ``dim``.
    """

    def __init__(self, dim: int, *, context_dim: int | None, num_heads: int, head_dim: int) -> None:
        super().__init__()
        inner = num_heads * head_dim
        self.num_heads = num_heads
        self.scale = head_dim**-0.5
        self.norm = nn.LayerNorm(dim)
        self.context_norm = None if context_dim is None else nn.LayerNorm(context_dim)
        self.query = nn.Linear(dim, inner, bias=False)
        self.key_value = nn.Linear(context_dim or dim, 2 * inner, bias=False)
        self.proj = nn.Linear(inner, dim)

    def forward(self, latents: Tensor, context: Tensor | None = None) -> Tensor:
        """Latents [B, N, C] and context [B, M, context_dim] -> [B, N, C]."""
        latents = self.norm(latents)
        context = latents if self.context_norm is None else self.context_norm(context)
        query = rearrange(self.query(latents), "b n (h d) -> b h n d", h=self.num_heads)
        key, value = rearrange(self.key_value(context), "b m (two h d) -> two b h m d", two=2, h=self.num_heads)
        out = fused_attention(query, key, value, scale=self.scale)
        return self.proj(rearrange(out, "b h n d -> b n (h d)"))


class LatentMlp(nn.Module):
    """Norm, linear, non-linearity, linear: [B, N, C] -> [B, N, C]."""

    def __init__(self, dim: int, *, mlp_ratio: float, feed_forward: FeedForward) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.feed_forward = feed_forward
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 2 * hidden if feed_forward is FeedForward.GEGLU else hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, latents: Tensor) -> Tensor:
        hidden = self.fc1(self.norm(latents))
        if self.feed_forward is FeedForward.GEGLU:
            values, gates = hidden.chunk(2, dim=-1)
            return self.fc2(values * F.gelu(gates))
        return self.fc2(F.gelu(hidden))


class LatentLayer(nn.Module):
    """Attention and MLP, each added to the latents; reads the clip if it has a ``context_dim``."""

    def __init__(
        self,
        dim: int,
        *,
        context_dim: int | None,
        num_heads: int,
        head_dim: int,
        mlp_ratio: float,
        feed_forward: FeedForward,
    ) -> None:
        super().__init__()
        self.attn = LatentAttention(dim, context_dim=context_dim, num_heads=num_heads, head_dim=head_dim)
        self.mlp = LatentMlp(dim, mlp_ratio=mlp_ratio, feed_forward=feed_forward)

    def forward(self, latents: Tensor, context: Tensor | None = None) -> Tensor:
        latents = latents + self.attn(latents, context)
        return latents + self.mlp(latents)


class Repetition(nn.Module):
    """Latents read the clip once, then attend to one another ``len(self_layers)`` times."""

    def __init__(self, cross: LatentLayer, self_layers: list[LatentLayer]) -> None:
        super().__init__()
        self.cross = cross
        self.self_layers = nn.ModuleList(self_layers)

    def forward(self, latents: Tensor, context: Tensor) -> Tensor:
        latents = self.cross(latents, context)
        for layer in self.self_layers:
            latents = layer(latents)
        return latents


class Perceiver(nn.Module):
    """Classifier of clips of any size; arguments are the fields of :class:`vswin.config.PerceiverConfig`.

    Args:
        num_latents, latent_dim: the array that reads the clip.
        depth: repetitions.
        self_per_cross: self-attention layers in each repetition.
        cross_heads, cross_head_dim, latent_heads, latent_head_dim: of the two kinds of attention.
        frequency_bands, max_frequency: of the position features, see :func:`fourier_features`.
        mlp_ratio, feed_forward: of the MLPs.
        weight_sharing: ``after_first`` gives the second and all later repetitions one set of weights.
        num_classes: of the linear head.
        use_checkpoint: compute activations again in the backward pass instead of keeping them.
    """

    family = Family("Perceiver", marks=("latents", "repetitions.0.cross.attn.query.weight"))

    def __init__(
        self,
        num_latents: int = 256,
        *,
        latent_dim: int = 512,
        depth: int = 6,
        self_per_cross: int = 2,
        cross_heads: int = 1,
        cross_head_dim: int = 64,
        latent_heads: int = 8,
        latent_head_dim: int = 64,
        frequency_bands: int = 6,
        max_frequency: float = 10.0,
        mlp_ratio: float = 4.0,
        feed_forward: FeedForward = FeedForward.GEGLU,
        weight_sharing: WeightSharing = WeightSharing.NONE,
        num_classes: int = 400,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.frequency_bands = frequency_bands
        self.max_frequency = max_frequency
        self.use_checkpoint = use_checkpoint
        self.depth = depth
        context_dim = CHANNELS + AXES * (2 * frequency_bands + 1)

        def repetition() -> Repetition:
            cross = LatentLayer(
                latent_dim,
                context_dim=context_dim,
                num_heads=cross_heads,
                head_dim=cross_head_dim,
                mlp_ratio=mlp_ratio,
                feed_forward=feed_forward,
            )
            self_layers = [
                LatentLayer(
                    latent_dim,
                    context_dim=None,
                    num_heads=latent_heads,
                    head_dim=latent_head_dim,
                    mlp_ratio=mlp_ratio,
                    feed_forward=feed_forward,
                )
                for _ in range(self_per_cross)
            ]
            return Repetition(cross, self_layers)

        self.latents = nn.Parameter(torch.empty(num_latents, latent_dim))
        nn.init.normal_(self.latents, std=0.02)
        own = depth if weight_sharing is WeightSharing.NONE else min(depth, 2)
        self.repetitions = nn.ModuleList(repetition() for _ in range(own))
        self.norm = nn.LayerNorm(latent_dim)
        self.head = nn.Linear(latent_dim, num_classes)

    def encode(self, context: Tensor) -> Tensor:
        """Tokens [B, M, 3 + 3 * (2 * frequency_bands + 1)] -> latents [B, num_latents, latent_dim]."""
        latents = repeat(self.latents, "n c -> b n c", b=context.shape[0])
        for number in range(self.depth):
            repetition = self.repetitions[min(number, len(self.repetitions) - 1)]
            if self.use_checkpoint and self.training:
                latents = checkpoint(repetition, latents, context, use_reentrant=False)
            else:
                latents = repetition(latents, context)
        return latents

    def forward(self, clips: Tensor) -> Tensor:
        """Clips [B, 3, T, H, W], any size -> logits [B, num_classes].

        Raises:
            ValueError: another rank or number of channels, no pixels, or no floating-point numbers.
        """
        if clips.ndim != 5 or clips.shape[1] != CHANNELS:
            raise ValueError(
                f"expected clips of shape [B, {CHANNELS}, T, H, W], got {list(clips.shape)}; "
                "channels come second and time third"
            )
        check_pixels(clips)
        positions = fourier_features(
            tuple(clips.shape[2:]), bands=self.frequency_bands, max_frequency=self.max_frequency, device=clips.device
        ).to(clips.dtype)
        pixels = rearrange(clips, "b c t h w -> b t h w c")
        context = torch.cat([pixels, positions.expand(clips.shape[0], *positions.shape)], dim=-1)
        latents = self.encode(rearrange(context, "b t h w c -> b (t h w) c"))
        return self.head(self.norm(reduce(latents, "b n c -> b c", "mean")))
