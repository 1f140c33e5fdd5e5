"""Controls and other architectures, not in the paper: what its tables on this data could not tell without them."""

from __future__ import annotations

from vswin.config import Extent, SpaceTime

from ..baselines import PERCEIVER_K400, SWIN_T_K400, TIMESFORMER_K400
from ..registry import Block, Row, Table

TABLE = Table(
    id="baselines",
    caption="Controls and other architectures, not in the paper.",
    question="Does the data need temporal attention at all, and what do other video transformers make of it?",
    source="",
    blocks=(
        Block(
            title="Video Swin-T",
            baseline=SWIN_T_K400,
            isolates=("model.window",),
            rows=(
                Row("joint"),
                Row("space-only", {"model.window": Extent(1, 7, 7)}, label="space-only (temporal window 1)"),
            ),
        ),
        Block(
            title="TimeSformer",
            baseline=TIMESFORMER_K400,
            isolates=("model.attention",),
            rows=(
                Row("timesformer", label="divided"),
                Row("timesformer-joint", {"model.attention": SpaceTime.JOINT}, label="joint"),
                Row("timesformer-space", {"model.attention": SpaceTime.SPACE}, label="space"),
            ),
        ),
        Block(title="Perceiver", baseline=PERCEIVER_K400, rows=(Row("perceiver"),)),
    ),
    notes=(
        "Within a block rows differ in one field; between blocks model, optimiser and augmentation all differ.",
        "On Kinetics-400 TimeSformer's paper reports 78.0 (divided), 77.4 (joint) and 76.9 (space) top-1; "
        "Perceiver's reports nothing.",
    ),
)
