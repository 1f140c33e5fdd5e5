"""Training clips and test views of listed videos, as map-style torch data sets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vswin.config import Cropping, DataConfig, Protocol

from . import clips, transforms
from .annotations import VideoList
from .batch import TrainBatch, ViewBatch
from .broken import ReadFailure, TooManyBrokenError, name_failures
from .erasing import random_erasing
from .listed import Listed
from .rand_augment import rand_augment
from .sampler import Draw
from .video import Video, VideoError, open_video

# Videos tried for one clip. Where one in a hundred is broken, so many in a row are within 1e-20.
_ATTEMPTS = 10


class TrainClips(Dataset[TrainBatch]):
    """One random clip of a video per draw, with every augmentation of ``config``.

    What a draw looks like depends on (``seed``, epoch, video) only. A broken video is replaced by another one, drawn
    from the same three. ``keep_decoded`` keeps every decoded video in memory, in each process that reads: for small
    data sets.
    """

    def __init__(self, videos: VideoList, *, config: DataConfig, seed: int, keep_decoded: bool = False) -> None:
        self._config = config
        self._seed = seed
        self._videos = Listed(videos)
        self._opener = _Opener(keep_decoded=keep_decoded)

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, draw: Draw) -> TrainBatch:
        return self.read(draw)[0]

    def path(self, draw: Draw) -> Path:
        """The file that ``draw`` reads, unless it is broken."""
        return self._videos.path(draw.video)

    def read(self, draw: Draw) -> tuple[TrainBatch, tuple[ReadFailure, ...]]:
        """The clip of ``draw``, and the broken videos it was tried on before.

        Raises TooManyBrokenError where ten videos in a row are broken.
        """
        failures: list[ReadFailure] = []
        for attempt in range(_ATTEMPTS):
            streams = Streams(self._seed, draw, attempt=attempt)
            video = int(streams.of(_Purpose.REPLACEMENT).integers(len(self))) if attempt else draw.video
            try:
                clip, erased = self._augmented(video, streams)
            except VideoError as error:
                failures.append(ReadFailure(video, str(error)))
                continue
            label = torch.tensor(self._videos.label(video))
            sample = TrainBatch(clip, label, erased, torch.tensor(video), torch.tensor(attempt))
            return sample, tuple(failures)
        raise TooManyBrokenError(
            f"{_ATTEMPTS} videos in a row could not be read; {name_failures(failure.message for failure in failures)}"
        )

    def _augmented(self, video: int, streams: Streams) -> tuple[Tensor, Tensor]:
        """The clip of a draw, uint8 [T, C, crop, crop], and the box to erase of it, int64 [4]."""
        config = self._config
        with self._opener.open(self._videos.path(video)) as file:
            wanted = clips.training_frames(file.num_frames, clip=config.clip, generator=streams.main)
            clip = _tensor(file.frames(wanted))
        short_side = clips.random_short_side(config.short_side, generator=streams.of(_Purpose.SHORT_SIDE))
        clip = transforms.resize_short_side(clip, short_side=short_side, antialias=config.antialias)
        match config.cropping:
            case Cropping.RESIZED:
                clip = transforms.cut_random_resized(
                    clip,
                    crop=config.crop,
                    area=config.area,
                    aspect=config.aspect,
                    generator=streams.main,
                    antialias=config.antialias,
                )
            case Cropping.PLAIN:
                box = clips.random_crop(
                    clip.shape[-2], clip.shape[-1], crop=config.crop, generator=streams.of(_Purpose.PLAIN_CROP)
                )
                clip = transforms.cut(clip, box=box)
        clip = transforms.flip_randomly(clip, probability=config.flip, generator=streams.main)
        if config.rand_augment is not None:
            clip = rand_augment(clip, config=config.rand_augment, generator=streams.of(_Purpose.RAND_AUGMENT))
        erased = random_erasing(
            config.crop, config.crop, probability=config.erasing, generator=streams.of(_Purpose.ERASING)
        )
        return clip, torch.tensor(erased)


class TestViews(Dataset[ViewBatch]):
    """Every test view of a video, the crops of a clip together.

    Views are placed as ``protocol`` says, their frames sampled as ``config.clip`` says. A broken video is black.
    ``keep_decoded`` as in TrainClips.
    """

    def __init__(
        self, videos: VideoList, *, config: DataConfig, protocol: Protocol, keep_decoded: bool = False
    ) -> None:
        self._config = config
        self._protocol = protocol
        self._videos = Listed(videos)
        self._opener = _Opener(keep_decoded=keep_decoded)

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, index: int) -> ViewBatch:
        return self.read(index)[0]

    def path(self, index: int) -> Path:
        """The file that ``index`` reads."""
        return self._videos.path(index)

    def read(self, index: int) -> tuple[ViewBatch, tuple[ReadFailure, ...]]:
        """The views of video ``index``, and why they are black."""
        label, video = torch.tensor(self._videos.label(index)), torch.tensor(index)
        try:
            return ViewBatch(self._views(index), label, video, torch.tensor(False)), ()
        except VideoError as error:
            return ViewBatch(self._black(), label, video, torch.tensor(True)), (ReadFailure(index, str(error)),)

    def _views(self, index: int) -> Tensor:
        """uint8 [V, T, C, crop, crop]."""
        protocol = self._protocol
        with self._opener.open(self._videos.path(index)) as file:
            frames = clips.view_frames(file.num_frames, clip=self._config.clip, num_clips=protocol.clips)
            # Clips overlap: a frame is decoded and resized once.
            unique, back = np.unique(frames, return_inverse=True)
            video = _tensor(file.frames(unique))
        video = transforms.resize_short_side(video, short_side=protocol.short_side, antialias=protocol.antialias)
        boxes = clips.view_boxes(video.shape[-2], video.shape[-1], crop=protocol.crop, num_crops=protocol.crops)
        rows = torch.from_numpy(back.reshape(frames.shape))
        return transforms.stack([transforms.cut(video, box=box)[row] for row in rows for box in boxes])

    def _black(self) -> Tensor:
        protocol, length = self._protocol, self._config.clip.length
        return torch.zeros(protocol.clips * protocol.crops, length, 3, protocol.crop, protocol.crop, dtype=torch.uint8)


class _Purpose(IntEnum):
    """The random streams, one for each decision, so that switching one on moves no other. Never renumber."""

    REPLACEMENT = 0
    SHORT_SIDE = 1
    PLAIN_CROP = 2
    RAND_AUGMENT = 3
    ERASING = 4


class Streams:
    """Random numbers of one draw. ``main`` decides frames, random box and flip, in this order."""

    def __init__(self, seed: int, draw: Draw, *, attempt: int) -> None:
        key = [seed, draw.epoch, draw.video]
        self._key = [*key, attempt] if attempt else key
        self.main = np.random.Generator(np.random.Philox(np.random.SeedSequence(self._key)))

    def of(self, purpose: _Purpose) -> np.random.Generator:
        """A new generator, always the same for one purpose."""
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(self._key, spawn_key=(purpose,))))


class _Frames:
    """A decoded video: all its frames, uint8 [T, H, W, 3]."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pixels = pixels

    @property
    def num_frames(self) -> int:
        return len(self._pixels)

    def frames(self, indices: clips.Indices) -> NDArray[np.uint8]:
        return self._pixels[indices]


class _Opener:
    """Opens videos; with ``keep_decoded`` a file is decoded once, whole, and kept in memory."""

    def __init__(self, *, keep_decoded: bool) -> None:
        self._keep_decoded = keep_decoded
        self._kept: dict[Path, _Frames] = {}

    @contextmanager
    def open(self, path: Path) -> Iterator[_Frames | Video]:
        if path in self._kept:
            yield self._kept[path]
            return
        with open_video(path) as file:
            if self._keep_decoded:
                self._kept[path] = _Frames(file.frames(np.arange(file.num_frames)))
            yield self._kept.get(path, file)

    def __getstate__(self) -> dict[str, object]:
        # What this process has decoded would travel to every worker.
        return {"_keep_decoded": self._keep_decoded, "_kept": {}}


def _tensor(frames: NDArray[np.uint8]) -> Tensor:
    """uint8 [T, H, W, C] as a view [T, C, H, W]: torch resizes pixels whose colours lie together twice as fast."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2)
