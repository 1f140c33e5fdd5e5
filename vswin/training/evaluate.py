"""Multi-view testing (section 4.1): softmax per view, averaged over a video's views."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange, reduce
from numpy.typing import NDArray
from torch import Tensor, nn

from vswin.config import Pixels, Precision
from vswin.data.batch import ViewBatch
from vswin.data.transforms import normalise

from .memory import shortage_in_test_explained
from .precision import autocast

_PUBLISHED = Pixels()


@dataclass(frozen=True)
class Predictions:
    """Scores of some videos, one row each.

    ``videos``: int64 [n], their rows in the annotation list. ``scores``: float32 [n, classes], softmax averaged over
    views. ``labels``: int64 [n]. ``broken``: bool [n], videos that could not be read: wrong whatever their scores.
    """

    videos: NDArray[np.int64]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    broken: NDArray[np.bool_]

    def top(self, k: int) -> float:
        """Share of videos, in percent, whose label is among the ``k`` highest scores; ties and NaN count as wrong."""
        own = self.scores[np.arange(len(self.labels)), self.labels]
        # NaN is not below anything either: scores that overflowed must not be the best of all
        rank = (~(self.scores < own[:, None])).sum(axis=1)
        return float(100 * np.mean((rank <= k) & ~self.broken))

    def class_accuracy(self) -> NDArray[np.float64]:
        """Top-1 accuracy of each class in percent, [classes]; NaN for a class without test videos."""
        confusion = self.confusion()
        with np.errstate(invalid="ignore"):
            return np.asarray(100 * np.diag(confusion) / np.bincount(self.labels, minlength=len(confusion)))

    def mean_class_accuracy(self) -> float:
        """The mean of ``class_accuracy`` over the classes that have test videos, in percent."""
        return float(np.nanmean(self.class_accuracy()))

    def confusion(self) -> NDArray[np.int64]:
        """Confusion matrix, true class by row and predicted class by column: int64 [classes, classes].

        Broken videos are left out. A tie for the first place counts as wrong, as in ``top``: for the first of the
        other classes in it.
        """
        classes = self.scores.shape[1]
        whole = ~self.broken
        others = self.scores[whole].copy()
        labels = self.labels[whole]
        rows = np.arange(len(labels))
        own = others[rows, labels].copy()
        others[rows, labels] = -np.inf
        best_other = others.argmax(axis=1)
        predicted = np.where(own > others[rows, best_other], labels, best_other)
        return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)

    @staticmethod
    def joined(parts: Iterable[Predictions], *, num_videos: int) -> Predictions:
        """``parts`` as one, in the order of the list.

        Raises ValueError unless each of the list's ``num_videos`` videos is there exactly once: a video that two
        processes scored would count twice.
        """
        parts = list(parts)
        videos = np.concatenate([part.videos for part in parts]) if parts else np.zeros(0, dtype=np.int64)
        counts = np.bincount(videos, minlength=num_videos)
        if len(counts) != num_videos or (counts != 1).any():
            raise ValueError(
                f"expected every one of {num_videos} videos once, got {(counts == 0).sum()} not at all and "
                f"{(counts > 1).sum()} more than once"
            )
        order = np.argsort(videos)
        return Predictions(
            videos[order],
            np.concatenate([part.scores for part in parts])[order],
            np.concatenate([part.labels for part in parts])[order],
            np.concatenate([part.broken for part in parts])[order],
        )


def evaluate(
    model: nn.Module,
    batches: Iterable[ViewBatch],
    *,
    precision: Precision,
    device: torch.device,
    views_at_once: int = 12,
    pixels: Pixels = _PUBLISHED,
) -> Iterator[Predictions]:
    """Test ``model``, which is shown ``pixels``, on ``batches``, yielding the predictions of each as they come.

    ``views_at_once`` bounds the memory of the device; it changes scores by rounding only. Leaves the model in
    evaluation mode. All scores of a broken video are 0. Raises BatchTooLargeError where memory is short.
    """
    model.eval()
    for batch in batches:
        yield _predict(model, batch, precision=precision, device=device, views_at_once=views_at_once, pixels=pixels)


def _predict(
    model: nn.Module,
    batch: ViewBatch,
    *,
    precision: Precision,
    device: torch.device,
    views_at_once: int,
    pixels: Pixels,
) -> Predictions:
    logits = view_outputs(
        model, batch.views, precision=precision, device=device, views_at_once=views_at_once, pixels=pixels
    )
    scores = reduce(logits.softmax(dim=-1), "b v k -> b k", "mean").cpu()
    scores[batch.broken] = 0
    return Predictions(batch.videos.numpy(), scores.numpy(), batch.labels.numpy(), batch.broken.numpy())


@torch.inference_mode()
def view_outputs(
    model: nn.Module,
    views: Tensor,
    *,
    precision: Precision,
    device: torch.device,
    views_at_once: int,
    pixels: Pixels = _PUBLISHED,
) -> Tensor:
    """Outputs of ``model`` for every view: uint8 [B, V, T, C, H, W] to float32 [B, V, outputs] on ``device``.

    Raises BatchTooLargeError where memory is short.
    """
    flat = rearrange(views, "b v t c h w -> (b v) t c h w")
    parts: list[Tensor] = []
    # a chunk becomes floating point on the device: all views of a video at once could be gigabytes
    for chunk in torch.split(flat, views_at_once):
        with shortage_in_test_explained(views_at_once=len(chunk)), autocast(precision, device):
            parts.append(model(normalise(chunk.to(device, non_blocking=True), pixels)).float())
    return rearrange(torch.cat(parts), "(b v) k -> b v k", v=views.shape[1])
