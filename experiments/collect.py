"""Turns finished runs into records, as often as asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import folders, journal
from .recipe import Scale
from .record import Curve, Details, Record, RecordError, dump, load, pack
from .registry import find_variant
from .runs import RunDirectory, published_folder, write_bytes, write_text

_TOP = 5
# What a training is judged by; the journal also holds what the machine did.
_CURVES = ("train/loss", "train/top1", "train/lr", "val/top1", "speed/clips_per_second")


def load_records(scale: Scale) -> list[Record]:
    """Every record of ``scale``, sorted by file name; raises RecordError for what is none, or is of another scale."""
    records = []
    for path in sorted(folders.records(scale).glob("*.json")):
        record = load(path)
        if record.scale is not scale:
            raise RecordError(f"{path} is a record of scale {record.scale}: it must not lie among those of {scale}")
        records.append(record)
    return records


def records_of(run: RunDirectory, protocol: str) -> list[Path]:
    """The records of ``run`` tested under ``protocol``: one for each version of the videos."""
    return sorted(folders.records(run.scale).glob(f"{run.signature}-{protocol}-*-seed{run.seed}.json"))


def collect(runs: Iterable[RunDirectory]) -> Iterator[Path]:
    """Write the record of every finished test and yield its path; what is unchanged is left alone.

    Raises ValueError for runs at scale ``tiny``: they exist for tests and mean nothing.
    """
    for run in runs:
        if run.scale is Scale.TINY:
            raise ValueError("runs at scale 'tiny' leave no records: they exist for tests and mean nothing")
        for result in run.results():
            yield _collect(result, scale=run.scale, journal_of=run)


def collect_published(scale: Scale) -> Iterator[Path]:
    """As ``collect``, of the published weights that were tested here."""
    if scale is Scale.TINY:
        raise ValueError("tests at scale 'tiny' leave no records: they exist for tests and mean nothing")
    for result in sorted(published_folder(scale).glob("*.json")):
        yield _collect(result, scale=scale, journal_of=None)


# The model that the notebooks look into: small enough to lie in git.
SHOWN = "table4/joint"
_MOST_BYTES = 2**20


def shown_weights(scale: Scale) -> Path:
    """``$VSWIN_RESULTS/<scale>/weights/table4-joint.safetensors``: the weights of seed 0 of ``SHOWN``."""
    return folders.results() / scale / "weights" / f"{SHOWN.replace('/', '-')}.safetensors"


def collect_weights(scale: Scale) -> Iterator[Path]:
    """Keep the weights of seed 0 of ``SHOWN`` if they are there and below 1 MiB; yields their file."""
    run = RunDirectory(scale, find_variant(SHOWN).at(scale).signature, 0)
    if not run.results() or not run.weights.exists() or run.weights.stat().st_size > _MOST_BYTES:
        return
    target = shown_weights(scale)
    content = run.weights.read_bytes()
    if not target.exists() or target.read_bytes() != content:
        write_bytes(target, content)
    yield target


def _collect(result: Path, *, scale: Scale, journal_of: RunDirectory | None) -> Path:
    record = load(result)
    if record.scale is not scale:
        raise RecordError(f"{result} is a record of scale {record.scale} among runs of scale {scale}")
    target = folders.records(scale) / f"{record.name}.json"
    text = dump(record)
    beside = target.with_suffix(".npz")
    if not (beside.exists() and target.exists() and target.read_text() == text):
        # the npz first: a record is complete when its JSON is there
        write_bytes(beside, pack(details(result.with_suffix(".npz"), journal_of=journal_of)))
        write_text(target, text)
    return target


def details(predictions: Path, *, journal_of: RunDirectory | None) -> Details:
    """The details of a test, from its predictions and, where the model was trained here, the run's journal."""
    with np.load(predictions, allow_pickle=False) as archive:
        scores, labels, broken = archive["scores"], archive["labels"], archive["broken"]
    best = np.argsort(-scores, axis=1, kind="stable")[:, :_TOP]
    curves: dict[str, list[tuple[int, float]]] = {name: [] for name in _CURVES}
    for entry, _ in journal.read(journal_of.journal) if journal_of else ():
        for name in _CURVES:
            if name in entry.metrics:
                curves[name].append((entry.step, entry.metrics[name]))
    return Details(
        classes=best.astype(np.int16),
        scores=np.take_along_axis(scores, best, axis=1).astype(np.float16),
        labels=labels.astype(np.int16),
        broken=broken,
        # not from the rounded scores, which may tie
        right=_right(scores, labels, broken),
        curves={name: _curve(points) for name, points in curves.items() if points},
    )


def _right(scores: NDArray[np.float32], labels: NDArray[np.int64], broken: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What ``Predictions.top`` counts, without torch: the own score is above all others, which NaN never is."""
    own = np.take_along_axis(scores, labels[:, None].astype(np.int64), axis=1)
    right: NDArray[np.bool_] = ((scores < own).sum(axis=1) == scores.shape[1] - 1) & ~broken
    return right


def _curve(points: list[tuple[int, float]]) -> Curve:
    steps, values = zip(*points, strict=True)
    return Curve(np.asarray(steps, dtype=np.int32), np.asarray(values, dtype=np.float32))
