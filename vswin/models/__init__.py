"""Video models: what the paper trains, and its baselines."""

from __future__ import annotations

from .create import build, create_model, list_models
from .swin3d import SwinTransformer3D

__all__ = [
    "SwinTransformer3D",
    "build",
    "create_model",
    "list_models",
]
