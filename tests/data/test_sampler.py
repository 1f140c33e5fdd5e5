"""Training batches are a function of (seed, step): resumable anywhere, the same for any world size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vswin.data.sampler import Draw, TrainBatches

BATCHES = TrainBatches(num_videos=22, batch_size=8, epochs=3, seed=5)


def test_an_epoch_draws_videos_once_and_drops_what_fills_no_batch() -> None:
    batches = list(BATCHES)
    assert len(batches) == len(BATCHES) == 6
    assert BATCHES.steps_per_epoch == 2
    for epoch in range(3):
        draws = batches[2 * epoch] + batches[2 * epoch + 1]
        assert {draw.epoch for draw in draws} == {epoch}
        assert len({draw.video for draw in draws}) == 16
        assert {draw.video for draw in draws} <= set(range(22))


def test_order_changes_with_epoch_and_seed_only() -> None:
    order = [[draw.video for draw in batch] for batch in BATCHES]
    assert order[0] != order[2]
    assert order == [[draw.video for draw in batch] for batch in BATCHES]
    other = TrainBatches(num_videos=22, batch_size=8, epochs=3, seed=6)
    assert order != [[draw.video for draw in batch] for batch in other]


@given(
    num_videos=st.integers(4, 40),
    seed=st.integers(0, 3),
    world_size=st.sampled_from([1, 2, 4]),
    data=st.data(),
)
def test_resuming_and_sharding_change_nothing(num_videos: int, seed: int, world_size: int, data: st.DataObject) -> None:
    whole = TrainBatches(num_videos=num_videos, batch_size=4, epochs=3, seed=seed)
    step = data.draw(st.integers(0, len(whole)))
    shards = [
        TrainBatches(
            num_videos=num_videos, batch_size=4, epochs=3, seed=seed, rank=rank, world_size=world_size
        ).starting_at(step)
        for rank in range(world_size)
    ]
    assert all(len(shard) == len(whole) - step for shard in shards)
    expected = list(whole)[step:]
    for batch, parts in zip(expected, zip(*shards, strict=True), strict=True):
        assert {len(part) for part in parts} == {4 // world_size}
        assert sorted(draw for part in parts for draw in part) == sorted(batch)


def test_draws_are_pairs_of_epoch_and_video() -> None:
    first = next(iter(BATCHES))[0]
    assert isinstance(first, Draw)
    assert (first.epoch, first.video) == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 23}, "expected a batch size from 1 to 22, the number of training videos, got 23"),
        ({"batch_size": 0}, "expected a batch size from 1 to 22"),
        ({"world_size": 3}, "expected a batch size divisible by the world size 3, got 8"),
        ({"rank": 2, "world_size": 2}, "expected a rank from 0 to 1, got 2"),
    ],
)
def test_impossible_batches_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainBatches(**{"num_videos": 22, "batch_size": 8, "epochs": 3, "seed": 5, **changes})
