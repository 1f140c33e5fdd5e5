"""TimeSformer (Bertasius et al. 2021, "Is Space-Time Attention All You Need for Video Understanding?").

Written from the paper and from the sizes and defaults of github.com/facebookresearch/TimeSformer @a5ef29a7. Parameter
names are those of its weights and, for the spatial part, of timm's ViT, so that image weights match name for name.
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..config import SpaceTime
from .attention import SelfAttention
from .blocks import DropPath, Mlp
from .families import TIMESFORMER
from .patches import check_pixels
from .stages import drop_path_schedule, initialise_linear_layers

NORM_EPS = 1e-6


class PatchEmbedding(nn.Module):
    """One token per square patch of a frame: [B, 3, T, H, W] -> [B, T, patches, C]."""

    def __init__(self, patch: int, *, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, kernel_size=patch, stride=patch)

    def forward(self, clips: Tensor) -> Tensor:
        frames = clips.shape[2]
        tokens = self.proj(rearrange(clips, "b c t h w -> (b t) c h w"))
        return rearrange(tokens, "(b t) c h w -> b t (h w) c", t=frames)


class TimeSformerBlock(nn.Module):
    """Attention and MLP over groups of tokens [B, groups, tokens, C]; groups do not see each other.

    All of a clip's tokens in one group is joint attention, a group per frame is space-only attention.
    """

    def __init__(self, dim: int, *, num_heads: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = SelfAttention(dim, num_heads=num_heads)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, hidden=int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attend(x)
        return x + self._drop(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor) -> Tensor:
        return self._drop(self.attn.attend(self.norm1(x), bias=None, mask=None))

    def _drop(self, x: Tensor) -> Tensor:
        """Stochastic depth, each group on its own: there the published code has groups in the batch."""
        dropped = self.drop_path(rearrange(x, "b g n c -> (b g) n c"))
        return rearrange(dropped, "(b g) n c -> b g n c", g=x.shape[1])


class DividedBlock(TimeSformerBlock):
    """Attention along time at each place, then within each frame, then the MLP (section 3 of the TimeSformer paper).

    Tokens are [B, 1, 1 + frames * patches, C], the class token first, then the frames in turn. The class token skips
    the temporal attention; in the spatial one it looks into every frame and takes the mean of what it found.
    """

    def __init__(self, dim: int, *, num_heads: int, mlp_ratio: float, drop_path: float, frames: int) -> None:
        super().__init__(dim, num_heads=num_heads, mlp_ratio=mlp_ratio, drop_path=drop_path)
        self.frames = frames
        self.temporal_norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.temporal_attn = SelfAttention(dim, num_heads=num_heads)
        self.temporal_fc = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        cls, patches = x[:, :, :1], x[:, 0, 1:]

        columns = rearrange(patches, "b (t n) c -> b n t c", t=self.frames)
        found = self._drop(self.temporal_attn.attend(self.temporal_norm1(columns), bias=None, mask=None))
        columns = columns + self.temporal_fc(found)

        frames = rearrange(columns, "b n t c -> b t n c")
        found = self._attend(torch.cat([cls.expand(-1, self.frames, -1, -1), frames], dim=2))
        cls = cls + found[:, :, :1].mean(dim=1, keepdim=True)
        frames = frames + found[:, :, 1:]

        x = torch.cat([cls, rearrange(frames, "b t n c -> b 1 (t n) c")], dim=2)
        return x + self._drop(self.mlp(self.norm2(x)))


class TimeSformer(nn.Module):
    """A Vision Transformer over the patches of a clip.

    Args:
        attention: ``space`` attends within frames and averages their features at the end, ``joint`` over all patches,
            ``divided`` along time and then within frames.
        embed_dim, depth, num_heads, mlp_ratio: of the transformer.
        patch: pixels along each side of a token.
        frames, image_size: of the clips; they size the position embeddings.
        drop_path: stochastic depth of the last block; earlier ones have less, the first none.
        num_classes: of the linear head.
        use_checkpoint: compute activations again in the backward pass instead of keeping them.

    Raises:
        ValueError: heads that do not divide the width, or a patch that does not divide the image.
    """

    family = TIMESFORMER

    def __init__(
        self,
        attention: SpaceTime,
        *,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        patch: int = 16,
        frames: int = 8,
        image_size: int = 224,
        drop_path: float = 0.1,
        num_classes: int = 400,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if image_size % patch:
            raise ValueError(
                f"expected an image size divisible by the patch, got {image_size} and {patch}; change image_size"
            )
        self.attention = attention
        self.frames = frames
        self.image_size = image_size
        self.use_checkpoint = use_checkpoint
        patches = (image_size // patch) ** 2

        self.patch_embed = PatchEmbedding(patch, embed_dim=embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + patches, embed_dim))
        if attention is not SpaceTime.SPACE:
            self.time_embed = nn.Parameter(torch.zeros(1, frames, embed_dim))
        rates = drop_path_schedule(drop_path, depth=depth)
        self.blocks = nn.ModuleList(
            DividedBlock(embed_dim, num_heads=num_heads, mlp_ratio=mlp_ratio, drop_path=rate, frames=frames)
            if attention is SpaceTime.DIVIDED
            else TimeSformerBlock(embed_dim, num_heads=num_heads, mlp_ratio=mlp_ratio, drop_path=rate)
            for rate in rates
        )
        self.norm = nn.LayerNorm(embed_dim, eps=NORM_EPS)
        self.head = nn.Linear(embed_dim, num_classes)

        initialise_linear_layers(self)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for block in self.blocks:
            if isinstance(block, DividedBlock):
                # So that the network starts as the image model it is initialised from.
                nn.init.zeros_(block.temporal_fc.weight)

    def features(self, clips: Tensor) -> Tensor:
        """Clips [B, 3, frames, image_size, image_size] -> tokens before the final norm.

        ``space``: [B, frames, 1 + patches, C]; ``joint`` and ``divided``: [B, 1, 1 + frames * patches, C]. The class
        token comes first, patches in row-major order over (time, height, width).

        Raises:
            ValueError: another shape, or no floating-point numbers.
        """
        expected = [3, self.frames, self.image_size, self.image_size]
        if clips.ndim != 5 or list(clips.shape[1:]) != expected:
            raise ValueError(
                f"expected clips of shape [B, {', '.join(map(str, expected))}], got {list(clips.shape)}; "
                "position embeddings fix the size: build the model with other frames or image_size"
            )
        check_pixels(clips)
        patches = self.patch_embed(clips) + self.pos_embed[:, None, 1:]
        cls = repeat(self.cls_token + self.pos_embed[:, :1], "1 1 c -> b 1 1 c", b=clips.shape[0])
        if self.attention is SpaceTime.SPACE:
            x = torch.cat([cls.expand(-1, self.frames, -1, -1), patches], dim=2)
        else:
            patches = patches + rearrange(self.time_embed, "1 t c -> 1 t 1 c")
            x = torch.cat([cls, rearrange(patches, "b t n c -> b 1 (t n) c")], dim=2)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.use_checkpoint and self.training else block(x)
        return x

    def forward(self, clips: Tensor) -> Tensor:
        """Clips [B, 3, frames, image_size, image_size] -> logits [B, num_classes]."""
        cls = self.features(clips)[:, :, 0].mean(dim=1)
        return self.head(self.norm(cls))
