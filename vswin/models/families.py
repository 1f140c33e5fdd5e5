"""Architectures whose weights fit each other."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Family:
    """An architecture, as the class attribute ``family`` of its models.

    ``inflates_to`` is the video architecture that an image architecture starts. An architecture that only this
    package writes needs no format of its own: ``marks`` are tensors that its weights alone have.
    """

    name: str
    inflates_to: Family | None = None
    marks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


VIDEO_SWIN = Family("Video Swin")
IMAGE_SWIN = Family("Swin for images", inflates_to=VIDEO_SWIN)
TIMESFORMER = Family("TimeSformer")
VIT = Family("ViT for images", inflates_to=TIMESFORMER)


def family_of(model: nn.Module) -> Family:
    """The architecture of a model; ValueError if it is none of this package's."""
    family = getattr(getattr(model, "backbone", model), "family", None)
    if not isinstance(family, Family):
        raise ValueError(f"expected a model from vswin.create_model, got {type(model).__name__}")
    return family
