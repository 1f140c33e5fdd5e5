"""One module per table, listed here: the paper's in its order, then what it lacks."""

from __future__ import annotations

from . import (
    baselines,
    deviations,
    table1_kinetics400,
    table2_kinetics600,
    table3_something,
    table4_attention,
    table5_patches,
    table5_temporal,
    table6_shift,
    table7_lr_ratio,
    table8_embedding,
    table9_bias,
    upstream,
)

TABLES = (
    table1_kinetics400.TABLE,
    table2_kinetics600.TABLE,
    table3_something.TABLE,
    table4_attention.TABLE,
    table5_temporal.TABLE,
    table6_shift.TABLE,
    table7_lr_ratio.TABLE,
    table8_embedding.TABLE,
    table9_bias.TABLE,
    table5_patches.TABLE,
    deviations.TABLE,
    baselines.TABLE,
    upstream.TABLE,
)
