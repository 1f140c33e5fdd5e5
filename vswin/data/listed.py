"""The rows of a list as loaders need them: two tensors instead of 240,000 strings."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from .annotations import VideoList


class Listed:
    """Paths and labels of ``videos``.

    Worker processes get tensors as shared memory: nothing is copied, however long the list.
    """

    def __init__(self, videos: VideoList) -> None:
        names = [os.fsencode(name) for name in videos.names]
        self._folder = videos.folder
        self._text = torch.frombuffer(bytearray(b"".join(names)), dtype=torch.uint8)
        self._ends = torch.from_numpy(np.cumsum([len(name) for name in names], dtype=np.int64))
        self._labels = torch.tensor(videos.labels)

    def __len__(self) -> int:
        return len(self._labels)

    def path(self, index: int) -> Path:
        """Where video ``index`` lies."""
        start = int(self._ends[index - 1]) if index else 0
        return self._folder / os.fsdecode(self._text[start : int(self._ends[index])].numpy().tobytes())

    def label(self, index: int) -> int:
        """The class of video ``index``."""
        return int(self._labels[index])
