"""Verification of records: every number is computed again from what lies beside it, and nothing damaged is averaged."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import folders
from ..files import Damage, DamagedError
from ..registry.recipe import Scale, signatures_of
from .record import (
    Details,
    Record,
    RecordKind,
    by_weights,
    content_digest,
    differing_weights,
    load,
    load_details,
)
from .recorded import REMEDY, SCHEMA, check_name

# A mean of at most some ten thousand booleans, in percent, computed in another order.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Verified:
    """The records of one scale: those that are intact, with their arrays; and what is wrong with the others.

    ``unbound`` counts records of an older schema, whose arrays no digest binds to them. ``remarks`` are differences
    within a row that do not keep its seeds from being averaged, in words.
    """

    scale: Scale
    records: tuple[Record, ...]
    details: dict[str, Details]
    damages: tuple[Damage, ...]
    unbound: int
    remarks: tuple[str, ...]


def verify(scale: Scale, *, results: Path | None = None) -> Verified:
    """Read every record of ``scale``, compute its numbers again, and set aside what does not prove itself.

    The records are those of the folder ``results``, default ``$VSWIN_RESULTS``.

    A record is intact if its file is whole and named after its content, its digests hold, its signatures are those of
    its recipe, and its accuracies those of the arrays beside it. Records of one row and protocol are set aside together
    if they were made on different videos, or started from different weights.
    """
    folder = folders.records(scale) if results is None else results / scale / "runs"
    records: list[Record] = []
    details: dict[str, Details] = {}
    damages: list[Damage] = []
    unbound = 0
    for path in sorted(folder.glob("*.json")):
        try:
            record, beside = examine(path, scale)
        except DamagedError as error:
            damages.append(error.damage)
            continue
        unbound += record.schema != SCHEMA
        records.append(record)
        details[record.name] = beside
    damages += _strays(folder)
    mixed = _mixed(records, folder)
    damages += [damage for damage, _ in mixed]
    apart = {record.name for _, group in mixed for record in group}
    kept = tuple(record for record in records if record.name not in apart)
    return Verified(scale, kept, details, tuple(damages), unbound, tuple(_remarks(kept)))


def examine(path: Path, scale: Scale) -> tuple[Record, Details]:
    """The record at ``path`` and its arrays; raises DamagedError unless each of its numbers follows from them."""
    record = load(path)
    if record.scale is not scale:
        raise _wrong(path, f"is a record of scale {record.scale} among those of {scale}", "move it there")
    check_name(path, record.name)
    beside = load_details(path)
    if record.details is not None and record.details != content_digest(beside):
        raise _wrong(path.with_suffix(".npz"), "is not what its record was made of")
    check_numbers(record, beside, path)
    return record, beside


def check_numbers(record: Record, beside: Details, path: Path) -> None:
    """See that the signatures of ``record`` follow from its recipe, and its numbers from the arrays ``beside`` it.

    Raises DamagedError, which names ``path``.
    """
    signature, protocol = signatures_of(record.recipe)
    for what, stated, found in (("signature", record.signature, signature), ("protocol", record.protocol, protocol)):
        if stated != found:
            raise _wrong(path, f"states the {what} {stated}, but that of its recipe is {found}")
    if len(beside.labels) != record.videos:
        raise _wrong(path, f"states {record.videos} videos, but {len(beside.labels)} lie beside it")
    for number, given, value in (
        ("broken", record.broken, int(beside.broken.sum())),
        ("top1", record.top1, 100 * float(beside.right.mean())),
        ("top5", record.top5, 100 * float(beside.among_five.mean())),
        ("class_accuracy", record.class_accuracy, class_accuracy(beside)),
    ):
        if not abs(given - value) <= _ROUNDING:
            raise _wrong(path, f"states {number} {given:g}, but the scores beside it give {value:g}")
    for name, curve in beside.curves.items():
        if not (np.diff(curve.steps) > 0).all() or (record.provenance.steps or 0) < curve.steps[-1]:
            raise _wrong(path.with_suffix(".npz"), f"the steps of curve {name} are not those of a training")


def class_accuracy(details: Details) -> float:
    """Mean over the classes with test videos of top-1, in percent."""
    videos = np.bincount(details.labels)
    right = np.bincount(details.labels, weights=details.right, minlength=len(videos))
    return float(100 * np.mean(right[videos > 0] / videos[videos > 0]))


def _strays(folder: Path) -> list[Damage]:
    """Files among records that are none of theirs."""
    if not folder.is_dir():
        return []
    return [
        Damage(path, "is no record, nor of one", "delete it, or move it elsewhere")
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".")
        and path.suffix != ".json"
        and not (path.suffix == ".npz" and path.with_suffix(".json").exists())
    ]


def _mixed(records: Iterable[Record], folder: Path) -> list[tuple[Damage, Sequence[Record]]]:
    """Records of one row that must not be averaged, by row, with the reason."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record.kind is RecordKind.TRAINED:
            groups[record.signature, record.protocol].append(record)
    found: list[tuple[Damage, Sequence[Record]]] = []
    for (signature, protocol), group in groups.items():
        starts = [one.provenance.started_from for one in group]
        for what, values in (
            ("were made on different videos", [str(sorted(one.provenance.videos.items())) for one in group]),
            (differing_weights(starts), [str(number) for number in by_weights(starts)]),
        ):
            counts = Counter(values)
            if len(counts) > 1:
                odd = [
                    one.name for one, value in zip(group, values, strict=True) if counts[value] < max(counts.values())
                ]
                names = ", ".join(odd or [one.name for one in group])
                damage = Damage(
                    folder / f"{signature}-{protocol}-*.json",
                    f"the {len(group)} seeds {what} and are not averaged ({names})",
                    "keep the records of one kind",
                )
                found.append((damage, group))
                break
    return found


def _remarks(records: Iterable[Record]) -> Iterable[str]:
    """One line for each row whose seeds were computed with different versions of torch or on different devices, and
    for each record whose curves have gaps.
    """
    records = list(records)
    for record in records:
        if lost := ", ".join(f"{first} to {last}" for first, last in record.provenance.missing_steps):
            yield f"{record.name}: its curves lack steps {lost}, which its journal lost; no accuracy depends on them"
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.signature, record.protocol].append(record)
    for (signature, protocol), group in groups.items():
        for what in ("torch", "cuda", "device", "precision"):
            values = sorted({str(getattr(record.provenance, what)) for record in group})
            if len(values) > 1:
                yield f"{signature}-{protocol}: seeds differ in {what}: {', '.join(values)}"


def _wrong(path: Path, what: str, remedy: str = REMEDY) -> DamagedError:
    return DamagedError(Damage(path, what, remedy))
