"""What the notebooks draw of windows is what the models compute."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.figures.windows import attention_of, brightest_token, neighbourhoods, table_of_windows
from experiments.registry.catalogue import find_variant
from experiments.registry.recipe import Scale
from vswin.config import Extent, Shift
from vswin.models import Form, build, set_form
from vswin.models.windows import NO_SHIFT, window_shift

GRID, WINDOW = Extent(8, 8, 8), Extent(4, 4, 4)


def test_neighbourhoods_are_the_boxes_of_the_paper() -> None:
    """Section 3.2: 2x2x2 regular windows become 3x3x3 shifted ones."""
    regular = neighbourhoods(GRID, window=WINDOW, shift=NO_SHIFT)
    assert np.bincount(regular.flat).tolist() == [64] * 8
    shifted = neighbourhoods(GRID, window=WINDOW, shift=window_shift(WINDOW, Shift.FULL))
    sizes = np.bincount(shifted.flat)
    assert len(sizes) == 27
    # along an axis 2, 4 and 2 tokens
    assert sorted(sizes) == sorted(a * b * c for a in (2, 4, 2) for b in (2, 4, 2) for c in (2, 4, 2))
    assert len(set(shifted[2:6, 2:6, 2:6].flat)) == 1
    assert table_of_windows(GRID, window=WINDOW)["neighbourhoods"].tolist() == [27, 18, 8]


def test_attention_that_is_drawn_is_attention_that_is_paid() -> None:
    """Every query's weights add up to one, lie inside its neighbourhood, and reading them changes no score."""
    torch.manual_seed(0)
    recipe = find_variant("table4/joint").at(Scale.TINY)
    model = build(recipe.model).eval()
    set_form(model, Form.REFERENCE)
    crop = recipe.protocol.crop
    clip = torch.randint(0, 256, (3, recipe.data.clip.length, crop, crop), dtype=torch.uint8)
    blocks, scores = attention_of(model, clip)
    assert len(blocks) == sum(recipe.model.depths)  # type: ignore[union-attr]
    for block in blocks:
        np.testing.assert_allclose(block.weights.sum(axis=(3, 4, 5)), 1, rtol=1e-5)
    first, second, *_ = blocks
    grid = Extent(*first.weights.shape[:3])
    window = recipe.model.window  # type: ignore[union-attr]
    for block, shift in ((first, NO_SHIFT), (second, window_shift(window, Shift.FULL))):
        numbers = neighbourhoods(grid, window=window, shift=shift).flatten()
        together = numbers[:, None] == numbers[None, :]
        weights = block.weights.reshape(grid.volume, grid.volume)
        assert (weights[together] > 0).all()
        assert weights[~together].max() < 1e-30
    again = attention_of(model, clip)[1]
    np.testing.assert_array_equal(scores, again)
    assert scores.sum() == pytest.approx(1)


def test_the_brightest_token_is_where_colour_changes() -> None:
    clip = torch.full((3, 8, 16, 16), 100, dtype=torch.uint8)
    clip[0, 5, 9, 2] = 255
    assert brightest_token(clip, Extent(4, 4, 4)) == Extent(2, 2, 0)
