"""Parts that Swin Transformers for images and for video share: stages of blocks, sizes, rates, initialisation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..config import Attention, Extent, Shift, is_positive_integer
from .blocks import BlockOptions, FactorizedBlock, SwinBlock
from .patches import PatchMerging
from .windows import fit_window, grid_of, padded_grid, shift_mask, window_shift


def check_sizes(
    *, embed_dim: int, depths: Sequence[int], num_heads: Sequence[int], mlp_ratio: float, **more: int
) -> None:
    """Raise ValueError, naming the argument, unless a Swin Transformer of these sizes can be built."""
    for name, size in {"embed_dim": embed_dim, **more}.items():
        if not is_positive_integer(size):
            raise ValueError(f"expected {name} to be a positive integer, got {size!r}")
    for name, sizes in (("depths", depths), ("num_heads", num_heads)):
        if not isinstance(sizes, Sequence) or not sizes or not all(is_positive_integer(size) for size in sizes):
            raise ValueError(f"expected {name} to be one positive integer per stage, got {sizes!r}")
    if len(depths) != len(num_heads):
        raise ValueError(
            f"expected one number of heads per stage, got depths {tuple(depths)} and num_heads {tuple(num_heads)}"
        )
    if int(embed_dim * mlp_ratio) < 1:
        raise ValueError(f"expected mlp_ratio to give the MLPs at least one channel, got {mlp_ratio!r}")


class Stage(nn.Module):
    """Blocks at one resolution, every second one shifted, and the merging that leads to the next stage.

    Args:
        blocks: of one width.
        window: size wanted; clamped to the grid in each forward pass.
        shift: of every second block, likewise.
        downsample: applied at the end; None in the last stage.
    """

    def __init__(
        self, blocks: Sequence[SwinBlock], *, window: Extent, shift: Extent, downsample: PatchMerging | None
    ) -> None:
        super().__init__()
        self.window = window
        self.shift = shift
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, H, W, C] -> [B, T, ceil(H/2), ceil(W/2), 2C], or the same shape in the last stage."""
        grid = grid_of(x)
        window, shift = fit_window(grid, window=self.window, shift=self.shift)
        mask = None
        shifted = [block for block in self.blocks if isinstance(block, SwinBlock) and block.shifted]
        if not all(block.attn.boxed(x, window) for block in shifted):
            # Computed in each pass, once per stage: a cache would have to know sizes, device and dtype.
            whole = padded_grid(grid, multiple=window)
            mask = shift_mask(whole, window=window, shift=shift, device=x.device, dtype=x.dtype)
        for block in self.blocks:
            x = block(x, window=window, shift=shift, mask=mask)
        return x if self.downsample is None else self.downsample(x)


def build_stages(
    embed_dim: int,
    *,
    depths: Sequence[int],
    num_heads: Sequence[int],
    window: Extent,
    shift: Shift,
    attention: Attention,
    drop_path_rates: Sequence[float],
    options: BlockOptions,
) -> nn.ModuleList:
    """The stages of a Swin Transformer: widths embed_dim, 2 embed_dim, ...; one drop-path rate per block.

    Raises:
        ValueError: a width is not divisible by its heads.
    """
    attended = window if attention is Attention.JOINT else Extent(1, window.height, window.width)
    rates = iter(drop_path_rates)
    stages = nn.ModuleList()
    for number, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
        dim = embed_dim * 2**number
        blocks: list[SwinBlock] = []
        for index in range(depth):
            shifted = index % 2 == 1
            rate = next(rates)
            if attention is Attention.FACTORIZED:
                block: SwinBlock = FactorizedBlock(
                    dim,
                    num_heads=heads,
                    window=attended,
                    shifted=shifted,
                    reach=window.time,
                    drop_path=rate,
                    options=options,
                )
            else:
                block = SwinBlock(
                    dim, num_heads=heads, window=attended, shifted=shifted, drop_path=rate, options=options
                )
            blocks.append(block)
        last = number == len(depths) - 1
        stages.append(
            Stage(
                blocks,
                window=attended,
                shift=window_shift(attended, shift),
                downsample=None if last else PatchMerging(dim, norm_layer=options.norm_layer),
            )
        )
    return stages


def drop_path_schedule(rate: float, *, depth: int) -> tuple[float, ...]:
    """Rates rising linearly from 0 in the first block to ``rate`` in the last."""
    return tuple(rate * index / max(depth - 1, 1) for index in range(depth))


def initialise_linear_layers(module: nn.Module) -> None:
    """Truncated normal of standard deviation 0.02 and no bias; other layers keep PyTorch's initialisation."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
