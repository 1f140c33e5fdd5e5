"""Controls that are not in the paper: what a table on this data could not tell without them."""

from __future__ import annotations

from vswin.config import Extent

from ..baselines import SWIN_T_K400
from ..registry import Row, Table

TABLE = Table(
    id="baselines",
    caption="Controls, not in the paper.",
    question="Does the data need temporal attention at all?",
    source="",
    baseline=SWIN_T_K400,
    isolates=("model.window",),
    rows=(
        Row("joint"),
        Row("space-only", {"model.window": Extent(1, 7, 7)}, label="space-only (temporal window 1)"),
    ),
)
