"""Table 9: initialising the 3D relative position bias from the 2D one."""

from __future__ import annotations

from vswin.config import BiasInit

from ..recipes import SWIN_T_K400
from ..table import Block, Reported, Row, Table

TABLE = Table(
    id="table9",
    caption=(
        "Ablation study on the two initialization methods of 3D relative position bias matrix with Swin-T on K400."
    ),
    question="Should attention begin alike for all frames of a window, or within the same frame?",
    source="Table 9 of arXiv 2106.13230v1",
    blocks=(
        Block(
            baseline=SWIN_T_K400,
            isolates=("init.bias",),
            rows=(
                Row("duplicate", paper=Reported(top1=78.8, top5=93.6)),
                Row("center", {"init.bias": BiasInit.CENTER}, paper=Reported(top1=78.8, top5=93.6)),
            ),
        ),
    ),
    notes=(
        "Center: -4.6 replaces the bias between different frames; the paper does not say whether it replaces it or is "
        "added.",
    ),
)
