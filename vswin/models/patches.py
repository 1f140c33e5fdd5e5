"""Pixels to tokens, and four tokens to one (section 3.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import Extent
from .windows import grid_of, pad_grid, padded_grid


def check_pixels(inputs: Tensor) -> None:
    """Raise ValueError unless ``inputs`` [B, ...] has pixels, and they are floating-point numbers."""
    if not inputs.is_floating_point():
        raise ValueError(
            f"expected floating-point pixels, got {inputs.dtype}; make them with vswin.data.transforms.normalise"
        )
    if 0 in inputs.shape[1:]:
        raise ValueError(f"expected at least one frame, row and column, got shape {list(inputs.shape)}")


class PatchEmbed3D(nn.Module):
    """One token per patch of ``patch`` pixels: a linear map of its values, and optionally a norm.

    A clip whose size is no multiple of the patch is padded with zeros at the end of each axis.
    """

    def __init__(
        self, patch: Extent, *, in_chans: int, embed_dim: int, norm_layer: Callable[[int], nn.Module] | None
    ) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(in_chans, embed_dim, kernel_size=patch, stride=patch)
        self.norm = None if norm_layer is None else norm_layer(embed_dim)

    def forward(self, clips: Tensor) -> Tensor:
        """[B, in_chans, T, H, W] -> [B, T', H', W', C]."""
        pixels = Extent(*clips.shape[2:])
        whole = padded_grid(pixels, multiple=self.patch)
        if whole != pixels:
            clips = F.pad(
                clips, (0, whole.width - pixels.width, 0, whole.height - pixels.height, 0, whole.time - pixels.time)
            )
        tokens = rearrange(self.proj(clips), "b c t h w -> b t h w c")
        return tokens if self.norm is None else self.norm(tokens)


class PatchEmbed2D(nn.Module):
    """One token per square patch of an image, normed; images are padded like clips in :class:`PatchEmbed3D`."""

    def __init__(self, patch: int, *, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch, stride=patch)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        """[B, in_chans, H, W] -> [B, 1, H', W', C], a token grid of one frame."""
        height, width = images.shape[-2:]
        images = F.pad(images, (0, -width % self.patch, 0, -height % self.patch))
        return self.norm(rearrange(self.proj(images), "b c h w -> b 1 h w c"))


class PatchMerging(nn.Module):
    """2x2 neighbouring tokens of a frame become one of twice the width; time is left alone (section 3.1)."""

    def __init__(self, dim: int, *, norm_layer: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.norm = norm_layer(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, H, W, C] -> [B, T, ceil(H/2), ceil(W/2), 2C]."""
        x = pad_grid(x, multiple=Extent(1, 2, 2))
        grid = grid_of(x)
        # Channel order of the published weights: down the column first, then the next column.
        x = rearrange(x, "b t (h i) (w j) c -> b t h w (j i c)", h=grid.height // 2, w=grid.width // 2, i=2, j=2)
        return self.reduction(self.norm(x))
