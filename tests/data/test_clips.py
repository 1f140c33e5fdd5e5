"""Which frames and boxes a model sees, against the published pipeline."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.registry.recipe import Recipe
from experiments.registry.recipes import TIMESFORMER_HR_K400, TIMESFORMER_K400, TIMESFORMER_L_K400
from tests.support.places import GOLDEN
from vswin.config import ClipConfig, Sampling
from vswin.data import clips
from vswin.data.clips import Box

GOLDEN = json.loads((GOLDEN / "frame_sampling.json").read_text())
LENGTHS = st.integers(1, 400)
CLIPS = st.integers(1, 40)


def clip_of(case: dict[str, Any]) -> ClipConfig:
    if case.get("frame_uniform"):
        return ClipConfig(length=case["clip_len"], sampling=Sampling.UNIFORM)
    return ClipConfig(length=case["clip_len"], interval=case["frame_interval"])


def name_of(case: dict[str, Any]) -> str:
    clip = clip_of(case)
    return f"{case['num_frames']}-{clip.sampling}-{clip.length}x{clip.interval}-{case['num_clips']}"


@pytest.mark.parametrize("case", GOLDEN["test"], ids=name_of)
def test_test_frames_equal_the_published_ones(case: dict[str, Any]) -> None:
    got = clips.view_frames(case["num_frames"], clip=clip_of(case), num_clips=case["num_clips"])
    assert got.tolist() == case["frames"]


@pytest.mark.parametrize("case", GOLDEN["train_bounds"], ids=name_of)
def test_training_frames_have_the_published_ranges(case: dict[str, Any]) -> None:
    generator = np.random.default_rng(0)
    draws = [
        clips.training_frames(case["num_frames"], clip=clip_of(case), generator=generator)
        for _ in range(3000)  # as many as the golden ranges were seen over
    ]
    assert np.min(draws, axis=0).tolist() == case["frame_min"]
    assert np.max(draws, axis=0).tolist() == case["frame_max"]


@pytest.mark.parametrize("recipe", [TIMESFORMER_K400, TIMESFORMER_HR_K400], ids=["8x32", "16x16"])
def test_timesformers_clips_are_strided_and_centred(recipe: Recipe) -> None:
    """As Video Swin's are. TimeSformer's own reach from the first frame to frame 255."""
    clip = recipe.data.clip
    [frames] = clips.view_frames(300, clip=clip, num_clips=recipe.protocol.clips)
    assert frames.tolist() == [22 + clip.interval * number for number in range(clip.length)]


def test_timesformers_longest_clip_ends_on_the_beginning_of_its_video() -> None:
    """TimeSformer's own repeats the last frame instead."""
    clip = TIMESFORMER_L_K400.data.clip
    expected = [*range(0, 300, 4), *range(0, 81, 4)]
    [tested] = clips.view_frames(300, clip=clip, num_clips=TIMESFORMER_L_K400.protocol.clips)
    assert tested.tolist() == expected
    assert clips.training_frames(300, clip=clip, generator=np.random.default_rng(0)).tolist() == expected


@given(num_frames=LENGTHS, clip_len=CLIPS, interval=st.integers(1, 8), num_clips=st.integers(1, 10))
def test_dense_clips_stay_inside_and_in_order(num_frames: int, clip_len: int, interval: int, num_clips: int) -> None:
    got = clips.dense_test_indices(num_frames, clip_len=clip_len, interval=interval, num_clips=num_clips)
    assert got.shape == (num_clips, clip_len)
    assert got.min() >= 0
    assert got.max() < num_frames
    assert (np.diff(got[:, 0]) >= 0).all()
    assert (np.diff(got, axis=1) % num_frames == interval % num_frames).all()


@given(num_frames=LENGTHS, clip_len=CLIPS, seed=st.integers(0, 9))
def test_uniform_clips_span_the_video(num_frames: int, clip_len: int, seed: int) -> None:
    drawn = clips.uniform_train_indices(num_frames, clip_len=clip_len, generator=np.random.default_rng(seed))
    middle = clips.uniform_test_indices(num_frames, clip_len=clip_len)[0]
    for frames in (drawn, middle):
        assert frames.shape == (clip_len,)
        assert frames.min() >= 0
        assert frames.max() < num_frames
        assert (np.diff(frames) >= 0).all()
    assert (abs(drawn - middle) <= num_frames / clip_len + 1).all()


def test_uniform_sampling_has_one_view_in_time() -> None:
    with pytest.raises(ValueError, match=r"expected 1 test clip with uniform sampling.*got 4.*clips=1"):
        clips.view_frames(90, clip=ClipConfig(sampling=Sampling.UNIFORM), num_clips=4)


@pytest.mark.parametrize("wrong", ["num_frames", "clip_len", "interval", "num_clips"])
def test_sizes_below_one_are_refused(wrong: str) -> None:
    sizes = {"num_frames": 10, "clip_len": 4, "interval": 2, "num_clips": 1, wrong: 0}
    with pytest.raises(ValueError, match=f"expected {wrong} of at least 1, got 0"):
        clips.dense_test_indices(sizes.pop("num_frames"), **sizes)


def test_three_crops_are_left_right_middle_with_the_published_odd_pixel() -> None:
    assert clips.view_boxes(224, 299, crop=224, num_crops=3) == [
        Box(0, 0, 224, 224),
        Box(74, 0, 224, 224),  # 75 would end at the border
        Box(37, 0, 224, 224),
    ]
    assert clips.view_boxes(299, 224, crop=224, num_crops=3) == [
        Box(0, 0, 224, 224),
        Box(0, 74, 224, 224),
        Box(0, 37, 224, 224),
    ]


def test_five_crops_reach_from_border_to_border() -> None:
    assert [box.left for box in clips.view_boxes(224, 300, crop=224, num_crops=5)] == [0, 19, 38, 57, 76]


def test_short_side_is_resized_with_halves_rounded_up() -> None:
    assert clips.short_side_size(240, 320, short_side=256) == (256, 341)
    assert clips.short_side_size(321, 241, short_side=2) == (3, 2)
    assert clips.short_side_size(256, 340, short_side=256) == (256, 340)


SIDES = st.integers(1, 300)


@given(height=SIDES, width=SIDES, num_crops=st.integers(1, 6), data=st.data())
def test_view_boxes_lie_inside(height: int, width: int, num_crops: int, data: st.DataObject) -> None:
    crop = data.draw(st.integers(1, min(height, width)))
    boxes = clips.view_boxes(height, width, crop=crop, num_crops=num_crops)
    assert len(boxes) == num_crops
    for box in boxes:
        assert box[2:] == (crop, crop)
        assert 0 <= box.left <= width - crop
        assert 0 <= box.top <= height - crop


@given(crop=st.integers(1, 300), free=st.integers(0, 301), wide=st.booleans())
def test_three_crops_of_any_size_start_one_step_apart(crop: int, free: int, wide: bool) -> None:
    """ThreeCrop of the published pipeline: the step is half the free space, rounded down."""
    height, width = (crop, crop + free) if wide else (crop + free, crop)
    boxes = clips.view_boxes(height, width, crop=crop, num_crops=3)
    along, across = ("left", "top") if wide else ("top", "left")
    step = free // 2
    assert [getattr(box, along) for box in boxes] == [0, 2 * step, step]
    assert [getattr(box, across) for box in boxes] == [0, 0, 0]


@given(height=st.integers(1, 1200), width=st.integers(1, 1200), crop=st.integers(1, 256))
def test_every_crop_fits_once_the_short_side_is_resized_to_it(height: int, width: int, crop: int) -> None:
    resized = clips.short_side_size(height, width, short_side=crop)
    assert min(resized) == crop
    assert (resized[0] >= resized[1]) == (height >= width) or resized[0] == resized[1]
    for num_crops in (1, 3, 5):
        assert len(clips.view_boxes(*resized, crop=crop, num_crops=num_crops)) == num_crops


@given(height=SIDES, width=SIDES, data=st.data())
def test_random_crops_lie_inside(height: int, width: int, data: st.DataObject) -> None:
    crop = data.draw(st.integers(1, min(height, width)))
    box = clips.random_crop(height, width, crop=crop, generator=np.random.default_rng(crop))
    assert box[2:] == (crop, crop)
    assert 0 <= box.left <= width - crop
    assert 0 <= box.top <= height - crop


def test_random_crops_reach_every_place() -> None:
    generator = np.random.default_rng(0)
    places = {clips.random_crop(6, 7, crop=5, generator=generator)[:2] for _ in range(300)}
    assert places == {(left, top) for left in range(3) for top in range(2)}


def test_a_crop_larger_than_the_frame_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a crop of at most 200.*320x200.*got 224.*resize"):
        clips.view_boxes(200, 320, crop=224, num_crops=3)


@given(height=SIDES, width=SIDES, seed=st.integers(0, 9))
def test_random_boxes_lie_inside(height: int, width: int, seed: int) -> None:
    box = clips.random_resized_crop(
        height, width, area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), generator=np.random.default_rng(seed)
    )
    assert min(box.width, box.height) >= 1
    assert 0 <= box.left <= width - box.width
    assert 0 <= box.top <= height - box.height


def test_random_boxes_have_the_asked_area_and_aspect() -> None:
    generator = np.random.default_rng(0)
    boxes = [
        clips.random_resized_crop(256, 340, area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), generator=generator)
        for _ in range(2000)
    ]
    areas = np.array([box.width * box.height for box in boxes]) / (256 * 340)
    aspects = np.array([box.width / box.height for box in boxes])
    assert areas.min() == pytest.approx(0.08, abs=0.01)
    assert areas.max() > 0.95
    assert aspects.min() == pytest.approx(3 / 4, abs=0.02)
    assert aspects.max() == pytest.approx(4 / 3, abs=0.02)


def test_a_frame_no_random_box_fits_gives_its_centred_square() -> None:
    box = clips.random_resized_crop(
        10, 1000, area=(0.9, 1.0), aspect=(3 / 4, 4 / 3), generator=np.random.default_rng(0)
    )
    assert box == Box(495, 0, 10, 10)
