"""Time that all tables and the report take from a thousand records: ``make bench`` prints it.

The records are made up and lie in a throw-away folder; each has the predictions of as many test videos as those of
scale mini. Nothing of them is kept.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from vswin.config import Precision

from .. import folders
from ..job import provenance
from ..registry.catalogue import Experiment, experiments, tables_at
from ..registry.recipe import Scale, changed, to_dict
from ..results import pages as tables
from ..results.comparison import Results
from ..results.record import Curve, Details, Provenance, Record, RecordKind, content_digest, dump, pack
from ..results.recorded import SCHEMA
from ..results.report import report
from ..results.verify import class_accuracy

RECORDS = 1000
_VIDEOS, _CLASSES, _STEPS = 384, 6, 700


def write_records(scale: Scale, *, count: int) -> int:
    """Write at least ``count`` made-up records of every row of ``scale`` to ``$VSWIN_RESULTS``; returns how many."""
    chosen = experiments(scale)
    rng = np.random.default_rng(0)
    written = 0
    while written < count:
        for experiment in chosen:
            for record in _records(experiment, scale=scale, seed=written // len(chosen)):
                details = _details(rng)
                path = folders.records(scale) / f"{record.name}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                record = dataclasses.replace(
                    record,
                    top1=100 * float(details.right.mean()),
                    top5=100 * float(details.among_five.mean()),
                    class_accuracy=class_accuracy(details),
                    details=content_digest(details),
                )
                path.with_suffix(".npz").write_bytes(pack(details))
                path.write_text(dump(record))
            written += 1
    return written


def _records(experiment: Experiment, *, scale: Scale, seed: int) -> list[Record]:
    manifest = {"fingerprint": "0" * 64, "source": "test.txt", "videos": _VIDEOS, "classes": list("abcdef")}
    source = Provenance(
        commit="0" * 40,
        dirty=False,
        finished="2021-06-24T00:00:00Z",
        python="3.11",
        torch="2.13.0",
        cuda=None,
        software="0" * 16,
        device="made up",
        precision=Precision.FP32,
        processes=1,
        nodes=1,
        threads=1,
        dataset={"train": manifest, "val": manifest, "test": manifest},
        attempts=1,
        steps=_STEPS,
        wall_seconds=60.0,
        cpu_seconds=60.0,
    )
    return [
        Record(
            schema=SCHEMA,
            kind=RecordKind.TRAINED,
            scale=scale,
            signature=experiment.recipe.signature,
            protocol=signature,
            seed=seed,
            top1=50.0,
            top5=99.0,
            class_accuracy=50.0,
            videos=_VIDEOS,
            broken=0,
            params=10**5,
            flops=10**7,
            recipe=to_dict(changed(experiment.recipe, {"protocol": protocol})),
            provenance=source,
        )
        for signature, protocol in experiment.protocols.items()
    ]


def _details(rng: np.random.Generator) -> Details:
    classes = rng.permuted(np.tile(np.arange(_CLASSES, dtype=np.int16), (_VIDEOS, 1)), axis=1)[:, :5]
    labels = rng.integers(0, _CLASSES, _VIDEOS).astype(np.int16)
    broken = np.zeros(_VIDEOS, dtype=np.bool_)
    steps = np.arange(1, _STEPS + 1, dtype=np.int32)
    return Details(
        classes=classes,
        scores=np.sort(rng.random((_VIDEOS, 5)), axis=1)[:, ::-1].astype(np.float16),
        labels=labels,
        broken=broken,
        right=classes[:, 0] == labels,
        curves={"train/loss": Curve(steps, rng.random(_STEPS).astype(np.float32))},
    )


def measure() -> tuple[int, float, float]:
    """The number of records, and the seconds from their files to those of all tables, and to the report."""
    before = os.environ.get("VSWIN_RESULTS")
    with tempfile.TemporaryDirectory(prefix="vswin-bench-") as folder:
        os.environ["VSWIN_RESULTS"] = str(Path(folder))
        try:
            count = write_records(Scale.MINI, count=RECORDS)
            start = time.perf_counter()
            results = Results.load(Scale.MINI)
            tables.write(tables.contents(tables.page(table, results) for table in tables_at(Scale.MINI)))
            of_tables = time.perf_counter() - start
            start = time.perf_counter()
            report(Results.load(Scale.MINI), beside=folders.results())
            return count, of_tables, time.perf_counter() - start
        finally:
            if before is None:
                del os.environ["VSWIN_RESULTS"]
            else:
                os.environ["VSWIN_RESULTS"] = before


def main() -> None:
    """The command."""
    count, *found = measure()
    for what, seconds, most in zip(("All tables", "The report"), found, (5, 10), strict=True):
        goal = f"under {most} s" if seconds < most else f"NOT under the {most} s that are the goal"
        print(f"{what} from {count} records: {seconds:.2f} s ({goal}), {provenance.processor()}, one thread")


if __name__ == "__main__":
    main()
