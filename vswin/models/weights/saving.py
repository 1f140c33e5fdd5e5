"""A model's weights into a file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from ...tensor_files import TENSOR_DIGEST, TEXT_DIGEST, digest_of_tensors, digest_of_texts, write_tensors
from .digest import raw_tensors


def save_weights(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a model's weights as safetensors, under the names :func:`load_checkpoint` reads.

    The file appears complete and on disk or not at all, with the permissions of any new file; equal weights and texts
    make equal files. It keeps the names of the ``classes`` for :func:`read_classes`, any other texts for
    :func:`read_metadata`, and digests of all of it, which are compared whenever it is read.
    """
    tensors = raw_tensors(model.state_dict())
    texts = {
        **(metadata or {}),
        "format": "pt",
        "classes": json.dumps(list(classes)),
        TENSOR_DIGEST: digest_of_tensors(tensors),
    }
    write_tensors(Path(path), tensors, {**texts, TEXT_DIGEST: digest_of_texts(texts)})
