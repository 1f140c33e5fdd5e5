"""Video models: what the paper trains, and its baselines.

In reading order: ``windows``, ``form``, ``boxes``, ``box_attention``, ``attention``, ``blocks``, ``swin3d`` (with the
numbered deviations), ``classifier``, ``create``; then ``weights`` and ``cost``; the other models have a module each.
"""

from __future__ import annotations

from .classifier import take_off_head
from .cost import Cost, ModuleCost, count_cost
from .create import build, create_model, list_models
from .form import Form, set_form
from .swin3d import SwinTransformer3D
from .weights.architecture import architecture_of, count_classes
from .weights.digest import tensor_digest
from .weights.errors import DamagedWeightsError, NoWeightsError, WeightsError
from .weights.inflate import inflate
from .weights.loading import Geometry, HeadLoading, LoadReport, load_checkpoint, load_state
from .weights.networks import WeightSet
from .weights.pixels import pixels_of, read_folder
from .weights.reading import read_checkpoint, read_classes, read_content, read_metadata
from .weights.saving import save_weights

__all__ = [
    "Cost",
    "DamagedWeightsError",
    "Form",
    "Geometry",
    "HeadLoading",
    "LoadReport",
    "ModuleCost",
    "NoWeightsError",
    "SwinTransformer3D",
    "WeightSet",
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
    "pixels_of",
    "read_checkpoint",
    "read_classes",
    "read_content",
    "read_folder",
    "read_metadata",
    "save_weights",
    "set_form",
    "take_off_head",
    "tensor_digest",
]
