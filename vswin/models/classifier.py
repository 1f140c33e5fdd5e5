"""Heads: from a feature map to class scores."""

from __future__ import annotations

from einops import reduce
from torch import Tensor, nn

from .families import family_of


class ClassificationHead(nn.Module):
    """Mean over all tokens, dropout, linear; weights normal with standard deviation 0.01.

    Names and initialisation of ``I3DHead``, dropout 0.5 included, which the paper does not mention
    (mmaction/models/heads/i3d_head.py @db018fb8).
    """

    def __init__(self, in_features: int, *, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc_cls = nn.Linear(in_features, num_classes)
        nn.init.normal_(self.fc_cls.weight, std=0.01)
        nn.init.zeros_(self.fc_cls.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Feature map [B, C, T, H, W] -> logits [B, num_classes]."""
        return self.fc_cls(self.dropout(reduce(features, "b c t h w -> b c", "mean")))


class VideoClassifier(nn.Module):
    """A backbone and a head, under the names of the published recogniser: ``backbone`` and ``cls_head``."""

    def __init__(self, backbone: nn.Module, cls_head: ClassificationHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.cls_head = cls_head

    def forward(self, clips: Tensor) -> Tensor:
        """Clips [B, 3, T, H, W] -> logits [B, num_classes]."""
        return self.cls_head(self.backbone(clips))


def take_off_head(model: nn.Module) -> nn.Module:
    """``model`` itself, changed to give what its last linear layer used to see: pooled features [B, C].

    Raises ValueError for a model that is no classifier of this package.
    """
    if isinstance(model, VideoClassifier):
        model.cls_head.fc_cls = nn.Identity()  # type: ignore[assignment]
    elif hasattr(model, "head"):
        family_of(model)
        model.head = nn.Identity()
    else:
        raise ValueError(f"expected a classifier of vswin.create_model, got {type(model).__name__}")
    return model
