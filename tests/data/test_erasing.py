"""Random erasing has timm's shares and shapes, and reaches the model's input as zeros on every frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vswin.data.batch import TrainBatch
from vswin.data.erasing import NOTHING, random_erasing
from vswin.data.transforms import model_input, normalise

SIDE = 224


def test_boxes_have_timms_areas_and_aspects_and_lie_inside() -> None:
    generator = np.random.default_rng(0)
    boxes = [random_erasing(SIDE, SIDE, probability=1.0, generator=generator) for _ in range(4000)]
    areas = np.array([box.width * box.height for box in boxes]) / SIDE**2
    aspects = np.array([box.height / box.width for box in boxes])
    assert areas.min() == pytest.approx(0.02, abs=0.002)
    assert areas.max() == pytest.approx(1 / 3, abs=0.01)
    assert aspects.min() == pytest.approx(0.3, abs=0.02)
    assert aspects.max() == pytest.approx(1 / 0.3, abs=0.2)
    for box in boxes:
        assert 0 <= box.left <= SIDE - box.width
        assert 0 <= box.top <= SIDE - box.height
    assert min(box.left for box in boxes) == min(box.top for box in boxes) == 0


def test_as_many_clips_are_erased_as_asked() -> None:
    generator = np.random.default_rng(0)
    drawn = [random_erasing(SIDE, SIDE, probability=0.25, generator=generator) for _ in range(4000)]
    assert np.mean([box != NOTHING for box in drawn]) == pytest.approx(0.25, abs=0.02)
    assert random_erasing(SIDE, SIDE, probability=0.0, generator=generator) == NOTHING


def test_a_frame_that_no_box_fits_is_left_whole() -> None:
    assert random_erasing(1000, 1, probability=1.0, generator=np.random.default_rng(0)) == NOTHING


def test_model_input_is_normalised_then_zero_in_each_clips_box() -> None:
    clips = torch.randint(256, (3, 2, 3, 12, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    boxes = [(1, 2, 4, 3), (0, 0, 0, 0), (9, 0, 1, 12)]  # left, top, width, height
    numbers = torch.arange(3)
    expected = normalise(clips)
    for clip, (left, top, width, height) in zip(expected, boxes, strict=True):
        clip[..., top : top + height, left : left + width] = 0
    batch = TrainBatch(clips, numbers, torch.tensor(boxes), numbers, numbers)
    got = model_input(batch, device=torch.device("cpu"))
    assert got.dtype == torch.float32
    assert got.is_contiguous()
    assert torch.equal(got, expected)
    nothing = batch._replace(erased=torch.zeros(3, 4, dtype=torch.int64))
    assert torch.equal(model_input(nothing, device=torch.device("cpu")), normalise(clips))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_model_input_does_not_wait_for_the_device() -> None:
    clips = torch.randint(256, (3, 2, 3, 12, 10), dtype=torch.uint8)
    numbers = torch.arange(3)
    boxes = torch.tensor([(1, 2, 4, 3), (0, 0, 0, 0), (9, 0, 1, 12)])
    batch = TrainBatch(clips, numbers, boxes, numbers, numbers)
    expected = model_input(batch, device=torch.device("cpu"))
    pinned = TrainBatch(*(value.pin_memory() for value in batch))
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = model_input(pinned, device=torch.device("cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(got.cpu(), expected, rtol=0, atol=1e-6)
