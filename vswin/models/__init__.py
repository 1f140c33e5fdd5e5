"""Video models: what the paper trains, and its baselines.

In reading order: ``windows``, ``form``, ``boxes``, ``box_attention``, ``attention``, ``blocks``, ``swin3d`` (with the
numbered deviations), ``classifier``, ``create``; then ``inflate``, ``checkpoints``, ``architecture``, ``cost``; the
baselines ``swin2d``, ``timesformer``, ``perceiver``.
"""

from __future__ import annotations

from .architecture import architecture_of, count_classes
from .checkpoints import (
    HeadLoading,
    LoadReport,
    load_checkpoint,
    load_state,
    read_checkpoint,
    read_classes,
    read_metadata,
    save_weights,
)
from .classifier import take_off_head
from .cost import Cost, SectionCost, count_cost
from .create import build, create_model, list_models
from .errors import NoWeightsError, WeightsError
from .form import Form, set_form
from .inflate import inflate
from .swin3d import SwinTransformer3D

__all__ = [
    "Cost",
    "Form",
    "HeadLoading",
    "LoadReport",
    "NoWeightsError",
    "SectionCost",
    "SwinTransformer3D",
    "WeightsError",
    "architecture_of",
    "build",
    "count_classes",
    "count_cost",
    "create_model",
    "inflate",
    "list_models",
    "load_checkpoint",
    "load_state",
    "read_checkpoint",
    "read_classes",
    "read_metadata",
    "save_weights",
    "set_form",
    "take_off_head",
]
