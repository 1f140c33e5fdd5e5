"""Turning frames upright as the container's display matrix says: phones store what the sensor saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from av.buffer import Buffer
from av.video.frame import VideoFrame
from numpy.typing import NDArray


@dataclass(frozen=True)
class Orientation:
    """First rows and columns are swapped, then the picture is mirrored left to right and top to bottom."""

    transpose: bool = False
    mirror: bool = False
    flip: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """Orientation of a decoded frame. Angles that are no quarter turn count as none.

        A display matrix (ISO/IEC 14496-12, 8.3.2) holds nine 32-bit numbers (a, b, u, c, d, v, x, y, w): the pixel at
        (p, q) is shown at (a p + c q, b p + d q), up to a shift.
        """
        # PyAV's annotation knows other keys than its code.
        matrix = cast("Mapping[str, Buffer]", frame.side_data).get("DISPLAYMATRIX")
        if matrix is None:
            return cls()
        (a, b, _), (c, d, _), _ = np.frombuffer(memoryview(matrix), dtype=np.int32).reshape(3, 3).tolist()
        if a and d and not b and not c:
            return cls(mirror=a < 0, flip=d < 0)
        if b and c and not a and not d:
            return cls(transpose=True, mirror=c < 0, flip=b < 0)
        return cls()

    def apply(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Frames [T, H, W, C] upright, [T, W, H, C] where they are transposed; in one piece of memory."""
        if self.transpose:
            frames = frames.swapaxes(1, 2)
        if self.mirror:
            frames = frames[:, :, ::-1]
        if self.flip:
            frames = frames[:, ::-1]
        return np.ascontiguousarray(frames)
