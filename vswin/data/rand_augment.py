"""RandAugment of the published Something-Something recipe: imgaug's, whose operations are Pillow's.

imgaug is not maintained and needs an old numpy; what it does to pixels it asks Pillow for, and so does this. One draw
per clip: every frame gets the same operations with the same signs. What an operation measures (histogram, mean grey)
it measures on each frame, as published.
Source: imgaug/augmenters/collections.py and pillike.py of github.com/aleju/imgaug @c8c8540a and @049ab037.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from vswin.config import RandAugmentConfig

from .clips import Box
from .transforms import cut, flip_randomly, resize

Operation = Callable[[Image.Image], Image.Image]

# Where an operation leaves a pixel empty.
FILL = (128, 128, 128)

# The scale of magnitudes, and the side in pixels that the hidden crop is measured on.
_STRONGEST = 30
_CROP_SIDE = 224


class Setting(NamedTuple):
    """The settings of one operation. ``strength`` is the magnitude as a share of the strongest."""

    strength: float
    height: int
    width: int
    generator: np.random.Generator

    def sign(self) -> int:
        """-1 or 1, as often."""
        return 1 - 2 * int(self.generator.integers(2))


def rand_augment(clip: Tensor, *, config: RandAugmentConfig, generator: np.random.Generator) -> Tensor:
    """uint8 [T, 3, H, W] flipped, cropped a little and resized back, then changed by ``config.operations`` operations.

    The operations are distinct and in random order. ``config.flip`` 0 flips never.
    """
    height, width = clip.shape[-2:]
    clip = flip_randomly(clip, probability=config.flip, generator=generator)
    box = _hidden_crop(height, width, magnitude=config.magnitude, generator=generator)
    clip = resize(cut(clip, box=box), height=height, width=width)
    setting = Setting(config.magnitude / _STRONGEST, height, width, generator)
    drawn = generator.choice(list(OPERATIONS), size=config.operations, replace=False)
    operations = [OPERATIONS[name](setting) for name in drawn.tolist()]
    return apply(operations, clip)


def apply(operations: list[Operation], clip: Tensor) -> Tensor:
    """``operations``, one after another, on every frame of uint8 [T, 3, H, W]."""
    frames = np.ascontiguousarray(clip.permute(0, 2, 3, 1).numpy())
    out = np.empty_like(frames)
    for pixels, target in zip(frames, out, strict=True):
        image = Image.fromarray(pixels)
        for operation in operations:
            image = operation(image)
        target[...] = np.asarray(image)
    return torch.from_numpy(out).permute(0, 3, 1, 2)


def _hidden_crop(height: int, width: int, *, magnitude: int, generator: np.random.Generator) -> Box:
    """A frame without up to ``magnitude / 224`` of it at each side."""
    shares = generator.uniform(0, magnitude / _CROP_SIDE, size=4)
    left, right = (round(share * width) for share in shares[:2])
    top, bottom = (round(share * height) for share in shares[2:])
    return Box(left, top, width - left - right, height - top - bottom)


# --------------------------------------------------------------- operations


def _identity(setting: Setting) -> Operation:
    return lambda image: image


def _auto_contrast(setting: Setting) -> Operation:
    return ImageOps.autocontrast


def _equalise(setting: Setting) -> Operation:
    return ImageOps.equalize


def _invert(setting: Setting) -> Operation:
    return ImageOps.invert


def _rotate(setting: Setting) -> Operation:
    angle = setting.sign() * math.radians(30 * setting.strength)
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = setting.width / 2, setting.height / 2
    return _warp((cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y))


def _posterise(setting: Setting) -> Operation:
    bits = 8 - min(int(6 * setting.strength), 6)
    return lambda image: ImageOps.posterize(image, bits)


def _solarise(setting: Setting) -> Operation:
    threshold = max(256 - int(256 * setting.strength), 0)
    return lambda image: ImageOps.solarize(image, threshold)


def _colour(setting: Setting) -> Operation:
    factor = _enhancement(setting)
    return lambda image: ImageEnhance.Color(image).enhance(factor)


def _contrast(setting: Setting) -> Operation:
    factor = _enhancement(setting)
    return lambda image: ImageEnhance.Contrast(image).enhance(factor)


def _brightness(setting: Setting) -> Operation:
    factor = _enhancement(setting)
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


def _sharpness(setting: Setting) -> Operation:
    factor = _enhancement(setting)
    return lambda image: ImageEnhance.Sharpness(image).enhance(factor)


def _shear_x(setting: Setting) -> Operation:
    return _warp((1, -_shear(setting), 0, 0, 1, 0))


def _shear_y(setting: Setting) -> Operation:
    return _warp((1, 0, 0, -_shear(setting), 1, 0))


def _translate_x(setting: Setting) -> Operation:
    return _warp((1, 0, -setting.sign() * round(0.33 * setting.strength * setting.width), 0, 1, 0))


def _translate_y(setting: Setting) -> Operation:
    return _warp((1, 0, 0, 0, 1, -setting.sign() * round(0.33 * setting.strength * setting.height)))


def _cut_out(setting: Setting) -> Operation:
    """A square around a random point; what lies outside the frame is lost."""
    side = round(20 / 32 * min(setting.strength, 1) * setting.height)
    left = round(setting.generator.uniform(0, setting.width) - side / 2)
    top = round(setting.generator.uniform(0, setting.height) - side / 2)

    def paint(image: Image.Image) -> Image.Image:
        image = image.copy()
        image.paste(FILL, (left, top, left + side, top + side))
        return image

    return paint


def _blur(setting: Setting) -> Operation:
    return lambda image: image.filter(ImageFilter.BLUR)


def _smooth(setting: Setting) -> Operation:
    return lambda image: image.filter(ImageFilter.SMOOTH)


OPERATIONS: Mapping[str, Callable[[Setting], Operation]] = {
    "identity": _identity,
    "auto-contrast": _auto_contrast,
    "equalise": _equalise,
    "invert": _invert,
    "rotate": _rotate,
    "posterise": _posterise,
    "solarise": _solarise,
    "colour": _colour,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear x": _shear_x,
    "shear y": _shear_y,
    "translate x": _translate_x,
    "translate y": _translate_y,
    "cut-out": _cut_out,
    "blur": _blur,
    "smooth": _smooth,
}


def _enhancement(setting: Setting) -> float:
    """A factor below or above 1, which changes nothing."""
    return min(max(1 + setting.sign() * 0.9 * setting.strength, 0.1), 1.9)


def _shear(setting: Setting) -> float:
    # Of an angle of up to 0.3 rad its hyperbolic tangent, as published; the tangent differs in the fourth digit.
    return setting.sign() * math.tanh(0.3 * setting.strength)


def _warp(matrix: tuple[float, float, float, float, float, float]) -> Operation:
    """Pixel (x, y) of the result is the nearest one to (a x + b y + c, d x + e y + f) of the image."""
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=FILL)
