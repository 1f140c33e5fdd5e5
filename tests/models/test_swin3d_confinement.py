"""How far information travels inside a stage, by design and by shift (Tables 4 and 6)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vswin.config import Attention, Extent, Shift
from vswin.models.blocks import BlockOptions
from vswin.models.stages import Stage, build_stages

GRID = Extent(8, 8, 8)
WINDOW = Extent(4, 4, 4)
# In the second window along every axis, at its corner nearest to the first.
TOUCHED = Extent(4, 4, 4)


def stage(attention: Attention, shift: Shift) -> Stage:
    torch.manual_seed(0)
    stages = build_stages(
        8,
        depths=(4,),
        num_heads=(2,),
        window=WINDOW,
        shift=shift,
        attention=attention,
        drop_path_rates=(0.0,) * 4,
        options=BlockOptions(),
    )
    # Weights large enough, and arithmetic fine enough, that what travels through four blocks can be seen.
    for name, value in stages.named_parameters():
        if name.endswith("gate"):
            nn.init.ones_(value)
        elif value.ndim > 1:
            nn.init.normal_(value, std=value[0].numel() ** -0.5)
    (only,) = stages.double()
    assert isinstance(only, Stage)
    return only


def changed_cells(module: nn.Module) -> Tensor:
    """Which cells of the output change with one cell of the input: bool [T, H, W]."""
    x = torch.randn(1, *GRID, 8, dtype=torch.float64)
    touched = x.clone()
    touched[:, *TOUCHED] = torch.randn(8, dtype=torch.float64)
    with torch.no_grad():
        return (module(x) != module(touched))[0].any(-1)


def box(time: slice, space: slice) -> Tensor:
    expected = torch.zeros(GRID, dtype=torch.bool)
    expected[time, space, space] = True
    return expected


EVERYWHERE, OWN_WINDOW, OWN_FRAME = slice(None), slice(4, 8), slice(4, 5)


@pytest.mark.parametrize(
    ("shift", "time", "space"),
    [
        (Shift.FULL, EVERYWHERE, EVERYWHERE),
        (Shift.SPATIAL, OWN_WINDOW, EVERYWHERE),
        (Shift.NONE, OWN_WINDOW, OWN_WINDOW),
    ],
)
def test_joint_attention_reaches_as_far_as_its_windows_shift(shift: Shift, time: slice, space: slice) -> None:
    assert torch.equal(changed_cells(stage(Attention.JOINT, shift)), box(time, space))


@pytest.mark.parametrize(("shift", "space"), [(Shift.FULL, EVERYWHERE), (Shift.NONE, OWN_WINDOW)])
def test_split_stages_stay_within_a_frame(shift: Shift, space: slice) -> None:
    assert torch.equal(changed_cells(stage(Attention.SPLIT, shift)), box(OWN_FRAME, space))


@pytest.mark.parametrize(("shift", "space"), [(Shift.FULL, EVERYWHERE), (Shift.NONE, OWN_WINDOW)])
def test_factorized_stages_see_all_frames(shift: Shift, space: slice) -> None:
    assert torch.equal(changed_cells(stage(Attention.FACTORIZED, shift)), box(EVERYWHERE, space))
