"""Turns finished runs into records, as often as asked."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from . import folders, journal
from .recipe import Scale
from .record import Details, Record, dump, load
from .runs import RunDirectory, State, write_bytes, write_text

_TOP = 5


def records_folder(scale: Scale) -> Path:
    """``$VSWIN_RESULTS/<scale>/runs``."""
    return folders.results() / scale / "runs"


def load_records(scale: Scale) -> list[Record]:
    """Every record of ``scale``, sorted by file name; raises RecordError for a file that is none."""
    return [load(path) for path in sorted(records_folder(scale).glob("*.json"))]


def collect(runs: Iterable[RunDirectory]) -> Iterator[Path]:
    """Write the record of every finished run and yield its path; what is unchanged is left alone.

    Raises ValueError for runs at scale ``tiny``: they exist for tests and mean nothing.
    """
    for run in runs:
        if run.scale is Scale.TINY:
            raise ValueError("runs at scale 'tiny' leave no records: they exist for tests and mean nothing")
        if run.state() is not State.DONE:
            continue
        record = load(run.result)
        target = records_folder(run.scale) / f"{record.name}.json"
        text = dump(record)
        beside = target.with_suffix(".npz")
        if not (beside.exists() and target.exists() and target.read_text() == text):
            # the npz first: a record is complete when its JSON is there
            write_bytes(beside, _pack(details(run)))
            write_text(target, text)
        yield target


def details(run: RunDirectory) -> Details:
    """The details of a finished run, from its predictions and its journal."""
    with np.load(run.predictions, allow_pickle=False) as archive:
        scores, labels = archive["scores"], archive["labels"]
    best = np.argsort(-scores, axis=1, kind="stable")[:, :_TOP]
    curve = [
        (entry.step, entry.metrics["train/loss"])
        for entry, _ in journal.read(run.journal)
        if "train/loss" in entry.metrics
    ]
    steps, loss = zip(*curve, strict=True) if curve else ((), ())
    return Details(
        classes=best.astype(np.int16),
        scores=np.take_along_axis(scores, best, axis=1).astype(np.float16),
        labels=labels.astype(np.int16),
        steps=np.asarray(steps, dtype=np.int32),
        loss=np.asarray(loss, dtype=np.float32),
    )


def _pack(content: Details) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **vars(content))
    return buffer.getvalue()
