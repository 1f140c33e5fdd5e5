"""A record: the small JSON that a finished run leaves in ``results/``, with a compact npz beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from .recipe import Scale

SCHEMA = 1


class Kind(StrEnum):
    """Where the weights came from: a training here, or a published file tested here."""

    TRAINED = "trained"
    PUBLISHED_WEIGHTS = "published weights"


class RecordError(ValueError):
    """A file in the results folder is not a record; the message names it."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a number came from. Nothing here names a machine or a path."""

    commit: str
    dirty: bool
    finished: str
    python: str
    torch: str
    software: str
    device: str
    threads: int
    dataset: Mapping[str, str]
    attempts: int
    steps: int
    wall_seconds: float
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished run. ``top1`` and ``top5`` in percent of test videos; ``flops`` per view, paper's convention."""

    schema: int
    kind: Kind
    scale: Scale
    signature: str
    protocol: str
    seed: int
    top1: float
    top5: float
    videos: int
    params: int
    flops: int
    recipe: Mapping[str, Any]
    provenance: Provenance

    @property
    def name(self) -> str:
        """File name without suffix."""
        return f"{self.signature}-{self.protocol}-seed{self.seed}"


@dataclass(frozen=True)
class Details:
    """What statistics and plots need and a JSON should not hold.

    ``classes`` int16 and ``scores`` float16 [videos, k]: the highest scores of each video, best first;
    ``labels`` int16 [videos]; ``steps`` int32 and ``loss`` float32 [steps]: the training curve.
    """

    classes: NDArray[np.int16]
    scores: NDArray[np.float16]
    labels: NDArray[np.int16]
    steps: NDArray[np.int32]
    loss: NDArray[np.float32]


@cache
def _adapter() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


def dump(record: Record) -> str:
    """The record as JSON text, byte-stable."""
    return json.dumps(_adapter().dump_python(record, mode="json"), indent=2, sort_keys=True) + "\n"


def load(path: Path) -> Record:
    """The record at ``path``; raises RecordError if it is none, or one of another schema."""
    try:
        record = _adapter().validate_json(path.read_bytes(), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(
            f"{path} is not a record: {where}: {first['msg']}; delete it and run vswin collect again"
        ) from error
    if record.schema != SCHEMA:
        raise RecordError(f"{path}: expected record schema {SCHEMA}, got {record.schema}")
    return record


def load_details(path: Path) -> Details:
    """The details beside the record at ``path``."""
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as archive:
        return Details(**{name: archive[name] for name in archive.files})
