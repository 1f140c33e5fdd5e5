"""Turns finished runs into records, as often as asked."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import folders
from ..files import Damage, DamagedError, read_bytes, write_bytes, write_text
from ..registry.catalogue import find_experiment, find_variant
from ..registry.recipe import Scale
from ..runs import journal
from ..runs.directory import RunDirectory, published_folder
from ..runs.run import Run
from .record import UNREADABLE, Curve, Details, Record, RecordError, content_digest, dump, load, pack
from .recorded import SCHEMA
from .verify import check_numbers, examine

_REMEDY = "vswin launch sets the test aside, and tests the model again"
_TOP = 5
# What a training is judged by; the journal also holds what the machine did.
_CURVES = ("train/loss", "train/top1", "train/lr", "val/top1", "speed/clips_per_second")


def records_of(run: Run, protocol: str) -> list[Path]:
    """The records of ``run`` tested under ``protocol``: one for each version of the videos."""
    return sorted(folders.records(run.scale).glob(f"{run.signature}-{protocol}-*-seed{run.seed}.json"))


def collect(runs: Iterable[Run]) -> Iterator[Path | Damage]:
    """Write the record of every finished test and yield its path; what is unchanged is left alone.

    A test whose files are damaged leaves no record: the damage is yielded instead, and the others are collected.

    Raises ValueError for runs at scale ``tiny``: they exist for tests and mean nothing.
    """
    for run in runs:
        if run.scale is Scale.TINY:
            raise ValueError("runs at scale 'tiny' leave no records: they exist for tests and mean nothing")
        for result in run.directory.results():
            yield _collected(result, scale=run.scale, journal_of=run)


def collect_published(scale: Scale) -> Iterator[Path | Damage]:
    """As ``collect``, of the published weights that were tested here."""
    if scale is Scale.TINY:
        raise ValueError("tests at scale 'tiny' leave no records: they exist for tests and mean nothing")
    for result in sorted(published_folder(scale).glob("*.json")):
        yield _collected(result, scale=scale, journal_of=None)


# The model that the notebooks look into: small enough to lie in git.
SHOWN = "table4/joint"
_MOST_BYTES = 2**20


def shown_weights(scale: Scale) -> Path:
    """``$VSWIN_RESULTS/<scale>/weights/table4-joint.safetensors``: the weights of seed 0 of ``SHOWN``."""
    return folders.results() / scale / "weights" / f"{SHOWN.replace('/', '-')}.safetensors"


def collect_weights(scale: Scale) -> Iterator[Path]:
    """Keep the weights of seed 0 of ``SHOWN`` if they are there and below 1 MiB; yields their file."""
    run = Run(find_experiment(scale, find_variant(SHOWN)), 0).directory
    if not run.results() or not run.weights.exists() or run.weights.stat().st_size > _MOST_BYTES:
        return
    target = shown_weights(scale)
    content = run.weights.read_bytes()
    if not target.exists() or target.read_bytes() != content:
        write_bytes(target, content)
    yield target


def _collected(result: Path, *, scale: Scale, journal_of: Run | None) -> Path | Damage:
    try:
        return _collect(result, scale=scale, journal_of=journal_of)
    except DamagedError as error:
        return error.damage
    except OSError as error:
        # a directory in the place of a record, or a folder that cannot be written to
        where = Path(error.filename2 or error.filename or result)
        return Damage(where, error.strerror or str(error), "move away what is there, and collect again")


def _collect(result: Path, *, scale: Scale, journal_of: Run | None) -> Path:
    record = load(result)
    if record.scale is not scale:
        raise RecordError(f"{result} is a record of scale {record.scale} among runs of scale {scale}")
    if journal_of:
        _check_own(record, journal_of.directory, result)
    found = details(result.with_suffix(".npz"), journal_of=journal_of)
    check_numbers(record, found, result)
    lost = record.provenance.missing_steps
    if journal_of is not None:
        lost = journal.missing_steps(journal_of.directory.journal, last=record.provenance.steps or 0)
    record = replace(
        record,
        schema=SCHEMA,
        details=content_digest(found),
        provenance=replace(record.provenance, missing_steps=lost),
    )
    target = folders.records(scale) / f"{record.name}.json"
    try:
        there, _ = examine(target, scale)
    except DamagedError:
        # missing as well as damaged: the run has what it takes to write it
        there = None
    if there and journal_of and _has_more(there, record):
        lacking = _lost(record) - _lost(there)
        remedy = "its record keeps the curves that it has; put the journal back, or delete the record to have it anew"
        raise DamagedError(Damage(journal_of.directory.journal, f"lacks {lacking} steps of training", remedy))
    if there != record:
        # the npz first: a record is complete when its JSON is there
        write_bytes(target.with_suffix(".npz"), pack(found))
        write_text(target, dump(record))
    return target


def check_test(run: RunDirectory, protocol: str) -> None:
    """See that the record of a test of ``run`` is its own, and follows from the scores beside it.

    Raises DamagedError.
    """
    result = run.result(protocol)
    record = load(result)
    _check_own(record, run, result)
    check_numbers(record, details(result.with_suffix(".npz"), journal_of=None), result)


def _check_own(record: Record, run: RunDirectory, result: Path) -> None:
    its = (record.scale, record.signature, record.seed, record.protocol)
    if its != (run.scale, run.signature, run.seed, result.stem):
        raise DamagedError(Damage(result, "is the record of another test", _REMEDY))


def _has_more(there: Record, record: Record) -> bool:
    """True where ``there`` is of the same test, from before the journal lost steps that ``record`` lacks."""
    same = replace(
        record,
        details=there.details,
        provenance=replace(record.provenance, missing_steps=there.provenance.missing_steps),
    )
    return same == there and _lost(there) < _lost(record)


def _lost(record: Record) -> int:
    return sum(last - first + 1 for first, last in record.provenance.missing_steps)


def details(predictions: Path, *, journal_of: Run | None) -> Details:
    """The details of a test, from its predictions and, where the model was trained here, the run's journal.

    Raises DamagedError if one of them cannot be read.
    """
    content = io.BytesIO(read_bytes(predictions, remedy=_REMEDY))
    try:
        with np.load(content, allow_pickle=False) as archive:
            scores, labels, broken = archive["scores"], archive["labels"], archive["broken"]
    except UNREADABLE as error:
        raise DamagedError(Damage(predictions, f"are no scores ({type(error).__name__}: {error})", _REMEDY)) from error
    best = np.argsort(-scores, axis=1, kind="stable")[:, :_TOP]
    curves: dict[str, list[tuple[int, float]]] = {name: [] for name in _CURVES}
    for entry, _ in journal.read(journal_of.directory.journal) if journal_of else ():
        for name in _CURVES:
            if name in entry.metrics:
                curves[name].append((entry.step, entry.metrics[name]))
    return Details(
        classes=best.astype(np.int16),
        scores=np.take_along_axis(scores, best, axis=1).astype(np.float16),
        labels=labels.astype(np.int16),
        broken=broken,
        # not from the rounded scores, which may tie
        right=_among(1, scores, labels, broken),
        among=_among(_TOP, scores, labels, broken),
        curves={name: _curve(points) for name, points in curves.items() if points},
    )


def _among(
    k: int, scores: NDArray[np.float32], labels: NDArray[np.int64], broken: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Videos that ``Predictions.top`` counts, without torch: ties and NaN count as wrong."""
    own = np.take_along_axis(scores, labels[:, None].astype(np.int64), axis=1)
    # NaN is not below anything
    among: NDArray[np.bool_] = ((~(scores < own)).sum(axis=1) <= k) & ~broken
    return among


def _curve(points: list[tuple[int, float]]) -> Curve:
    steps, values = zip(*points, strict=True)
    return Curve(np.asarray(steps, dtype=np.int32), np.asarray(values, dtype=np.float32))
