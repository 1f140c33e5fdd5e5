"""Training clips and test views of listed videos, as map-style torch data sets."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vswin.config import DataConfig, Protocol

from . import clips, transforms
from .annotations import VideoList
from .batch import TrainBatch, ViewBatch
from .sampler import Draw
from .video import probe, read_frames


class TrainClips(Dataset[TrainBatch]):
    """One random clip of a video per draw.

    Short side resized, a random box resized to the crop, flipped, as ``config`` says. What a draw looks
    like depends on (``seed``, epoch, video) only. ``keep_decoded`` keeps every decoded video in memory: for small data
    sets. Indexing raises VideoError for a broken video.
    """

    def __init__(self, videos: VideoList, *, config: DataConfig, seed: int, keep_decoded: bool = False) -> None:
        self._videos = videos
        self._config = config
        self._seed = seed
        self._frames = _Frames(videos, keep_decoded=keep_decoded)

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, draw: Draw) -> TrainBatch:
        epoch, index = draw
        config = self._config
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([self._seed, epoch, index])))
        frames = clips.training_frames(self._frames.count(index), clip=config.clip, generator=generator)
        clip = self._frames.read(index, frames)
        clip = transforms.resize_short_side(clip, short_side=config.short_side[0])
        clip = transforms.cut_random_resized(
            clip, crop=config.crop, area=config.area, aspect=config.aspect, generator=generator
        )
        clip = transforms.flip_randomly(clip, probability=config.flip, generator=generator)
        return TrainBatch(
            clip,
            torch.tensor(self._videos.labels[index]),
            torch.zeros(4, dtype=torch.int64),
            torch.tensor(index),
            torch.tensor(0),
        )


class TestViews(Dataset[ViewBatch]):
    """Every test view of a video, the crops of a clip together.

    Views are placed as ``protocol`` says, their frames sampled as ``config.clip`` says. ``keep_decoded`` as in
    TrainClips. Indexing raises VideoError for a broken video.
    """

    __test__ = False  # pytest would take it for a test by its name

    def __init__(
        self, videos: VideoList, *, config: DataConfig, protocol: Protocol, keep_decoded: bool = False
    ) -> None:
        self._videos = videos
        self._config = config
        self._protocol = protocol
        self._frames = _Frames(videos, keep_decoded=keep_decoded)

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, index: int) -> ViewBatch:
        protocol = self._protocol
        frames = clips.view_frames(self._frames.count(index), clip=self._config.clip, num_clips=protocol.clips)
        # Clips overlap: a frame is decoded and resized once.
        unique, back = np.unique(frames, return_inverse=True)
        video = transforms.resize_short_side(self._frames.read(index, unique), short_side=protocol.short_side)
        boxes = clips.view_boxes(video.shape[-2], video.shape[-1], crop=protocol.crop, num_crops=protocol.crops)
        views = [
            transforms.cut(video[rows], box=box)
            for rows in torch.from_numpy(back.reshape(frames.shape))
            for box in boxes
        ]
        return ViewBatch(
            torch.stack(views), torch.tensor(self._videos.labels[index]), torch.tensor(index), torch.tensor(False)
        )


class _Frames:
    """Frame counts and frames of listed videos; with ``keep_decoded`` a file is decoded once and kept in memory."""

    def __init__(self, videos: VideoList, *, keep_decoded: bool) -> None:
        self._videos = videos
        self._keep_decoded = keep_decoded
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def count(self, index: int) -> int:
        if self._keep_decoded:
            return len(self._whole(index))
        return probe(self._videos.path(index)).num_frames

    def read(self, index: int, frames: clips.Indices) -> Tensor:
        """uint8 [T, C, H, W]."""
        if self._keep_decoded:
            array = self._whole(index)[frames]
        else:
            array = read_frames(self._videos.path(index), frames)
        return torch.from_numpy(array).permute(0, 3, 1, 2)

    def _whole(self, index: int) -> NDArray[np.uint8]:
        if index not in self._kept:
            path = self._videos.path(index)
            self._kept[index] = read_frames(path, np.arange(probe(path).num_frames))
        return self._kept[index]
