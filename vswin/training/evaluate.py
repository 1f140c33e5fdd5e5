"""Multi-view testing (section 4.1): softmax per view, averaged over a video's views."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange, reduce
from numpy.typing import NDArray
from torch import Tensor, nn

from vswin.config import Precision
from vswin.data.batch import ViewBatch
from vswin.data.transforms import normalise


@dataclass(frozen=True)
class Predictions:
    """Scores of every test video, in the order of the annotation list.

    ``scores``: float32 [videos, classes], softmax averaged over views. ``labels``: int64 [videos].
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def top(self, k: int) -> float:
        """Share of videos, in percent, whose label is among the ``k`` highest scores; ties count as wrong."""
        own = self.scores[np.arange(len(self.labels)), self.labels]
        rank = (self.scores >= own[:, None]).sum(axis=1)
        return float(100 * np.mean(rank <= k))


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The autocast context of ``precision``; a context that does nothing for fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision is Precision.BF16)


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[ViewBatch],
    *,
    precision: Precision,
    device: torch.device,
    views_at_once: int = 12,
    on_videos: Callable[[int], None] = lambda _: None,
) -> Predictions:
    """Test ``model`` on ``batches``.

    ``views_at_once`` bounds the memory; it changes scores by rounding only. ``on_videos`` is told how many videos
    each batch added. Leaves the model in evaluation mode.
    """
    model.eval()
    scores: list[Tensor] = []
    labels: list[Tensor] = []
    for batch in batches:
        views, label = batch.views, batch.labels
        flat = rearrange(views, "b v t c h w -> (b v) t c h w")
        parts: list[Tensor] = []
        for chunk in torch.split(flat, views_at_once):
            with autocast(precision, device):
                logits = model(normalise(chunk.to(device, non_blocking=True)))
            parts.append(logits.float().softmax(dim=-1))
        scores.append(reduce(torch.cat(parts), "(b v) k -> b k", "mean", v=views.shape[1]).cpu())
        labels.append(label)
        on_videos(len(label))
    return Predictions(torch.cat(scores).numpy(), torch.cat(labels).numpy())
