"""Golden files of the published implementation, and the weights and inputs they were measured on.

Both are drawn again with numpy's legacy generator, by the rule that made the files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.support.places import GOLDEN


def golden(name: str) -> tuple[dict[str, Any], Mapping[str, NDArray[Any]]]:
    with np.load(GOLDEN / f"{name}.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    return json.loads(str(arrays.pop("meta"))), arrays


def drawn_weights(shapes: Mapping[str, list[int]], *, seed: int) -> dict[str, Tensor]:
    rng = np.random.RandomState(seed)
    weights = {}
    for name in sorted(shapes):
        if name.endswith(("relative_position_index", "attn_mask")):
            continue
        shape = shapes[name]
        values = rng.standard_normal(shape).astype(np.float32)
        if "norm" in name and name.endswith("weight"):
            values = 1 + 0.1 * values
        elif "relative_position_bias_table" in name:
            values = 0.5 * values
        elif len(shape) > 1:
            values = values / np.sqrt(np.prod(shape[1:]))
        else:
            values = 0.1 * values
        weights[name] = torch.from_numpy(values.astype(np.float32))
    return weights


def drawn_input(shape: list[int], *, seed: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))
