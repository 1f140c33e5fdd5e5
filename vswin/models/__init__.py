"""Video models: what the paper trains, and its baselines.

In reading order: ``windows``, ``form``, ``boxes``, ``box_attention``, ``attention``, ``blocks``, ``swin3d`` (with the
numbered deviations), ``classifier``, ``create``; then ``inflate``, ``checkpoints``, ``cost``; the baselines
``swin2d``, ``timesformer``, ``perceiver``.
"""

from __future__ import annotations

from .checkpoints import HeadLoading, LoadReport, load_checkpoint, read_checkpoint, read_classes, save_weights
from .cost import Cost, SectionCost, count_cost
from .create import build, create_model, list_models
from .form import Form, set_form
from .inflate import inflate
from .swin3d import SwinTransformer3D

__all__ = [
    "Cost",
    "Form",
    "HeadLoading",
    "LoadReport",
    "SectionCost",
    "SwinTransformer3D",
    "build",
    "count_cost",
    "create_model",
    "inflate",
    "list_models",
    "load_checkpoint",
    "read_checkpoint",
    "read_classes",
    "save_weights",
    "set_form",
]
