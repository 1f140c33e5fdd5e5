"""The models that the miniature starts from: image models of still digits, and a video model made of one of them."""

from __future__ import annotations

from ..recipe import Scale
from ..stand_ins import SOURCES, TABLE_ID
from ..table import Block, Row, Table

TABLE = Table(
    id=TABLE_ID,
    caption="Models that the miniature starts from, trained here; at scale paper these are published files.",
    question="How good are the models that training starts from?",
    source="",
    blocks=(
        Block(
            scales=(Scale.MINI, Scale.TINY),
            rows=tuple(Row(source.name, label=source.label, recipe=source.recipe) for source in SOURCES.values()),
        ),
    ),
    notes=(
        "Still digits: ten classes stand for ImageNet-1K, forty finer ones and twice the images for ImageNet-21K. "
        "Accuracies on the two do not compare.",
        "Every run is one, of seed 0, shared by all seeds of what starts from it: intervals of other tables say "
        "nothing of other image models.",
    ),
)
