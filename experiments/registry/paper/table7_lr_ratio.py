"""Table 7: the backbone's learning rate, by what the backbone was trained on before."""

from __future__ import annotations

from ..recipes import SWIN_B_K400_1K, SWIN_B_K400_22K
from ..table import Block, Reported, Row, Table

TABLE = Table(
    id="table7",
    caption="Ablation study on the ratio of backbone lr and head lr with Swin-B on K400.",
    question="Should a pre-trained backbone learn more slowly than the new head?",
    source="Table 7 of arXiv 2106.13230v1",
    blocks=(
        Block(
            title="ImageNet-1K",
            baseline=SWIN_B_K400_1K,
            isolates=("optim.backbone_lr_ratio",),
            rows=(
                Row("ratio-0.1-1k", label="0.1x", paper=Reported(top1=80.6, top5=94.6, pretrain="ImageNet-1K")),
                Row(
                    "ratio-1-1k",
                    {"optim.backbone_lr_ratio": 1.0},
                    label="1.0x",
                    paper=Reported(top1=80.2, top5=94.2, pretrain="ImageNet-1K"),
                ),
            ),
        ),
        Block(
            title="ImageNet-21K",
            baseline=SWIN_B_K400_22K,
            isolates=("optim.backbone_lr_ratio",),
            rows=(
                Row("ratio-0.1-21k", label="0.1x", paper=Reported(top1=82.6, top5=95.7, pretrain="ImageNet-21K")),
                Row(
                    "ratio-1-21k",
                    {"optim.backbone_lr_ratio": 1.0},
                    label="1.0x",
                    paper=Reported(top1=82.0, top5=95.3, pretrain="ImageNet-21K"),
                ),
            ),
        ),
    ),
    notes=(
        "In the miniature a small set of still digits stands for ImageNet-1K, a larger one with finer classes for "
        "ImageNet-21K.",
        "0.1x from ImageNet-21K: 82.6 / 95.7 here, 82.7 / 95.5 in table 1, for the same model.",
        "Each block follows its released config, and those differ in more than pre-training: head rate 1e-3 and drop "
        "path 0.3 from ImageNet-1K, 3e-4 and 0.2 from ImageNet-21K. So pre-training is not isolated.",
        "At 1.0x the backbone takes the head's rate; the paper does not say which of the two was changed.",
    ),
)
