"""Table 5: how many tokens in time, and how many of them a window spans.

The paper does not say how it made fewer tokens: of fewer frames, as here, or of larger patches, as in
``table5-patches``. Both give the printed Param and FLOPs. Nor does it say whether fewer frames lie further apart: here
they do not.
"""

from __future__ import annotations

from vswin.config import Extent

from ..recipe import changed
from ..recipes import SWIN_T_K400
from ..table import Block, Reported, Row, Table

GLOBAL_16 = changed(SWIN_T_K400, {"model.window": Extent(16, 7, 7)})
# What makes fewer tokens in time of it.
FEWER_FRAMES = {
    8: {"data.clip.length": 16, "model.window": Extent(8, 7, 7)},
    4: {"data.clip.length": 8, "model.window": Extent(4, 7, 7)},
}

# What the paper prints, by (temporal dimension, temporal window).
PRINTED = {
    (16, 16): Reported(top1=79.1, top5=93.8, gflops=106, params=28.5),
    (8, 8): Reported(top1=78.5, top5=93.2, gflops=44, params=28.2),
    (4, 4): Reported(top1=76.7, top5=92.5, gflops=20, params=28.0),
    (16, 8): Reported(top1=78.8, top5=93.6, gflops=88, params=28.2),
    (16, 4): Reported(top1=78.6, top5=93.4, gflops=79, params=28.0),
}

TABLE = Table(
    id="table5",
    caption="Ablation study on temporal dimension of 3D tokens and temporal window size with Swin-T on K400.",
    question="How many tokens in time does a video need, and how many of them should attend to each other?",
    source="Table 5 of arXiv 2106.13230v1",
    blocks=(
        Block(
            title="temporally global",
            baseline=GLOBAL_16,
            isolates=("data.clip.length", "model.window"),
            rows=(
                Row("global-16", label="dimension 16, window 16x7x7", paper=PRINTED[16, 16]),
                Row("global-8", FEWER_FRAMES[8], label="dimension 8, window 8x7x7", paper=PRINTED[8, 8]),
                Row("global-4", FEWER_FRAMES[4], label="dimension 4, window 4x7x7", paper=PRINTED[4, 4]),
            ),
        ),
        Block(
            title="window size",
            baseline=GLOBAL_16,
            isolates=("model.window",),
            rows=(
                Row("window-16", label="dimension 16, window 16x7x7", paper=PRINTED[16, 16]),
                Row(
                    "window-8",
                    {"model.window": Extent(8, 7, 7)},
                    label="dimension 16, window 8x7x7",
                    paper=PRINTED[16, 8],
                ),
                Row(
                    "window-4",
                    {"model.window": Extent(4, 7, 7)},
                    label="dimension 16, window 4x7x7",
                    paper=PRINTED[16, 4],
                ),
            ),
        ),
    ),
    notes=(
        "Dimensions 8 and 4 are read as fewer frames, equally far apart; table5-patches reads them as larger patches. "
        "The paper does not say which; its Param and FLOPs fit both.",
        "So dimensions 8 and 4 also see less of a video; in the miniature, half and a quarter of it. There, half a "
        "video need not have as many beats of one colour as of the other, and the pairs of frames in a quarter may lie "
        "across two beats, so such clips tell more without attention in time: each has a control in table baselines.",
    ),
)
