"""RandAugment's operations, against Pillow and against what imgaug documents."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from vswin.config import RandAugmentConfig
from vswin.data.rand_augment import FILL, OPERATIONS, Operation, Setting, apply, rand_augment

HEIGHT, WIDTH = 60, 80
PUBLISHED = RandAugmentConfig()


def clip_of(frames: int = 3) -> Tensor:
    """Smooth colours with some grain: uint8 [T, 3, 60, 80]."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 200, (frames, 6, 8, 3), dtype=np.uint8)
    big = [np.asarray(Image.fromarray(frame).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)) for frame in coarse]
    pixels = np.stack(big) // 2 + 40 + rng.integers(0, 20, (frames, HEIGHT, WIDTH, 3), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def result_of(name: str, *, magnitude: int = 7, seed: int = 0) -> Tensor:
    setting = Setting(magnitude / 30, HEIGHT, WIDTH, np.random.default_rng(seed))
    return apply([OPERATIONS[name](setting)], clip_of())


def by_pillow(operation: Callable[[Image.Image], Image.Image]) -> Tensor:
    frames = [np.asarray(operation(Image.fromarray(frame.permute(1, 2, 0).numpy()))) for frame in clip_of()]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


EXACT: dict[str, Callable[[Image.Image], Image.Image]] = {
    "identity": lambda image: image,
    "auto-contrast": ImageOps.autocontrast,
    "equalise": ImageOps.equalize,
    "invert": ImageOps.invert,
    "posterise": lambda image: ImageOps.posterize(image, 7),
    "solarise": lambda image: ImageOps.solarize(image, 197),
    "blur": lambda image: image.filter(ImageFilter.BLUR),
    "smooth": lambda image: image.filter(ImageFilter.SMOOTH),
}

# The same with either sign.
SIGNED: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "rotate": lambda image, sign: image.rotate(7 * sign, fillcolor=FILL),
    "colour": lambda image, sign: ImageEnhance.Color(image).enhance(1 + sign * 0.21),
    "contrast": lambda image, sign: ImageEnhance.Contrast(image).enhance(1 + sign * 0.21),
    "brightness": lambda image, sign: ImageEnhance.Brightness(image).enhance(1 + sign * 0.21),
    "sharpness": lambda image, sign: ImageEnhance.Sharpness(image).enhance(1 + sign * 0.21),
    "translate x": lambda image, sign: image.rotate(0, translate=(sign * 6, 0), fillcolor=FILL),  # 7.7 % of 80
    "translate y": lambda image, sign: image.rotate(0, translate=(0, sign * 5), fillcolor=FILL),  # 7.7 % of 60
    "shear x": lambda image, sign: sheared(image, x=sign * math.tanh(math.radians(17.19 * 7 / 30)), y=0),
    "shear y": lambda image, sign: sheared(image, x=0, y=sign * math.tanh(math.radians(17.19 * 7 / 30))),
}


def sheared(image: Image.Image, *, x: float, y: float) -> Image.Image:
    """Row r moves by r x pixels, column c by c y: computed pixel by pixel."""
    pixels, out = np.asarray(image), np.full((HEIGHT, WIDTH, 3), FILL[0], dtype=np.uint8)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            from_column, from_row = column + 0.5 - x * (row + 0.5), row + 0.5 - y * (column + 0.5)
            if 0 <= from_column < WIDTH and 0 <= from_row < HEIGHT:
                out[row, column] = pixels[int(from_row), int(from_column)]
    return Image.fromarray(out)


def test_there_are_the_eighteen_published_operations() -> None:
    assert len(OPERATIONS) == 18
    assert {*EXACT, *SIGNED, "cut-out"} == set(OPERATIONS)


@pytest.mark.parametrize("name", EXACT)
def test_operations_without_a_draw_are_pillows(name: str) -> None:
    assert torch.equal(result_of(name), by_pillow(EXACT[name]))


@pytest.mark.parametrize("name", SIGNED)
def test_operations_with_a_sign_are_pillows_with_either(name: str) -> None:
    expected = {sign: by_pillow(lambda image, sign=sign: SIGNED[name](image, sign)) for sign in (-1, 1)}  # type: ignore[misc]
    signs = []
    for seed in range(20):
        got = result_of(name, seed=seed)
        matching = [sign for sign in (-1, 1) if torch.equal(got, expected[sign])]
        assert len(matching) == 1, f"seed {seed}"
        signs += matching
    assert 4 <= signs.count(1) <= 16


def test_cut_out_is_one_grey_square_anywhere_the_same_on_all_frames() -> None:
    side = round(20 / 32 * 7 / 30 * HEIGHT)
    sizes = []
    for seed in range(200):
        changed = (result_of("cut-out", seed=seed) != clip_of()).any(dim=1)
        covered = changed.any(dim=0)
        rows, columns = covered.any(dim=1).sum().item(), covered.any(dim=0).sum().item()
        grey = result_of("cut-out", seed=seed)[:, :, covered]
        assert (grey == 128).all()
        sizes.append((rows, columns))
    assert max(sizes) == (side, side)
    # Its centre may lie near a border, where part of it is lost.
    assert min(sizes) < (side, side)


@pytest.mark.parametrize("magnitude", [0, 30])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_takes_the_ends_of_the_scale(name: str, magnitude: int) -> None:
    got = result_of(name, magnitude=magnitude)
    assert got.shape == clip_of().shape
    assert got.dtype == torch.uint8


WITHOUT_STRENGTH = set(OPERATIONS) - {"auto-contrast", "equalise", "invert", "blur", "smooth"}


@pytest.mark.parametrize("name", sorted(WITHOUT_STRENGTH))
def test_magnitude_zero_changes_nothing(name: str) -> None:
    assert torch.equal(result_of(name, magnitude=0), clip_of())


def names_drawn(seed: int) -> list[str]:
    names: list[str] = []

    def spy(name: str) -> Callable[[Setting], Operation]:
        def draw(setting: Setting) -> Operation:
            names.append(name)
            return OPERATIONS[name](setting)

        return draw

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vswin.data.rand_augment.OPERATIONS", {name: spy(name) for name in OPERATIONS})
        _ = rand_augment(clip_of(1), config=PUBLISHED, generator=np.random.default_rng(seed))
    return names


def test_four_distinct_operations_in_every_order() -> None:
    seen: set[tuple[str, ...]] = set()
    counts = dict.fromkeys(OPERATIONS, 0)
    for seed in range(300):
        drawn = names_drawn(seed)
        assert len(set(drawn)) == len(drawn) == 4
        seen.add(tuple(drawn))
        for name in drawn:
            counts[name] += 1
    assert len(seen) > 290
    assert min(counts.values()) > 300 * 4 / 18 * 0.5
    assert any(tuple(sorted(order, reverse=True)) == order for order in seen)


def test_a_clip_gets_one_draw() -> None:
    still = clip_of(1).expand(4, 3, HEIGHT, WIDTH)
    for seed in range(30):
        got = rand_augment(still, config=PUBLISHED, generator=np.random.default_rng(seed))
        assert (got == got[:1]).all()


def test_the_hidden_flip_is_as_frequent_as_asked() -> None:
    ramp = torch.arange(WIDTH, dtype=torch.uint8).mul(2).expand(1, 3, HEIGHT, WIDTH)

    def share_flipped(flip: float) -> float:
        config = RandAugmentConfig(operations=0, flip=flip)
        clips = [rand_augment(ramp, config=config, generator=np.random.default_rng(seed)) for seed in range(400)]
        return float(np.mean([(clip[0, 0, 0, 0] > clip[0, 0, 0, -1]).item() for clip in clips]))

    assert share_flipped(0.5) == pytest.approx(0.5, abs=0.08)
    assert share_flipped(0.0) == 0
    assert share_flipped(1.0) == 1


def test_the_hidden_crop_takes_up_to_m_pixels_of_224_from_each_side() -> None:
    ramp = torch.arange(224, dtype=torch.uint8).expand(1, 3, 224, 224)
    config = RandAugmentConfig(operations=0, flip=0.0)
    ends = []
    for seed in range(300):
        row = rand_augment(ramp, config=config, generator=np.random.default_rng(seed))[0, 0, 0]
        assert row.shape == (224,)
        ends.append((row[0].item(), 223 - row[-1].item()))
    left, right = np.array(ends).T
    assert set(left) == set(right) == set(range(8))
    assert abs(np.corrcoef(left, right)[0, 1]) < 0.2


def test_identity_alone_keeps_every_pixel_and_the_input_is_left_alone() -> None:
    clip = clip_of()
    before = clip.clone()
    kept = rand_augment(
        clip, config=RandAugmentConfig(operations=0, magnitude=0, flip=0.0), generator=np.random.default_rng(0)
    )
    assert torch.equal(kept, before)
    for seed in range(10):
        _ = rand_augment(clip, config=PUBLISHED, generator=np.random.default_rng(seed))
    assert torch.equal(clip, before)
