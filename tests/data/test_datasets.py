"""Clips are a function of (seed, epoch, video); views are placed as the protocol says."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.places import GOLDEN
from vswin.config import Antialias, ClipConfig, Cropping, DataConfig, Protocol, RandAugmentConfig, Sampling
from vswin.data import clips, transforms
from vswin.data.annotations import VideoList
from vswin.data.datasets import TestViews, TrainClips
from vswin.data.encoding import write_video
from vswin.data.loaders import train_loader, view_loader
from vswin.data.sampler import Draw, TrainBatches
from vswin.data.transforms import normalise
from vswin.data.video import read_frames

CONFIG = DataConfig(dataset="test", clip=ClipConfig(length=4, interval=2), short_side=(24, 24), crop=16)

# Everything that is drawn, at once.
AUGMENTED = DataConfig(
    dataset="test",
    clip=ClipConfig(length=4, sampling=Sampling.UNIFORM),
    short_side=(20, 30),
    crop=16,
    rand_augment=RandAugmentConfig(),
    erasing=0.5,
)

GOLDEN_VIDEO = GOLDEN / "training_clips.mp4"
GOLDEN = json.loads(GOLDEN_VIDEO.with_suffix(".json").read_text())
GOLDEN_CONFIGS = {
    "dense": DataConfig(dataset="test", clip=ClipConfig(length=8, interval=2), short_side=(64, 64), crop=48),
    "uniform": DataConfig(
        dataset="test",
        clip=ClipConfig(length=6, sampling=Sampling.UNIFORM),
        short_side=(72, 72),
        crop=56,
        flip=0.0,
    ),
    "looped": DataConfig(
        dataset="test", clip=ClipConfig(length=8, interval=4), short_side=(80, 80), crop=56, area=(0.5, 1.0)
    ),
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> VideoList:
    """Six noisy videos of 20 frames, 40 wide and 32 high."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for number in range(6):
        coarse = rng.integers(0, 256, size=(20, 8, 10, 3), dtype=np.uint8)
        write_video(folder / f"{number}.mp4", coarse.repeat(4, axis=1).repeat(4, axis=2), frame_rate=8)
    (folder / "train.txt").write_text("".join(f"{number}.mp4 {number % 3}\n" for number in range(6)))
    return VideoList.read(folder / "train.txt")


def test_a_sample_depends_on_seed_epoch_and_video_only(videos: VideoList) -> None:
    clips = TrainClips(videos, config=CONFIG, seed=0)
    clip, label, erased, video, replaced = clips[Draw(epoch=1, video=4)]
    assert clip.shape == (4, 3, 16, 16)
    assert clip.dtype == torch.uint8
    assert (label, erased.tolist(), video, replaced) == (1, [0, 0, 0, 0], 4, 0)
    np.random.seed(1)
    torch.manual_seed(1)
    again = TrainClips(videos, config=CONFIG, seed=0, keep_decoded=True)
    _ = again[Draw(epoch=0, video=4)]
    assert torch.equal(again[Draw(epoch=1, video=4)][0], clip)
    assert not torch.equal(clips[Draw(epoch=2, video=4)][0], clip)
    assert not torch.equal(TrainClips(videos, config=CONFIG, seed=1)[Draw(epoch=1, video=4)][0], clip)


@pytest.mark.parametrize("case", GOLDEN)
def test_the_default_pipeline_gives_the_pixels_it_always_gave(case: str, tmp_path: Path) -> None:
    """Records under results/ were trained on them. The hashes are those of commit db227c5."""
    (tmp_path / "train.txt").write_text(f"{GOLDEN_VIDEO} 0\n{GOLDEN_VIDEO.parent}/./{GOLDEN_VIDEO.name} 1\n")
    clips = TrainClips(VideoList.read(tmp_path / "train.txt"), config=GOLDEN_CONFIGS[case], seed=3)
    for name, digest in GOLDEN[case].items():
        epoch, video = map(int, name.split("/"))
        pixels = clips[Draw(epoch, video)].clips.contiguous().numpy().tobytes()
        assert hashlib.sha256(pixels).hexdigest() == digest, name


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")  # on two cores
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_batches_do_not_depend_on_workers(videos: VideoList, workers: int) -> None:
    clips = TrainClips(videos, config=AUGMENTED, seed=0)
    batches = TrainBatches(num_videos=6, batch_size=2, epochs=2, seed=0)
    torch.manual_seed(0)
    expected = list(train_loader(clips, batches=batches))
    state = torch.get_rng_state()
    got = list(train_loader(clips, batches=batches, workers=workers))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(got) == len(expected) == 6
    for batch, expected_batch in zip(got, expected, strict=True):
        for value, expected_value in zip(batch, expected_batch, strict=True):
            assert torch.equal(value, expected_value)
    assert any(batch.erased.any() for batch in expected)


def test_a_sample_is_the_same_in_any_world_and_after_any_restart(videos: VideoList) -> None:
    clips = TrainClips(videos, config=AUGMENTED, seed=0)
    batches = TrainBatches(num_videos=6, batch_size=6, epochs=2, seed=0)
    expected = list(train_loader(clips, batches=batches))
    for world_size in (2, 3):
        shares = [
            next(iter(train_loader(clips, batches=replace(batches, step=1, rank=rank, world_size=world_size))))
            for rank in range(world_size)
        ]
        for rank, share in enumerate(shares):
            for value, expected_value in zip(share, expected[1], strict=True):
                assert torch.equal(value, expected_value[rank::world_size])


def switched_on(**changes: Any) -> DataConfig:
    return replace(CONFIG, flip=0.0, **changes)


def test_switching_an_augmentation_on_moves_no_other(videos: VideoList) -> None:
    def erased(config: DataConfig) -> list[list[int]]:
        clips = TrainClips(videos, config=config, seed=0)
        return [clips[Draw(epoch, 0)].erased.tolist() for epoch in range(5)]

    def pixels(config: DataConfig) -> list[Tensor]:
        clips = TrainClips(videos, config=config, seed=0)
        return [clips[Draw(epoch, 0)].clips for epoch in range(5)]

    both = switched_on(erasing=1.0, rand_augment=RandAugmentConfig())
    assert erased(switched_on(erasing=1.0)) == erased(both)
    for one, two in zip(pixels(switched_on(rand_augment=RandAugmentConfig())), pixels(both), strict=True):
        assert torch.equal(one, two)
    assert not all(torch.equal(a, b) for a, b in zip(pixels(switched_on()), pixels(both), strict=True))
    for one, two in zip(pixels(CONFIG), pixels(replace(CONFIG, erasing=1.0)), strict=True):
        assert torch.equal(one, two)


def test_the_short_side_is_drawn_once_per_clip_from_the_whole_range() -> None:
    generator = np.random.default_rng(0)
    drawn = [clips.random_short_side((256, 320), generator=generator) for _ in range(4000)]
    assert (min(drawn), max(drawn)) == (256, 320)
    assert np.mean(drawn) == pytest.approx(288, abs=1)


def test_plain_crops_keep_the_pixels_of_the_resized_frame(videos: VideoList) -> None:
    config = switched_on(cropping=Cropping.PLAIN)
    samples = TrainClips(videos, config=replace(config, short_side=(32, 32)), seed=0)
    whole = torch.from_numpy(read_frames(videos.path(0), np.arange(20))).permute(0, 3, 1, 2)
    places = whole.unfold(2, 16, 1).unfold(3, 16, 1)[:, 0]  # 32 high already: [20, 17, 25, 16, 16]
    found = set()
    for epoch in range(20):
        first = samples[Draw(epoch, 0)].clips[0, 0]
        matches = (places == first).all(dim=-1).all(dim=-1).nonzero().tolist()
        assert matches
        found.add(tuple(matches[0][1:]))
    assert len(found) > 10


def test_jitter_and_antialiasing_reach_the_pixels(videos: VideoList) -> None:
    def clip(**changes: Any) -> Tensor:
        return TrainClips(videos, config=switched_on(**changes), seed=0)[Draw(0, 1)].clips

    assert clip(short_side=(20, 30)).shape == clip().shape
    assert not torch.equal(clip(short_side=(20, 30)), clip())
    assert not torch.equal(clip(antialias=Antialias.ON), clip())


def test_ten_clips_and_five_crops_are_fifty_views_in_order(videos: VideoList) -> None:
    protocol = Protocol(clips=10, crops=5, short_side=32, crop=32)
    views = TestViews(videos, config=CONFIG, protocol=protocol)[2].views
    assert views.shape == (50, 4, 3, 32, 32)
    starts = clips.dense_test_indices(20, clip_len=4, interval=2, num_clips=10)
    video = torch.from_numpy(read_frames(videos.path(2), np.arange(20))).permute(0, 3, 1, 2)
    expected = [video[torch.from_numpy(rows)][..., left : left + 32] for rows in starts for left in (0, 2, 4, 6, 8)]
    assert torch.equal(views, torch.stack(expected))


def test_long_lists_reach_workers_as_shared_memory(tmp_path: Path) -> None:
    names = [f"class {number % 400}/übung_{number:06d}.mp4" for number in range(20_000)]
    (tmp_path / "train.txt").write_text("".join(f"{name} {number % 400}\n" for number, name in enumerate(names)))
    videos = VideoList.read(tmp_path / "train.txt")
    samples = TrainClips(videos, config=CONFIG, seed=0)
    assert len(ForkingPickler.dumps(samples)) < 10_000
    for number in (0, 1, 777, 19_999):
        assert samples.path(Draw(0, number)) == videos.path(number)


def test_what_is_kept_decoded_stays_in_its_process(videos: VideoList) -> None:
    samples = TrainClips(videos, config=CONFIG, seed=0, keep_decoded=True)
    before = len(ForkingPickler.dumps(samples))
    _ = samples[Draw(0, 0)]
    assert len(ForkingPickler.dumps(samples)) == before
    batches = TrainBatches(num_videos=6, batch_size=3, epochs=2, seed=0)
    expected = [batch.clips for batch in train_loader(samples, batches=batches)]
    got = [batch.clips for batch in train_loader(samples, batches=batches, workers=2)]
    assert all(torch.equal(one, two) for one, two in zip(got, expected, strict=True))


def test_views_are_clips_times_crops_in_the_published_order(videos: VideoList) -> None:
    protocol = Protocol(clips=2, crops=3, short_side=32, crop=32)
    views, label, video, broken = TestViews(videos, config=CONFIG, protocol=protocol)[3]
    assert views.shape == (6, 4, 3, 32, 32)
    assert (label, video, broken) == (0, 3, False)
    # 20 frames leave 13 places for a clip, 6.5 for each half.
    starts = [3, 9]
    expected = []
    for start in starts:
        pixels = torch.from_numpy(read_frames(videos.path(3), start + 2 * np.arange(4))).permute(0, 3, 1, 2)
        expected += [pixels[..., left : left + 32] for left in (0, 8, 4)]
    assert torch.equal(views, torch.stack(expected))


def test_uniform_sampling_reaches_the_data_sets(videos: VideoList) -> None:
    config = DataConfig(
        dataset="test", clip=ClipConfig(length=5, sampling=Sampling.UNIFORM), short_side=(32, 32), crop=32, flip=0.0
    )
    views, *_ = TestViews(videos, config=config, protocol=Protocol(clips=1, crops=1, short_side=32, crop=32))[0]
    pixels = torch.from_numpy(read_frames(videos.path(0), [2, 6, 9, 13, 17])).permute(0, 3, 1, 2)
    assert torch.equal(views[0], pixels[..., 4:36])


def test_frames_are_counted_whatever_the_frame_rate(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(20, 8, 8, 3), dtype=np.uint8)
    for rate in (8, 25, 30):
        write_video(tmp_path / f"{rate}.mp4", pixels.repeat(4, axis=1).repeat(4, axis=2), frame_rate=rate)
    (tmp_path / "val.txt").write_text("8.mp4 0\n25.mp4 1\n30.mp4 2\n")
    videos = VideoList.read(tmp_path / "val.txt")
    tested = TestViews(videos, config=CONFIG, protocol=Protocol(clips=1, crops=1, short_side=32, crop=32))
    for number in range(3):
        expected = read_frames(videos.path(number), [6, 8, 10, 12])
        assert torch.equal(tested[number].views[0], torch.from_numpy(expected).permute(0, 3, 1, 2))


def test_views_are_shared_out_over_ranks(videos: VideoList) -> None:
    views = TestViews(videos, config=CONFIG, protocol=Protocol(clips=1, crops=1, short_side=24, crop=16))
    whole = [label for batch in view_loader(views, batch_size=4) for label in batch.labels.tolist()]
    assert whole == list(videos.labels)
    shares = [
        [
            label
            for batch in view_loader(views, batch_size=2, videos=range(rank, 6, 4))
            for label in batch.labels.tolist()
        ]
        for rank in range(4)
    ]
    assert shares == [whole[rank::4] for rank in range(4)]


def test_normalise_uses_the_published_numbers() -> None:
    clip = torch.zeros(2, 3, 1, 1, dtype=torch.uint8)
    clip[1] = 255
    out = normalise(clip)
    assert out.shape == (3, 2, 1, 1)
    assert out.is_contiguous()
    assert out[:, 0].flatten().tolist() == pytest.approx([-2.1179, -2.0357, -1.8044], abs=1e-4)
    assert out[:, 1].flatten().tolist() == pytest.approx([2.2489, 2.4286, 2.64], abs=1e-4)


def test_resize_does_not_antialias_unless_asked() -> None:
    stripes = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    stripes[..., ::4] = 200
    # Bilinear sampling every fourth pixel, at 1.5, sees the two dark pixels around it and no stripe.
    assert transforms.resize(stripes, height=2, width=2).unique().tolist() == [0]
    averaged = transforms.resize(stripes, height=2, width=2, antialias=Antialias.ON)
    assert averaged.min() > 0


def test_the_short_side_is_resized_and_the_aspect_kept() -> None:
    clip = torch.zeros(2, 3, 240, 320, dtype=torch.uint8)
    assert transforms.resize_short_side(clip, short_side=256).shape == (2, 3, 256, 341)


def test_flips_are_as_frequent_as_asked() -> None:
    clip = torch.arange(6, dtype=torch.uint8).view(1, 3, 1, 2)
    generator = np.random.default_rng(0)
    flipped = [
        torch.equal(transforms.flip_randomly(clip, probability=0.3, generator=generator), clip.flip(-1))
        for _ in range(1000)
    ]
    assert np.mean(flipped) == pytest.approx(0.3, abs=0.05)
    assert torch.equal(transforms.flip_randomly(clip, probability=0.0, generator=generator), clip)
    assert torch.equal(transforms.flip_randomly(clip, probability=1.0, generator=generator), clip.flip(-1))


def test_every_frame_of_a_clip_is_cut_alike() -> None:
    clip = torch.arange(48 * 40, dtype=torch.int32).remainder(251).to(torch.uint8).view(1, 1, 48, 40)
    cut = transforms.cut_random_resized(
        clip.expand(5, 3, 48, 40), crop=16, area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), generator=np.random.default_rng(0)
    )
    assert cut.shape == (5, 3, 16, 16)
    assert (cut == cut[:1, :1]).all()
