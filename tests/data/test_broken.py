"""Broken videos are replaced in training, black in tests, named once, and too many of them end a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vswin.config import ClipConfig, DataConfig, Protocol
from vswin.data.annotations import VideoList
from vswin.data.broken import BrokenVideos, ReadFailure, TooManyBrokenError
from vswin.data.datasets import TestViews, TrainClips
from vswin.data.encoding import write_video
from vswin.data.loaders import train_loader, view_loader
from vswin.data.sampler import Draw, TrainBatches

CONFIG = DataConfig(dataset="test", clip=ClipConfig(length=4, interval=2), short_side=(24, 24), crop=16)
ONE_VIEW = Protocol(clips=1, crops=1, short_side=24, crop=16)
BROKEN = {1: "cut off", 4: "gone", 7: "empty"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> VideoList:
    """Twelve videos; 1 is cut off in the middle, 4 is not there, 7 is empty."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for number in range(12):
        write_video(folder / f"{number}.mp4", rng.integers(0, 256, (20, 32, 40, 3), dtype=np.uint8), frame_rate=8)
    whole = (folder / "1.mp4").read_bytes()
    (folder / "1.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "4.mp4").unlink()
    (folder / "7.mp4").write_bytes(b"")
    (folder / "train.txt").write_text("".join(f"{number}.mp4 {number % 3}\n" for number in range(12)))
    return VideoList.read(folder / "train.txt")


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_videos_are_replaced_counted_and_named_once(videos: VideoList, workers: int) -> None:
    clips = TrainClips(videos, config=CONFIG, seed=0)
    batches = TrainBatches(num_videos=12, batch_size=4, epochs=3, seed=0)
    told: list[str] = []
    got = list(train_loader(clips, batches=batches, workers=workers, limit=1.0, warn=told.append))
    seen = [
        (draw, video, replaced)
        for keys, batch in zip(batches, got, strict=True)
        for draw, video, replaced in zip(keys, batch.videos.tolist(), batch.replaced.tolist(), strict=True)
    ]
    assert len(seen) == 36
    for draw, video, replaced in seen:
        assert video not in BROKEN
        assert (replaced > 0) == (draw.video in BROKEN)
        assert replaced > 0 or video == draw.video
    for batch in got:
        assert batch.labels.tolist() == [videos.labels[video] for video in batch.videos.tolist()]
    assert len({video for draw, video, replaced in seen if replaced}) > 1
    assert len(told) == len(BROKEN)
    for number in BROKEN:
        assert sum(str(videos.path(number)) in message for message in told) == 1
    # The same whoever reads, and whatever was read before.
    for batch, keys in zip(got, batches, strict=True):
        for clip, draw in zip(batch.clips, keys, strict=True):
            assert torch.equal(clip, clips[draw].clips)


def test_a_replacement_depends_on_the_seed_and_the_epoch(videos: VideoList) -> None:
    taken = {
        (seed, epoch): int(TrainClips(videos, config=CONFIG, seed=seed)[Draw(epoch, 4)].videos)
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(taken.values())) > 2


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_broken_videos_stop_training(videos: VideoList, workers: int) -> None:
    clips = TrainClips(videos, config=CONFIG, seed=0)
    batches = TrainBatches(num_videos=12, batch_size=4, epochs=1, seed=0)
    with pytest.raises(TooManyBrokenError) as error:
        list(train_loader(clips, batches=batches, workers=workers, warn=lambda message: None))
    text = str(error.value)
    assert "of the 12 clips of epoch 0 could not be read, more than 1.00% of them" in text
    assert any(f"{videos.path(number)}: " in text for number in BROKEN)
    assert "vswin data check" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_that_is_not_there_is_an_error_not_an_endless_search(tmp_path: Path, workers: int) -> None:
    (tmp_path / "train.txt").write_text("".join(f"gone_{number}.mp4 0\n" for number in range(40)))
    clips = TrainClips(VideoList.read(tmp_path / "train.txt"), config=CONFIG, seed=0)
    batches = TrainBatches(num_videos=40, batch_size=4, epochs=1, seed=0)
    with pytest.raises(TooManyBrokenError, match=r"^10 videos in a row could not be read; the first:\n.*no such file"):
        list(train_loader(clips, batches=batches, workers=workers, limit=1.0))


def test_a_limit_is_per_epoch_and_counts_every_draw() -> None:
    told: list[str] = []
    broken = BrokenVideos(draws_per_epoch=200, limit=0.01, warn=told.append)
    same = ReadFailure(5, "/data/5.mp4: no such file")
    for epoch in range(3):
        for _ in range(2):
            broken.see([same], epoch=epoch)
    assert len(told) == 1
    with pytest.raises(TooManyBrokenError, match="3 of the 200 clips of epoch 2"):
        broken.see([same], epoch=2)


@pytest.mark.parametrize("workers", [0, 2])
def test_tests_show_broken_videos_black_and_go_on(videos: VideoList, workers: int) -> None:
    views = TestViews(videos, config=CONFIG, protocol=ONE_VIEW)
    told: list[str] = []
    got = list(view_loader(views, batch_size=5, workers=workers, warn=told.append))
    broken = torch.cat([batch.broken for batch in got])
    pixels = torch.cat([batch.views for batch in got])
    assert broken.nonzero().flatten().tolist() == list(BROKEN)
    assert torch.cat([batch.videos for batch in got]).tolist() == list(range(12))
    assert torch.cat([batch.labels for batch in got]).tolist() == list(videos.labels)
    assert pixels.shape == (12, 1, 4, 3, 16, 16)
    assert (pixels[broken] == 0).all()
    assert (pixels[~broken].flatten(1).amax(dim=1) > 0).all()
    assert len(told) == len(BROKEN)
    assert all("counted as wrong" in message for message in told)
