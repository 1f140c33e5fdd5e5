"""Turns finished runs into records, as often as asked."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from . import folders, journal
from .recipe import Scale
from .record import Details, Record, dump, load
from .runs import RunDirectory, published_folder, write_bytes, write_text

_TOP = 5


def records_folder(scale: Scale) -> Path:
    """``$VSWIN_RESULTS/<scale>/runs``."""
    return folders.results() / scale / "runs"


def load_records(scale: Scale) -> list[Record]:
    """Every record of ``scale``, sorted by file name; raises RecordError for a file that is none."""
    return [load(path) for path in sorted(records_folder(scale).glob("*.json"))]


def collect(runs: Iterable[RunDirectory]) -> Iterator[Path]:
    """Write the record of every finished test and yield its path; what is unchanged is left alone.

    Raises ValueError for runs at scale ``tiny``: they exist for tests and mean nothing.
    """
    for run in runs:
        if run.scale is Scale.TINY:
            raise ValueError("runs at scale 'tiny' leave no records: they exist for tests and mean nothing")
        for result in run.results():
            yield _collect(result, journal_of=run)


def collect_published(scale: Scale) -> Iterator[Path]:
    """As ``collect``, of the published weights that were tested here."""
    for result in sorted(published_folder(scale).glob("*.json")):
        yield _collect(result, journal_of=None)


def _collect(result: Path, *, journal_of: RunDirectory | None) -> Path:
    record = load(result)
    target = records_folder(record.scale) / f"{record.name}.json"
    text = dump(record)
    beside = target.with_suffix(".npz")
    if not (beside.exists() and target.exists() and target.read_text() == text):
        # the npz first: a record is complete when its JSON is there
        write_bytes(beside, _pack(details(result.with_suffix(".npz"), journal_of=journal_of)))
        write_text(target, text)
    return target


def details(predictions: Path, *, journal_of: RunDirectory | None) -> Details:
    """The details of a test, from its predictions and, where the model was trained here, the run's journal."""
    with np.load(predictions, allow_pickle=False) as archive:
        scores, labels, broken = archive["scores"], archive["labels"], archive["broken"]
    best = np.argsort(-scores, axis=1, kind="stable")[:, :_TOP]
    curve = [
        (entry.step, entry.metrics["train/loss"])
        for entry, _ in (journal.read(journal_of.journal) if journal_of else ())
        if "train/loss" in entry.metrics
    ]
    steps, loss = zip(*curve, strict=True) if curve else ((), ())
    return Details(
        classes=best.astype(np.int16),
        scores=np.take_along_axis(scores, best, axis=1).astype(np.float16),
        labels=labels.astype(np.int16),
        broken=broken,
        steps=np.asarray(steps, dtype=np.int32),
        loss=np.asarray(loss, dtype=np.float32),
    )


def _pack(content: Details) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **vars(content))
    return buffer.getvalue()
