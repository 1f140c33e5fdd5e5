"""Table 6: shifting the windows."""

from __future__ import annotations

from vswin.config import Shift

from ..recipes import SWIN_T_K400
from ..table import Block, Reported, Row, Table

TABLE = Table(
    id="table6",
    caption="Ablation study on the 3D shifted window approach with Swin-T on K400.",
    question="Do windows have to be shifted, in space and in time, for information to cross their borders?",
    source="Table 6 of arXiv 2106.13230v1",
    blocks=(
        Block(
            baseline=SWIN_T_K400,
            isolates=("model.shift",),
            rows=(
                Row("full", label="w. 3D shifting", paper=Reported(top1=78.8, top5=93.6)),
                Row(
                    "spatial",
                    {"model.shift": Shift.SPATIAL},
                    label="w/o temporal shifting",
                    paper=Reported(top1=78.5, top5=93.5),
                ),
                Row(
                    "none",
                    {"model.shift": Shift.NONE},
                    label="w/o 3D shifting",
                    paper=Reported(top1=78.1, top5=93.3),
                ),
            ),
        ),
    ),
)
