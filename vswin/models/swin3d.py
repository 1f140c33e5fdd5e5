"""Video Swin Transformer: the published class, and the designs its paper compares but never released.

Where the paper leaves something open, this is what was chosen. Parameters and FLOPs cannot decide between the
alternatives (section 3.4 of the collected facts: each prints the same digits), so each choice is held by a test in
``tests/models/test_swin3d_deviations.py`` that carries its number.

1. *factorized*: the temporal attention has a norm of its own in front, like every other attention.
2. *factorized*: the weighting parameter is one scalar per block, and stochastic depth drops the weighted branch.
3. *factorized*, *split*: temporal attention sees all frames and has a learned bias per temporal offset, because
   without any position the network could not tell a video from its frames in another order. The temporal window
   says how many offsets have a bias of their own (2P-1); farther ones share that of the farthest.
4. *split*: the two temporal layers stand between the last stage and the final norm, so that the head sees normed
   features and the image model's norm keeps its place. They take the last stage's heads and the full drop-path rate.
5. *factorized*, *split*: spatial attention uses the window's height and width, with one frame per window; its
   shift along space follows ``shift``.
6. ``center`` initialisation of the embedding puts the image kernel at frame floor(t / 2), ViViT's rule, unscaled.
7. ``center`` initialisation of the bias table: -4.6 *replaces* the bias across frames.
8. A window clamped in space looks up the bias of its true offsets; the published code looks up others
   (``clamped_bias="published"``).
9. *factorized*, *split*: the layers they add train at the backbone's learning rate with weight decay, the weighting
   parameter included, although no image model gives them; their bias tables train at the head's rate without decay,
   like every bias table of the published code (``multipliers`` in ``vswin/training/optim.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Self

from einops import rearrange
from torch import Tensor, nn

from ..config import Attention, ClampedBias, Extent, Shift
from .blocks import BlockOptions, TemporalBlock
from .choices import chosen
from .families import VIDEO_SWIN
from .patches import PatchEmbed3D, check_pixels
from .stages import build_stages, check_sizes, drop_path_schedule, initialise_linear_layers
from .weights.inflate import inflate
from .weights.loading import load_checkpoint
from .weights.reading import read_checkpoint

# "adds two temporal transformer layers on top of the spatial-only Swin Transformer" (section 4.3)
SPLIT_LAYERS = 2


def _extent(value: Sequence[int], *, name: str) -> Extent:
    try:
        return Extent.of(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


class SwinTransformer3D(nn.Module):
    """The backbone of Video Swin Transformer (Liu et al. 2021): clips in, feature map out.

    Constructor arguments, their defaults and the state-dict names are those of the published class
    (mmaction/models/backbones/swin_transformer.py @db018fb8). Its defaults are *not* the paper's models: those are
    given by :func:`vswin.create_model`.

    Args:
        pretrained: path of a checkpoint to start from: an image model if ``pretrained2d``, else a video model.
        pretrained2d: whether ``pretrained`` is an image model, to be inflated.
        patch_size: frames, rows and columns that make one token.
        in_chans: channels of a clip.
        embed_dim: width of the first stage; each further one doubles it.
        depths: blocks per stage.
        num_heads: attention heads per stage; each must divide its stage's width.
        window_size: tokens of a window along time, height and width.
        mlp_ratio: hidden width of the MLPs, as a multiple of the stage's.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: factor of the attention scores; None for head_dim ** -0.5.
        drop_rate: dropout of tokens, of attention's output and in the MLPs.
        attn_drop_rate: dropout of attention weights.
        drop_path_rate: stochastic depth of the last block; earlier ones have less, the first none.
        norm_layer: makes a norm of a given width.
        patch_norm: whether tokens are normed right after the embedding. The paper's models do.
        frozen_stages: -1 freezes nothing, 0 the patch embedding, n > 0 also the first n stages.
        use_checkpoint: compute activations again in the backward pass instead of keeping them.
        attention: design of spatio-temporal attention (Table 4).
        shift: axes along which every second block's windows are shifted (Table 6).
        clamped_bias: how a window clamped in space looks its bias up.

    Raises:
        ValueError: sizes that are not positive or do not fit together.
    """

    family = VIDEO_SWIN

    def __init__(
        self,
        pretrained: str | PathLike[str] | None = None,
        pretrained2d: bool = True,
        patch_size: Sequence[int] = (4, 4, 4),
        in_chans: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: Sequence[int] = (2, 7, 7),
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.2,
        norm_layer: Callable[[int], nn.Module] = nn.LayerNorm,
        patch_norm: bool = False,
        frozen_stages: int = -1,
        use_checkpoint: bool = False,
        *,
        attention: Attention | str = Attention.JOINT,
        shift: Shift | str = Shift.FULL,
        clamped_bias: ClampedBias | str = ClampedBias.EXACT,
    ) -> None:
        super().__init__()
        self.attention = chosen(Attention, attention, name="attention")
        self.shift = chosen(Shift, shift, name="shift")
        check_sizes(embed_dim=embed_dim, depths=depths, num_heads=num_heads, mlp_ratio=mlp_ratio, in_chans=in_chans)
        if frozen_stages not in range(-1, len(depths) + 1):
            raise ValueError(f"expected frozen_stages from -1 to {len(depths)}, got {frozen_stages!r}")
        if qk_scale is not None and not qk_scale > 0:
            raise ValueError(f"expected qk_scale above 0, or None for head_dim ** -0.5, got {qk_scale!r}")
        self.patch = _extent(patch_size, name="patch_size")
        self.window = _extent(window_size, name="window_size")
        self.in_chans = in_chans
        self.embed_dim = embed_dim
        self.num_features = embed_dim * 2 ** (len(depths) - 1)
        self.frozen_stages = frozen_stages
        options = BlockOptions(
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            drop_rate=drop_rate,
            attn_drop_rate=attn_drop_rate,
            norm_layer=norm_layer,
            use_checkpoint=use_checkpoint,
            clamped_bias=chosen(ClampedBias, clamped_bias, name="clamped_bias"),
        )
        self.patch_embed = PatchEmbed3D(
            self.patch, in_chans=in_chans, embed_dim=embed_dim, norm_layer=norm_layer if patch_norm else None
        )
        self.pos_drop = nn.Dropout(drop_rate)
        self.layers = build_stages(
            embed_dim,
            depths=depths,
            num_heads=num_heads,
            window=self.window,
            shift=self.shift,
            attention=self.attention,
            drop_path_rates=drop_path_schedule(drop_path_rate, depth=sum(depths)),
            options=options,
        )
        self.temporal_layers = nn.ModuleList(
            TemporalBlock(
                self.num_features,
                num_heads=num_heads[-1],
                reach=self.window.time,
                drop_path=drop_path_rate,
                options=options,
            )
            for _ in range(SPLIT_LAYERS if self.attention is Attention.SPLIT else 0)
        )
        self.norm = norm_layer(self.num_features)
        initialise_linear_layers(self)
        if pretrained is not None:
            self._start_from(pretrained, inflated=pretrained2d)
        self._freeze()

    def forward(self, clips: Tensor) -> Tensor:
        """A batch of clips to its feature map.

        Args:
            clips: [B, in_chans, T, H, W], floating point, normalised as in training; any T, H, W of at least 1.

        Returns:
            [B, C, T', H', W'] with C = embed_dim * 2 ** (stages - 1), T' = ceil(T / patch time), and H', W' the
            patches of H and W halved (and rounded up) once per stage after the first.

        Raises:
            ValueError: another rank or number of channels, no pixels, or no floating-point numbers.
        """
        if clips.ndim != 5 or clips.shape[1] != self.in_chans:
            raise ValueError(
                f"expected clips of shape [B, {self.in_chans}, T, H, W], got {list(clips.shape)}; "
                "channels come second and time third"
            )
        check_pixels(clips)
        x = self.pos_drop(self.patch_embed(clips))
        for stage in self.layers:
            x = stage(x)
        for layer in self.temporal_layers:
            x = layer(x)
        return rearrange(self.norm(x), "b t h w c -> b c t h w")

    def train(self, mode: bool = True) -> Self:
        """Set training mode, except for frozen stages, which stay in evaluation mode."""
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        frozen: list[nn.Module] = []
        if self.frozen_stages >= 0:
            frozen = [self.patch_embed, *self.layers[: self.frozen_stages]]
        for module in frozen:
            module.eval()
            module.requires_grad_(False)

    def _start_from(self, path: str | PathLike[str], *, inflated: bool) -> None:
        if inflated:
            inflate(read_checkpoint(path), self)
        else:
            load_checkpoint(self, path)
