"""Controls and other architectures, not in the paper: what its tables on this data could not tell without them."""

from __future__ import annotations

from vswin.config import Extent, SpaceTime

from ..recipe import Scale, changed
from ..recipes import (
    PERCEIVER_K400,
    SWIN_B_K400_22K,
    SWIN_B_SSV2,
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
from ..table import Block, Row, Table
from .table5_patches import LARGER_PATCHES
from .table5_temporal import FEWER_FRAMES, GLOBAL_16

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
        *(
            Block(
                title=title,
                baseline=changed(GLOBAL_16, fewer_tokens),
                isolates=("model.window",),
                scales=(Scale.PAPER, Scale.MINI),
                rows=(
                    Row(name, label="temporally global"),
                    Row(f"space-only-{name}", {"model.window": Extent(1, 7, 7)}, label="space-only"),
                ),
            )
            for title, name, fewer_tokens in (
                ("Video Swin-T, 16 frames", "frames-16", FEWER_FRAMES[8]),
                ("Video Swin-T, 8 frames", "frames-8", FEWER_FRAMES[4]),
                ("Video Swin-T, patch 4x4x4", "patch-4", LARGER_PATCHES[8]),
                ("Video Swin-T, patch 8x4x4", "patch-8", LARGER_PATCHES[4]),
            )
        ),
        Block(
            title="Video Swin-B, SSv2",
            baseline=SWIN_B_SSV2,
            isolates=("model.window", "init.video", "init.resize", "init.image", "init.embedding", "init.bias"),
            scales=(Scale.PAPER, Scale.MINI),
            rows=(
                Row("ssv2", label="joint, from Kinetics-400"),
                Row(
                    "space-only-ssv2",
                    {"model.window": Extent(1, 7, 7), "init": SWIN_B_K400_22K.init},
                    label="space-only, from ImageNet-21K",
                ),
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
        "Space-only: windows of one token in time. Rows of other tables are held against the one of the same data, "
        "clips and patches. On Something-Something v2 it starts from the image model, since its windows fit no other.",
        "TimeSformer's recipe fine-tunes an image model with SGD, and so does the miniature, at a rate whose factor "
        "was chosen for it; after a minute of training that says little about TimeSformer. Perceiver starts from "
        "nothing, at the factor that was chosen for Video Swin.",
        "TimeSformer's paper reports, top-1: on Kinetics-400 78.0 (divided), 77.4 (joint), 76.9 (space), 79.7 (HR) and "
        "80.7 (L); on Kinetics-600 79.1, 81.8 (HR) and 82.2 (L); on Something-Something v2 59.5, 62.2 (HR) and 62.4 "
        "(L). Perceiver's reports nothing on these.",
        "TimeSformer: a verdict is about our input, which is not exactly that of its released code: see 43 to 50 in "
        "experiments/registry/paper/README.md.",
    ),
)
