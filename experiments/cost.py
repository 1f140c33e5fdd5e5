"""What testing one view of a recipe costs, without training anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .recipe import Recipe

if TYPE_CHECKING:
    from vswin.models import Cost


def view_cost(recipe: Recipe) -> Cost:
    """Parameters, FLOPs in the paper's convention and multiply-accumulates of one test view."""
    import torch

    from vswin.models import build, count_cost

    side = recipe.protocol.crop
    with torch.device("meta"):
        model = build(recipe.model)
    return count_cost(model, (1, 3, recipe.data.clip.length, side, side))
