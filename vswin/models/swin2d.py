"""Swin Transformer for images (Liu et al. 2021a): where the weights of a video model come from.

An image is a video of one frame, so the stages are those of :mod:`vswin.models.swin3d` with windows one frame deep.
State-dict names and shapes are those of github.com/microsoft/Swin-Transformer @f82860bf, without its ``attn_mask``
buffers, which follow from the input's size.
"""

from __future__ import annotations

from collections.abc import Sequence

from einops import reduce
from torch import Tensor, nn

from ..config import Attention, Extent, Shift
from .blocks import BlockOptions
from .families import IMAGE_SWIN
from .patches import PatchEmbed2D, check_pixels
from .stages import build_stages, check_sizes, drop_path_schedule, initialise_linear_layers


class SwinTransformer2D(nn.Module):
    """Image classifier with shifted windows of ``window`` x ``window`` tokens.

    Args:
        embed_dim: width of the first stage; each further one doubles it.
        depths, num_heads: blocks and heads per stage.
        patch: pixels along each side of a token.
        window: tokens along each side of a window.
        mlp_ratio: hidden width of the MLPs, as a multiple of the stage's.
        drop_path: stochastic depth of the last block; earlier ones have less, the first none.
        num_classes: of the linear head.
        use_checkpoint: compute activations again in the backward pass instead of keeping them.

    Raises:
        ValueError: sizes that do not fit together.
    """

    family = IMAGE_SWIN

    def __init__(
        self,
        embed_dim: int,
        *,
        depths: Sequence[int],
        num_heads: Sequence[int],
        patch: int = 4,
        window: int = 7,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.2,
        num_classes: int = 1000,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(
            embed_dim=embed_dim, depths=depths, num_heads=num_heads, mlp_ratio=mlp_ratio, patch=patch, window=window
        )
        self.num_features = embed_dim * 2 ** (len(depths) - 1)
        self.patch_embed = PatchEmbed2D(patch, in_chans=3, embed_dim=embed_dim)
        self.layers = build_stages(
            embed_dim,
            depths=depths,
            num_heads=num_heads,
            window=Extent(1, window, window),
            shift=Shift.FULL,
            attention=Attention.JOINT,
            drop_path_rates=drop_path_schedule(drop_path, depth=sum(depths)),
            options=BlockOptions(mlp_ratio=mlp_ratio, use_checkpoint=use_checkpoint),
        )
        self.norm = nn.LayerNorm(self.num_features)
        self.head = nn.Linear(self.num_features, num_classes)
        initialise_linear_layers(self)

    def features(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W], or clips of one frame [B, 3, 1, H, W] -> tokens [B, 1, H', W', C] after the final norm.

        Raises:
            ValueError: another rank or number of channels, no pixels, or no floating-point numbers.
        """
        if images.ndim == 5 and images.shape[2] == 1:
            images = images[:, :, 0]
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"expected images of shape [B, 3, H, W], got {list(images.shape)}; "
                "a clip's frames go into the batch: rearrange(clips, 'b c t h w -> (b t) c h w')"
            )
        check_pixels(images)
        x = self.patch_embed(images)
        for stage in self.layers:
            x = stage(x)
        return self.norm(x)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] of any size, or clips of one frame -> logits [B, num_classes]."""
        return self.head(reduce(self.features(images), "b t h w c -> b c", "mean"))
