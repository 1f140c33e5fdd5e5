"""A feed resumes where it is asked to, and names what it fed."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.support.killed_training import DATA
from vswin.data.annotations import Split, VideoList
from vswin.data.sampler import TrainBatches
from vswin.training.feed import Feed, Loading


def test_a_feed_goes_on_from_a_step_as_if_it_had_fed_those_before(tiny_data: Path) -> None:
    videos = VideoList.of_split(tiny_data, dataset=DATA.dataset, split=Split.TRAIN)
    order = TrainBatches(num_videos=len(videos), batch_size=6, epochs=2, seed=0)
    feed = Feed.of_videos(videos, order=order, config=DATA, loading=Loading())
    kept = Feed.of_videos(videos, order=order, config=DATA, loading=Loading(keep_decoded=True))
    assert feed.steps_per_epoch == len(videos) // 6
    whole = list(feed.batches(0))
    assert len(whole) == 2 * feed.steps_per_epoch
    for expected, got in zip(whole[3:], kept.batches(3), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


def test_videos_of_a_batch_are_named(tiny_data: Path) -> None:
    videos = VideoList.of_split(tiny_data, dataset=DATA.dataset, split=Split.TRAIN)
    order = TrainBatches(num_videos=len(videos), batch_size=6, epochs=1, seed=0)
    feed = Feed.of_videos(videos, order=order, config=DATA, loading=Loading())
    assert feed.classes == videos.classes
    assert feed.describe(torch.tensor([3, 1])) == f"{videos.names[3]}, {videos.names[1]}"
    assert Feed(batches=lambda step: [], steps_per_epoch=1).describe(torch.tensor([3, 1])) == "videos 3, 1"
