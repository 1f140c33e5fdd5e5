"""Controls and other architectures, not in the paper: what its tables on this data could not tell without them."""

from __future__ import annotations

from vswin.config import Extent, SpaceTime

from ..baselines import (
    PERCEIVER_K400,
    SWIN_T_K400,
    TIMESFORMER_HR_K400,
    TIMESFORMER_HR_K600,
    TIMESFORMER_HR_SSV2,
    TIMESFORMER_K400,
    TIMESFORMER_K600,
    TIMESFORMER_L_K400,
    TIMESFORMER_L_K600,
    TIMESFORMER_L_SSV2,
    TIMESFORMER_SSV2,
)
from ..recipe import Scale
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
        Block(
            title="TimeSformer, other sizes and data",
            scales=(Scale.PAPER,),
            rows=(
                Row("timesformer-hr-k400", label="HR, K400", recipe=TIMESFORMER_HR_K400),
                Row("timesformer-l-k400", label="L, K400", recipe=TIMESFORMER_L_K400),
                Row("timesformer-k600", label="K600", recipe=TIMESFORMER_K600),
                Row("timesformer-hr-k600", label="HR, K600", recipe=TIMESFORMER_HR_K600),
                Row("timesformer-l-k600", label="L, K600", recipe=TIMESFORMER_L_K600),
                Row("timesformer-ssv2", label="SSv2", recipe=TIMESFORMER_SSV2),
                Row("timesformer-hr-ssv2", label="HR, SSv2", recipe=TIMESFORMER_HR_SSV2),
                Row("timesformer-l-ssv2", label="L, SSv2", recipe=TIMESFORMER_L_SSV2),
            ),
        ),
        Block(title="Perceiver", baseline=PERCEIVER_K400, rows=(Row("perceiver"),)),
    ),
    notes=(
        "Within a block rows differ in one field; between blocks model, optimiser and augmentation all differ.",
        "TimeSformer's recipe fine-tunes an image model with SGD, and so does the miniature, at a rate whose factor "
        "was chosen for it; after a minute of training that says little about TimeSformer. Perceiver starts from "
        "nothing, at the factor that was chosen for Video Swin.",
        "TimeSformer's paper reports, top-1: on Kinetics-400 78.0 (divided), 77.4 (joint), 76.9 (space), 79.7 (HR) and "
        "80.7 (L); on Kinetics-600 79.1, 81.8 (HR) and 82.2 (L); on Something-Something v2 59.5, 62.2 (HR) and 62.4 "
        "(L). Perceiver's reports nothing on these.",
        "TimeSformer: a verdict is about our input, which is not exactly that of its released code: see 43 to 50 in "
        "experiments/paper/README.md.",
    ),
)
