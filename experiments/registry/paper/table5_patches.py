"""The other reading of table 5's block "temporally global": fewer tokens in time of larger patches."""

from __future__ import annotations

from vswin.config import Extent

from ..table import Block, Row, Table
from .table5_temporal import GLOBAL_16, PRINTED

# What makes fewer tokens in time of GLOBAL_16.
LARGER_PATCHES = {
    8: {"model.patch": Extent(4, 4, 4), "model.window": Extent(8, 7, 7)},
    4: {"model.patch": Extent(8, 4, 4), "model.window": Extent(4, 7, 7)},
}

TABLE = Table(
    id="table5-patches",
    caption="The first block of table 5, with larger patches instead of fewer frames.",
    question="Do larger patches in time explain table 5 better than fewer frames?",
    source="Table 5 of arXiv 2106.13230v1",
    blocks=(
        Block(
            baseline=GLOBAL_16,
            isolates=("model.patch", "model.window"),
            rows=(
                Row("global-16", label="dimension 16, patch 2x4x4", paper=PRINTED[16, 16]),
                Row("global-8", LARGER_PATCHES[8], label="dimension 8, patch 4x4x4", paper=PRINTED[8, 8]),
                Row("global-4", LARGER_PATCHES[4], label="dimension 4, patch 8x4x4", paper=PRINTED[4, 4]),
            ),
        ),
    ),
    notes=(
        "The defaults of the published class, patches of 4x4x4, hint at this reading.",
        "In the miniature a patch of 4 or 8 frames holds two or four beats, so a change of colour is seen within a "
        "single token, without attention in time: each has a control in table baselines.",
    ),
)
