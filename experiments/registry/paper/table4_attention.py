"""Table 4: designs of spatio-temporal attention."""

from __future__ import annotations

from vswin.config import Attention

from ..recipes import SWIN_T_K400
from ..table import Block, Reported, Row, Table

TABLE = Table(
    id="table4",
    caption="Ablation study on different designs for spatiotemporal attention with Swin-T on K400.",
    question="Should attention run over space and time jointly, in separate layers, or in separate blocks?",
    source="Table 4 of arXiv 2106.13230v1",
    blocks=(
        Block(
            baseline=SWIN_T_K400,
            isolates=("model.attention",),
            rows=(
                Row("joint", paper=Reported(top1=78.8, top5=93.6, gflops=88, params=28.2)),
                Row(
                    "split",
                    {"model.attention": Attention.SPLIT},
                    paper=Reported(top1=76.4, top5=92.1, gflops=83, params=42.0),
                ),
                Row(
                    "factorized",
                    {"model.attention": Attention.FACTORIZED},
                    paper=Reported(top1=78.5, top5=93.5, gflops=95, params=36.5),
                ),
            ),
        ),
    ),
)
