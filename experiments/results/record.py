"""A record: the small JSON that a finished run leaves in ``results/``, with a compact npz beside it."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vswin.config import Precision
from vswin.errors import ExplainedError

from ..files import Damage, DamagedError, read_bytes
from ..registry.recipe import Scale
from .recorded import REMEDY, digest_of, read_fields, record_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydantic import TypeAdapter

# In an npz names of curves hold a slash, which the file names of other members do not.
_STEPS, _VALUES = ".steps", ".values"
# Whatever numpy raises for a file that is no npz, or only part of one.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)
_ARRAYS = ("classes", "scores", "labels", "broken", "right")


class RecordKind(StrEnum):
    """Where the weights came from: a training here, or a published file tested here."""

    TRAINED = "trained"
    PUBLISHED_WEIGHTS = "published weights"


class RecordError(ExplainedError, ValueError):
    """Records cannot be shown or collected as they are asked for; the message names them."""


@dataclass(frozen=True, kw_only=True)
class Batches:
    """The division of a step's videos: ``effective`` = ``processes`` x ``accumulation`` x at most ``micro``."""

    effective: int
    processes: int
    accumulation: int
    micro: int


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A file of weights: its name and the sha256 of its content; ``tensors`` is the digest of what it holds.

    What a training started from has the name that its recipe says: of a published file, or of a run of ours as
    ``upstream/<row>@<signature>``. Equal weights have one digest of tensors, whatever files they lie in; older records
    have none.
    """

    file: str
    sha256: str
    tensors: str | None = None

    def same_as(self, other: Checkpoint) -> bool | None:
        """True where a digest of one kind says that the weights are equal, False where it says that they are not.

        None where that cannot be told: the files differ, and only one of the two has a digest of its tensors.
        """
        if self.tensors and other.tensors:
            return self.tensors == other.tensors
        if self.sha256 == other.sha256:
            return True
        return None if self.tensors or other.tensors else False


def by_weights(found: Sequence[Checkpoint | None]) -> list[int]:
    """A number for each of ``found``, the same for equal weights: by one digest, or through others that have both."""
    numbers = list(range(len(found)))
    for place, one in enumerate(found):
        for earlier, other in enumerate(found[:place]):
            if one is other or (one and other and one.same_as(other)):
                numbers = [numbers[earlier] if number == numbers[place] else number for number in numbers]
    return numbers


def differing_weights(found: Sequence[Checkpoint | None]) -> str:
    """In words, how trainings differ that ``by_weights`` tells apart."""
    known = [one.same_as(other) if one and other else one is other for one in found for other in found]
    if False in known:
        return "started from different weights"
    return "started from weights that cannot be compared (some records have a digest of the file only)"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The origin of a number. Nothing here names a machine or a path.

    ``dataset``: the manifest of every split that was read. ``cuda`` is the version that torch computes with, None on a
    processor. ``precision`` is that of the training, or else of the test. ``energy_joules`` is what the GPUs used from
    the first step to the end of the test, None where nothing counted it. ``batches``, ``attempts``, ``steps`` and
    ``started_from`` (None from scratch) belong to a training, ``checkpoint`` to published weights; each is None where
    it has no meaning. ``missing_steps``: first and last of each series of steps that the curves lack, since the journal
    lost them.
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
    missing_steps: tuple[tuple[int, int], ...] = ()
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
    in the paper's convention. ``details`` is the digest of the arrays beside it, None until it is collected and in
    records of schema 3.
    """

    schema: int
    kind: RecordKind
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
    details: str | None = None

    @property
    def name(self) -> str:
        """File name without suffix, made of what identifies the record: see ``record_name``."""
        checkpoint = self.provenance.checkpoint
        return record_name(
            {
                "signature": self.signature,
                "protocol": self.protocol,
                "seed": self.seed,
                "provenance": {"dataset": self.provenance.dataset, "checkpoint": checkpoint and asdict(checkpoint)},
            }
        )


@dataclass(frozen=True)
class Curve:
    """A metric over a training: ``steps`` int32 [n], from 1, and ``values`` float32 [n]."""

    steps: NDArray[np.int32]
    values: NDArray[np.float32]


@dataclass(frozen=True)
class Details:
    """Details for statistics and plots that a JSON should not hold.

    ``classes`` int16 and ``scores`` float16 [videos, k]: the highest scores of each video, best first; ``labels``
    int16 and ``broken`` bool [videos]; ``right`` and ``among`` bool [videos]: the videos that top-1 and top-5 count
    (``among`` is None in older records); ``curves`` the training's, by the journal's names (``train/loss``).
    """

    classes: NDArray[np.int16]
    scores: NDArray[np.float16]
    labels: NDArray[np.int16]
    broken: NDArray[np.bool_]
    right: NDArray[np.bool_]
    curves: Mapping[str, Curve]
    among: NDArray[np.bool_] | None = None

    @property
    def among_five(self) -> NDArray[np.bool_]:
        """Test videos whose label is among the five highest scores, [videos].

        Older records leave it to the stored scores, which do not show ties.
        """
        if self.among is not None:
            return self.among
        among: NDArray[np.bool_] = (self.classes[:, :5] == self.labels[:, None]).any(axis=1)
        return among & ~self.broken


@cache
def _adapter() -> TypeAdapter[Record]:
    from pydantic import TypeAdapter

    return TypeAdapter(Record)


def dump(record: Record) -> str:
    """The record as JSON text, byte-stable, with a digest of all that is in it."""
    fields = _adapter().dump_python(record, mode="json")
    # fields that came later are left out where they say nothing, so that older records are written as they were
    source = fields["provenance"]
    if not source["missing_steps"]:
        del source["missing_steps"]
    for weights in filter(None, (source["started_from"], source["checkpoint"])):
        if weights["tensors"] is None:
            del weights["tensors"]
    return json.dumps({**fields, "digest": digest_of(fields)}, indent=2, sort_keys=True) + "\n"


def load(path: Path) -> Record:
    """The record at ``path``, of this schema or the one before; raises DamagedError if it is none, or was changed."""
    from pydantic import ValidationError

    fields = {name: value for name, value in read_fields(path).items() if name != "digest"}
    try:
        return _adapter().validate_json(json.dumps(fields), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DamagedError(Damage(path, f"is not a record: {where}: {first['msg']}", REMEDY)) from error


def load_details(path: Path) -> Details:
    """The details beside the record at ``path``; raises DamagedError if they are missing or damaged."""
    import numpy as np

    file = path.with_suffix(".npz")
    content = io.BytesIO(read_bytes(file, remedy=REMEDY))
    try:
        with np.load(content, allow_pickle=False) as archive:
            names = [name.removesuffix(_STEPS) for name in archive.files if name.endswith(_STEPS)]
            details = Details(
                **{name: archive[name] for name in _ARRAYS},
                among=archive["among"] if "among" in archive.files else None,
                curves={name: Curve(archive[name + _STEPS], archive[name + _VALUES]) for name in names},
            )
    except UNREADABLE as error:
        raise DamagedError(
            Damage(file, f"is no archive of a record ({type(error).__name__}: {error})", REMEDY)
        ) from error
    if any(len(getattr(details, name)) != len(details.labels) for name in _ARRAYS) or (
        details.among is not None and len(details.among) != len(details.labels)
    ):
        raise DamagedError(Damage(file, "its arrays are of different videos", REMEDY))
    if not all(np.isfinite(curve.values).all() for curve in details.curves.values()):
        raise DamagedError(Damage(file, "a curve in it is not finite", REMEDY))
    return details


def content_digest(details: Details) -> str:
    """A digest of names, types, shapes and values of all arrays, whichever program compressed them."""
    import numpy as np

    digest = hashlib.sha256()
    for name, array in sorted(_arrays(details).items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _arrays(details: Details) -> dict[str, NDArray[Any]]:
    arrays = {name: getattr(details, name) for name in _ARRAYS}
    if details.among is not None:
        arrays["among"] = details.among
    for name, curve in details.curves.items():
        arrays |= {name + _STEPS: curve.steps, name + _VALUES: curve.values}
    return arrays


def pack(details: Details) -> bytes:
    """``details`` as a compressed npz, byte-stable."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **_arrays(details))
    return buffer.getvalue()
