"""Random erasing of the published Something-Something recipe, which is timm's: one box per clip, set to zero.

Source: RandomErasing of timm 0.3.2 (timm/data/random_erasing.py), its default ranges, one box.
"""

from __future__ import annotations

import math

import numpy as np

from .clips import Box

NOTHING = Box(0, 0, 0, 0)

# Shares of the frame's area; height / width.
_AREA = (0.02, 1 / 3)
_ASPECT = (0.3, 1 / 0.3)

# Boxes tried before nothing is erased.
_ATTEMPTS = 10


def random_erasing(height: int, width: int, *, probability: float, generator: np.random.Generator) -> Box:
    """The box to erase of frames of ``height`` x ``width`` pixels, or ``NOTHING``."""
    if generator.random() >= probability:
        return NOTHING
    log_aspect = (math.log(_ASPECT[0]), math.log(_ASPECT[1]))
    for _ in range(_ATTEMPTS):
        pixels = generator.uniform(*_AREA) * height * width
        aspect = math.exp(generator.uniform(*log_aspect))
        box_height, box_width = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if box_width < width and box_height < height:
            top = int(generator.integers(height - box_height, endpoint=True))
            left = int(generator.integers(width - box_width, endpoint=True))
            return Box(left, top, box_width, box_height)
    return NOTHING
