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

SCHEMA = 2


class Kind(StrEnum):
    """Where the weights came from: a training here, or a published file tested here."""

    TRAINED = "trained"
    PUBLISHED_WEIGHTS = "published weights"


class RecordError(ValueError):
    """A file in the results folder is not a record; the message names it."""


@dataclass(frozen=True, kw_only=True)
class Batches:
    """How a step's videos were shared out: ``effective`` = ``processes`` x ``accumulation`` x at most ``micro``."""

    effective: int
    processes: int
    accumulation: int
    micro: int


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The file of weights that was tested: its name and the sha256 of its content."""

    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a number came from. Nothing here names a machine or a path.

    ``dataset``: the manifest of every split that was read. ``batches``, ``attempts`` and ``steps`` belong to a
    training, ``checkpoint`` to published weights; each is None where it has no meaning.
    """

    commit: str
    dirty: bool
    finished: str
    python: str
    torch: str
    software: str
    device: str
    processes: int
    nodes: int
    threads: int
    dataset: Mapping[str, Mapping[str, Any]]
    batches: Batches | None = None
    checkpoint: Checkpoint | None = None
    attempts: int | None = None
    steps: int | None = None
    wall_seconds: float
    cpu_seconds: float

    @property
    def videos(self) -> dict[str, str]:
        """The fingerprint of every split that was read: what must agree before numbers are averaged."""
        return {split: str(manifest["fingerprint"]) for split, manifest in self.dataset.items()}


@dataclass(frozen=True, kw_only=True)
class Record:
    """One test of one model under one protocol.

    ``seed`` is None for published weights. ``top1`` and ``top5`` in percent of test videos, ``class_accuracy`` the
    mean over classes of top-1; ``broken`` of the ``videos`` could not be read and count as wrong; ``flops`` per view
    in the paper's convention.
    """

    schema: int
    kind: Kind
    scale: Scale
    signature: str
    protocol: str
    seed: int | None
    top1: float
    top5: float
    class_accuracy: float
    videos: int
    broken: int
    params: int
    flops: int
    recipe: Mapping[str, Any]
    provenance: Provenance

    @property
    def name(self) -> str:
        """File name without suffix."""
        checkpoint = self.provenance.checkpoint
        what = f"seed{self.seed}" if checkpoint is None else f"published-{checkpoint.sha256[:10]}"
        return f"{self.signature}-{self.protocol}-{what}"


@dataclass(frozen=True)
class Details:
    """What statistics and plots need and a JSON should not hold.

    ``classes`` int16 and ``scores`` float16 [videos, k]: the highest scores of each video, best first; ``labels``
    int16 and ``broken`` bool [videos]; ``steps`` int32 and ``loss`` float32 [steps]: the training curve.
    """

    classes: NDArray[np.int16]
    scores: NDArray[np.float16]
    labels: NDArray[np.int16]
    broken: NDArray[np.bool_]
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
