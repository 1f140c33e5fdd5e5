"""Video Swin Transformer: models, data and training.

Public names are resolved on first use, so importing this package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models import SwinTransformer3D, count_cost, create_model, inflate, list_models, load_checkpoint

__version__ = "0.1.0"

__all__ = [
    "SwinTransformer3D",
    "count_cost",
    "create_model",
    "inflate",
    "list_models",
    "load_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(".models", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
