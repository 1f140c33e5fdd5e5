"""Table 8: initialising the embedding of video patches from that of image patches."""

from __future__ import annotations

from vswin.config import EmbeddingInit

from ..recipes import SWIN_T_K400
from ..table import Block, Reported, Row, Table

TABLE = Table(
    id="table8",
    caption="Ablation study on the two initialization methods of linear embedding layer with Swin-T on K400.",
    question="Should an image model's patch embedding be spread over all frames of a patch, or put in its center?",
    source="Table 8 of arXiv 2106.13230v1",
    blocks=(
        Block(
            baseline=SWIN_T_K400,
            isolates=("init.embedding",),
            rows=(
                Row("inflate", paper=Reported(top1=78.8, top5=93.6)),
                Row("center", {"init.embedding": EmbeddingInit.CENTER}, paper=Reported(top1=78.8, top5=93.7)),
            ),
        ),
    ),
    notes=(
        "Center: of a patch's two frames the second has the weights, ViViT's rule; the paper does not say which.",
        "That both do equally well contradicts ViViT's finding; the paper leaves this open in a footnote.",
    ),
)
