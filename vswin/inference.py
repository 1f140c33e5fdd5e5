"""A trained model on videos that nobody has labelled: scores of its classes, or features."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import reduce
from numpy.typing import NDArray
from torch import Tensor, nn

from vswin.config import ClipConfig, DataConfig, Pixels, Protocol
from vswin.data.annotations import Format, VideoList
from vswin.data.datasets import TestViews
from vswin.data.formats.placed import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from vswin.data.pipeline import PATIENCE, Pipeline
from vswin.errors import ExplainedError
from vswin.models import take_off_head
from vswin.training.evaluate import view_outputs


@dataclass(frozen=True, kw_only=True)
class Viewing:
    """Views of videos as a test under ``protocol`` shows them to a model (section 4.1).

    Frames are as ``clip`` says and ``pixels`` those that the model was trained on.

    ``views_at_once`` bounds the memory of the ``device``, by default a GPU where there is one; ``workers`` is the
    number of processes that decode.
    """

    clip: ClipConfig = ClipConfig()
    protocol: Protocol = Protocol()
    pixels: Pixels = Pixels()
    device: torch.device | None = None
    views_at_once: int = 12
    workers: int = 0


class NotFiniteError(ExplainedError, ValueError):
    """Weights that are not numbers, of which nothing can be computed."""


class VideoOutput(NamedTuple):
    """Output of a model for a video: float32 ``values``, or why the video could not be read."""

    video: Path
    values: NDArray[np.float32] | None
    error: str = ""


def predict(model: nn.Module, videos: Sequence[Path], viewing: Viewing) -> Iterator[VideoOutput]:
    """The scores of every class, one video after another: softmax averaged over the video's views, [classes].

    The model is moved to the device and left in evaluation mode. Raises NotFiniteError for weights that are not numbers
    and BatchTooLargeError where memory is short.
    """
    return _outputs(model, videos, viewing, lambda logits: reduce(logits.softmax(dim=-1), "1 v k -> k", "mean"))


def features(model: nn.Module, videos: Sequence[Path], viewing: Viewing) -> Iterator[VideoOutput]:
    """Features of videos, like ``predict``: the input of the model's head, averaged over the views, [C].

    The head is taken off.
    """
    return _outputs(take_off_head(model), videos, viewing, lambda pooled: reduce(pooled, "1 v c -> c", "mean"))


def find_videos(paths: Iterable[Path]) -> list[Path]:
    """``paths``, a folder of videos replaced by the videos in it and below, in order.

    A folder of frames is a video, and what is no folder, or has nothing in it, is left for whoever opens it.
    """
    return [video for path in paths for video in (_inside(path) or [path])]


def _inside(folder: Path) -> list[Path]:
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders.sort()
        suffixes = {name: name.rpartition(".")[2].lower() for name in sorted(names) if not name.startswith(".")}
        videos = [Path(place, name) for name, suffix in suffixes.items() if suffix in VIDEO_SUFFIXES]
        if not videos and IMAGE_SUFFIXES & set(suffixes.values()):
            videos = [Path(place)]
        found += videos
    return sorted(found)


def _outputs(
    model: nn.Module, videos: Sequence[Path], viewing: Viewing, summary: Callable[[Tensor], Tensor]
) -> Iterator[VideoOutput]:
    device = viewing.device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_finite(model)
    model.to(device).eval()
    names = tuple(str(video.absolute()) for video in videos)
    unlabelled = VideoList(Path("/"), names, (0,) * len(names), (), Format.LIST, Path("/"))
    views = TestViews(unlabelled, config=DataConfig(dataset="", clip=viewing.clip), protocol=viewing.protocol)
    one_by_one = [[video] for video in range(len(videos))]
    loaded = Pipeline(views, keys=one_by_one, workers=viewing.workers, patience=PATIENCE)
    for video, (batch, failures) in zip(videos, loaded, strict=True):
        if failures:
            yield VideoOutput(video, None, "; ".join(failure.message for failure in failures))
            continue
        outputs = view_outputs(
            model,
            batch.views,
            precision=viewing.protocol.precision,
            device=device,
            views_at_once=viewing.views_at_once,
            pixels=viewing.pixels,
        )
        values = summary(outputs).cpu().numpy()
        if not np.isfinite(values).all():
            yield VideoOutput(video, None, f"{video}: the model's output for it is not finite")
            continue
        yield VideoOutput(video, values)


def check_finite(model: nn.Module) -> None:
    """Raise NotFiniteError where a weight of ``model`` is NaN or infinite."""
    bad = [name for name, value in model.state_dict().items() if not torch.isfinite(value).all()]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise NotFiniteError(
            f"expected finite weights, got NaN or infinite ones in {bad[0]}{more}: the training diverged, or the file "
            "is damaged; use other weights"
        )
