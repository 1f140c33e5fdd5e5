"""Windows, masks and bias indices against definitions written from the paper's text (section 3.2)."""

from __future__ import annotations

from itertools import product

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vswin.config import ClampedBias, Extent, Shift
from vswin.models.attention import WindowAttention
from vswin.models.blocks import BlockOptions, SwinBlock
from vswin.models.windows import (
    MASKED,
    NO_SHIFT,
    crop_grid,
    cut_windows,
    fit_window,
    grid_of,
    pad_grid,
    padded_grid,
    paste_windows,
    relative_position_index,
    shift_grid,
    shift_mask,
    unshift_grid,
    window_shift,
)

CPU = torch.device("cpu")
sizes = st.integers(1, 4)
extents = st.builds(Extent, sizes, sizes, sizes)


@st.composite
def shifted_grids(draw: st.DrawFn) -> tuple[Extent, Extent, Extent]:
    """A grid of whole windows, the window, and a shift smaller than the window along each axis."""
    window = draw(extents)
    counts = draw(st.builds(Extent, *(st.integers(1, 3),) * 3))
    grid = Extent(*(size * count for size, count in zip(window, counts, strict=True)))
    # An axis of one window is never shifted: fit_window sees to that.
    shift = Extent(*(draw(st.integers(0, w - 1)) if c > 1 else 0 for w, c in zip(window, counts, strict=True)))
    return grid, window, shift


def numbered(grid: Extent) -> Tensor:
    """A token grid whose only channel is the number of its cell."""
    return torch.arange(grid.volume).reshape(1, *grid, 1)


def cells(grid: Extent) -> list[Extent]:
    return [Extent(*cell) for cell in product(*(range(size) for size in grid))]


@given(extents, extents, st.integers(1, 2), st.integers(1, 3))
def test_pasting_undoes_cutting(window: Extent, counts: Extent, batch: int, channels: int) -> None:
    grid = Extent(*(size * count for size, count in zip(window, counts, strict=True)))
    x = torch.randn(batch, *grid, channels)
    windows = cut_windows(x, window)
    assert windows.shape == (batch, counts.volume, window.volume, channels)
    assert torch.equal(paste_windows(windows, window, grid=grid), x)


@given(shifted_grids())
def test_a_window_holds_the_cells_of_its_box(case: tuple[Extent, Extent, Extent]) -> None:
    grid, window, _ = case
    boxes: dict[Extent, list[int]] = {}
    for number, cell in enumerate(cells(grid)):
        box = Extent(*(position // size for position, size in zip(cell, window, strict=True)))
        boxes.setdefault(box, []).append(number)
    assert cut_windows(numbered(grid), window)[0, :, :, 0].tolist() == [boxes[box] for box in sorted(boxes)]


@given(extents, extents)
def test_cropping_undoes_padding(grid: Extent, multiple: Extent) -> None:
    x = torch.randn(2, *grid, 3)
    padded = pad_grid(x, multiple=multiple)
    assert grid_of(padded) == padded_grid(grid, multiple=multiple)
    assert all(
        size % unit == 0 and size - unit < old for size, unit, old in zip(grid_of(padded), multiple, grid, strict=True)
    )
    assert torch.equal(crop_grid(padded, grid), x)
    assert padded.count_nonzero() == x.count_nonzero()


@given(shifted_grids())
def test_unshifting_undoes_shifting(case: tuple[Extent, Extent, Extent]) -> None:
    grid, _, shift = case
    x = numbered(grid)
    shifted = shift_grid(x, shift)
    assert shifted[0, 0, 0, 0, 0] == x[0, shift.time, shift.height, shift.width, 0]
    assert torch.equal(unshift_grid(shifted, shift), x)


@given(shifted_grids())
@settings(deadline=None)
def test_the_mask_lets_exactly_the_tokens_of_a_displaced_window_meet(case: tuple[Extent, Extent, Extent]) -> None:
    """Windows displaced by the shift, without wrapping around: tokens meet if and only if they share one."""
    grid, window, shift = case

    def displaced_window(cell: Extent) -> tuple[int, ...]:
        return tuple((position - moved) // size for position, moved, size in zip(cell, shift, window, strict=True))

    home = [displaced_window(cell) for cell in cells(grid)]
    numbers = cut_windows(shift_grid(numbered(grid), shift), window)[0, :, :, 0].tolist()
    mask = shift_mask(grid, window=window, shift=shift, device=CPU, dtype=torch.float32)
    if mask is None:
        assert shift == NO_SHIFT
        mask = torch.zeros(len(numbers), window.volume, window.volume)
    expected = [[[0.0 if home[i] == home[j] else MASKED for j in tokens] for i in tokens] for tokens in numbers]
    assert mask.tolist() == expected


@given(extents)
def test_bias_rows_are_numbered_by_offset(window: Extent) -> None:
    offsets = list(product(*(range(1 - size, size) for size in window)))
    row = {offset: number for number, offset in enumerate(offsets)}
    tokens = cells(window)
    expected = [[row[tuple(a - b for a, b in zip(i, j, strict=True))] for j in tokens] for i in tokens]
    assert relative_position_index(window).tolist() == expected


@st.composite
def clamped_windows(draw: st.DrawFn) -> tuple[Extent, Extent]:
    window = draw(extents)
    return window, Extent(*(draw(st.integers(1, size)) for size in window))


@given(clamped_windows())
@settings(deadline=None)
def test_exact_bias_of_a_clamped_window_is_that_of_its_offsets(case: tuple[Extent, Extent]) -> None:
    window, clamped = case
    attention = WindowAttention(2, window=window, num_heads=2)
    offsets = list(product(*(range(1 - size, size) for size in window)))
    row = {offset: number for number, offset in enumerate(offsets)}
    tokens = cells(clamped)
    index = torch.tensor([[row[tuple(a - b for a, b in zip(i, j, strict=True))] for j in tokens] for i in tokens])
    expected = attention.relative_position_bias_table.detach()[index].permute(2, 0, 1)
    assert torch.equal(attention.bias(clamped), expected)


@given(clamped_windows())
@settings(deadline=None)
def test_published_bias_is_right_only_where_the_clamped_window_holds_the_first_tokens(
    case: tuple[Extent, Extent],
) -> None:
    window, clamped = case
    attention = WindowAttention(2, window=window, num_heads=2)
    exact = attention.bias(clamped)
    attention.clamped_bias = ClampedBias.PUBLISHED
    published = attention.bias(clamped)
    assert published.shape == exact.shape
    corner = torch.arange(window.volume).reshape(window)[: clamped.time, : clamped.height, : clamped.width].flatten()
    right = torch.equal(corner, torch.arange(clamped.volume))
    assert torch.equal(published, exact) is right
    if clamped[1:] == window[1:]:
        assert right
    elif clamped.time > 1:
        assert not right
    n = clamped.volume
    assert torch.equal(
        published, attention.relative_position_bias_table[attention.relative_position_index[:n, :n]].permute(2, 0, 1)
    )


def test_the_published_slice_is_wrong_for_97_percent_of_an_8x4x4_window() -> None:
    """The number in section 4, item 5 of the collected facts."""
    window, clamped = Extent(8, 7, 7), Extent(8, 4, 4)
    index = relative_position_index(window)
    tokens = torch.arange(window.volume).reshape(window)[: clamped.time, : clamped.height, : clamped.width].flatten()
    wrong = (index[tokens][:, tokens] != index[: clamped.volume, : clamped.volume]).double().mean().item()
    assert round(wrong, 2) == 0.97


@given(extents, extents, extents)
def test_an_axis_no_longer_than_the_window_is_one_unshifted_window(grid: Extent, window: Extent, shift: Extent) -> None:
    fitted, moved = fit_window(grid, window=window, shift=shift)
    for size, wanted, by, got, got_by in zip(grid, window, shift, fitted, moved, strict=True):
        assert (got, got_by) == ((size, 0) if size <= wanted else (wanted, by))


def test_shifts_are_half_a_window_along_the_shifted_axes() -> None:
    window = Extent(8, 7, 7)
    assert [window_shift(window, shift) for shift in Shift] == [(4, 3, 3), (0, 3, 3), (0, 0, 0)]


def test_a_block_is_attention_among_the_tokens_of_displaced_windows() -> None:
    """The whole block against attention written out over all pairs of tokens, at a size that needs no padding."""
    torch.manual_seed(0)
    grid, window, shift = Extent(4, 4, 6), Extent(2, 2, 3), Extent(1, 1, 1)
    block = SwinBlock(8, num_heads=2, window=window, shifted=True, drop_path=0.0, options=BlockOptions())
    torch.nn.init.normal_(block.attn.relative_position_bias_table)
    x = torch.randn(2, *grid, 8)
    mask = shift_mask(grid, window=window, shift=shift, device=CPU, dtype=torch.float32)
    with torch.no_grad():
        output = block(x, window=window, shift=shift, mask=mask)

        tokens = cells(grid)
        offsets = list(product(*(range(1 - size, size) for size in window)))
        row = {offset: number for number, offset in enumerate(offsets)}
        query, key, value = block.attn.qkv(block.norm1(x)).reshape(2, grid.volume, 3, 2, 4).unbind(2)
        attended = torch.zeros(2, grid.volume, 2, 4)
        for i, at in enumerate(tokens):
            homes = [tuple((p - s) // w for p, s, w in zip(cell, shift, window, strict=True)) for cell in tokens]
            seen = [j for j in range(grid.volume) if homes[j] == homes[i]]
            rows = [row[tuple(a - b for a, b in zip(at, tokens[j], strict=True))] for j in seen]
            for head in range(2):
                scores = key[:, seen, head] @ query[:, i, head, :, None] / 4**0.5
                scores = scores[..., 0] + block.attn.relative_position_bias_table[rows, head]
                attended[:, i, head] = (scores.softmax(-1)[:, None] @ value[:, seen, head])[:, 0]
        expected = x + block.attn.proj(attended.reshape(2, *grid, 8))
        expected = expected + block.mlp(block.norm2(expected))
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
