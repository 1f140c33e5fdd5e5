"""The recipes that tables start from, at scale ``paper``.

Where the paper's text and the released configs disagree, these follow the released configs: they made the published
weights. Source: configs/recognition/swin/*.py of github.com/SwinTransformer/Video-Swin-Transformer @db018fb8.
"""

from __future__ import annotations

from vswin.config import SWIN_T, DataConfig, InitConfig, OptimConfig, Protocol

from .recipe import Recipe

# swin_tiny_patch244_window877_kinetics400_1k.py. One run: 8 V100 GPUs in the paper's setting.
SWIN_T_K400 = Recipe(
    model=SWIN_T,
    init=InitConfig(image="swin_tiny_patch4_window7_224"),
    data=DataConfig(dataset="kinetics400"),
    optim=OptimConfig(lr=1e-3, backbone_lr_ratio=0.1, weight_decay=0.02, batch_size=64, epochs=30),
    protocol=Protocol(clips=4, crops=3, short_side=224, crop=224),
)
