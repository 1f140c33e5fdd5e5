"""A model's weights into a file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn


def save_weights(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a model's weights as safetensors, under the names :func:`load_checkpoint` reads.

    The file appears complete and on disk or not at all, with the permissions of any new file. It keeps the names of
    the ``classes`` for :func:`read_classes`, and any other texts for :func:`read_metadata`.
    """
    from safetensors.torch import save_file

    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    # safetensors makes files that only their owner can read
    partial.touch()
    permissions = partial.stat().st_mode
    save_file(state, partial, metadata={**(metadata or {}), "format": "pt", "classes": json.dumps(list(classes))})
    partial.chmod(permissions)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
