"""A record: the small JSON that a finished run leaves in ``results/``, with a compact npz beside it."""

from __future__ import annotations

import hashlib
import io
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

from vswin.config import Precision

from .recipe import Scale

SCHEMA = 3
# In an npz names of curves hold a slash, which the file names of other members do not.
_STEPS, _VALUES = ".steps", ".values"


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
    """A file of weights: its name and the sha256 of its content.

    What a training started from has the name that its recipe says: of a published file, or of a run of ours as
    ``upstream/<row>@<signature>``.
    """

    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a number came from. Nothing here names a machine or a path.

    ``dataset``: the manifest of every split that was read. ``cuda`` is the version that torch computes with, None on a
    processor. ``precision`` is that of the training, or else of the test. ``energy_joules`` is what the GPUs used from
    the first step to the end of the test, None where nothing counted it. ``batches``, ``attempts``, ``steps`` and
    ``started_from`` (None from scratch) belong to a training, ``checkpoint`` to published weights; each is None where
    it has no meaning.
    """

    commit: str
    dirty: bool
    finished: str
    python: str
    torch: str
    cuda: str | None
    software: str
    device: str
    precision: Precision
    processes: int
    nodes: int
    threads: int
    dataset: Mapping[str, Mapping[str, Any]]
    batches: Batches | None = None
    started_from: Checkpoint | None = None
    checkpoint: Checkpoint | None = None
    attempts: int | None = None
    steps: int | None = None
    wall_seconds: float
    cpu_seconds: float
    energy_joules: float | None = None

    @property
    def videos(self) -> dict[str, str]:
        """The fingerprint of every split that was read: what must agree before numbers are averaged."""
        return {split: str(manifest["fingerprint"]) for split, manifest in self.dataset.items()}

    @property
    def tested(self) -> Mapping[str, Any]:
        """The manifest of the split that was tested."""
        return self.dataset["test"] if "test" in self.dataset else self.dataset["val"]


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
        """File name without suffix: what was trained, how and on which videos it was tested, and what made it one of
        several.
        """
        checkpoint = self.provenance.checkpoint
        what = f"seed{self.seed}" if checkpoint is None else f"published-{checkpoint.sha256[:10]}"
        videos = json.dumps(self.provenance.videos, sort_keys=True)
        return f"{self.signature}-{self.protocol}-{hashlib.sha256(videos.encode()).hexdigest()[:6]}-{what}"


@dataclass(frozen=True)
class Curve:
    """A metric over a training: ``steps`` int32 [n], from 1, and ``values`` float32 [n]."""

    steps: NDArray[np.int32]
    values: NDArray[np.float32]


@dataclass(frozen=True)
class Details:
    """What statistics and plots need and a JSON should not hold.

    ``classes`` int16 and ``scores`` float16 [videos, k]: the highest scores of each video, best first; ``labels``
    int16 and ``broken`` bool [videos]; ``right`` bool [videos]: what top-1 counts; ``curves`` the training's, by the
    journal's names (``train/loss``).
    """

    classes: NDArray[np.int16]
    scores: NDArray[np.float16]
    labels: NDArray[np.int16]
    broken: NDArray[np.bool_]
    right: NDArray[np.bool_]
    curves: Mapping[str, Curve]


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
        names = [name.removesuffix(_STEPS) for name in archive.files if name.endswith(_STEPS)]
        return Details(
            **{name: archive[name] for name in ("classes", "scores", "labels", "broken", "right")},
            curves={name: Curve(archive[name + _STEPS], archive[name + _VALUES]) for name in names},
        )


def load_right(path: Path, k: int) -> NDArray[np.bool_]:
    """Which videos [videos] of the record at ``path`` have their label among the ``k`` highest scores, 1 or 5.

    Raises RecordError if the details are missing. Quicker than ``load_details``: an npz is read in parts.
    """
    if not path.with_suffix(".npz").exists():
        raise RecordError(f"{path} has no details beside it: {path.with_suffix('.npz').name} is missing")
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as archive:
        if k == 1:
            return np.asarray(archive["right"])
        among: NDArray[np.bool_] = (archive["classes"][:, :k] == archive["labels"][:, None]).any(axis=1)
        return among & ~archive["broken"]


def pack(details: Details) -> bytes:
    """``details`` as a compressed npz, byte-stable."""
    arrays = {name: value for name, value in vars(details).items() if name != "curves"}
    for name, curve in details.curves.items():
        arrays |= {name + _STEPS: curve.steps, name + _VALUES: curve.values}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
