"""Samples are a function of (seed, epoch, video); views are placed as the protocol says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vswin.config import Antialias, ClipConfig, DataConfig, Protocol, Sampling
from vswin.data import transforms
from vswin.data.annotations import VideoList
from vswin.data.datasets import TestViews, TrainClips
from vswin.data.encoding import write_video
from vswin.data.loaders import train_loader, view_loader
from vswin.data.sampler import Draw, TrainBatches
from vswin.data.transforms import normalise
from vswin.data.video import VideoError, read_frames

CONFIG = DataConfig(dataset="test", clip=ClipConfig(length=4, interval=2), short_side=(24, 24), crop=16)


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


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_workers(videos: VideoList, workers: int) -> None:
    clips = TrainClips(videos, config=CONFIG, seed=0)
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
    resumed = list(train_loader(clips, batches=batches.starting_at(4)))
    assert torch.equal(resumed[0][0], expected[4][0])


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


def test_a_broken_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("gone.mp4 0\n")
    clips = TrainClips(VideoList.read(tmp_path / "train.txt"), config=CONFIG, seed=0)
    with pytest.raises(VideoError, match=r"gone\.mp4: no such file"):
        _ = clips[Draw(epoch=0, video=0)]


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
