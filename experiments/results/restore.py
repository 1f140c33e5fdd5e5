"""Run directories made again from records, so that MLflow can show what only ``results/`` still has."""

from __future__ import annotations

import calendar
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator

from .. import folders
from ..files import write_json, write_text
from ..registry.catalogue import experiments
from ..registry.table import Table
from ..runs.directory import RunDirectory
from ..runs.run import Run
from .comparison import Results
from .record import Record, RecordKind, dump, load_details


def restore(tables: Iterable[Table], results: Results, *, every: int = 1) -> Iterator[Run]:
    """Write run directories under ``$VSWIN_RUNS`` for the trainings of ``tables`` that have records.

    Those that exist are left alone. Of the curves every ``every``-th step is kept, and the last one.

    They hold recipe, journal, data, code and the records; no checkpoints, weights or scores of every class. Records do
    not tell when a step was done: steps are spread over the run's wall time.
    """
    for experiment in experiments(results.scale, list(tables)):
        signature = experiment.recipe.signature
        by_seed: dict[int, list[Record]] = defaultdict(list)
        for record in results.records:
            if (
                record.kind is RecordKind.TRAINED
                and record.signature == signature
                and record.protocol in experiment.protocols
            ):
                assert record.seed is not None
                by_seed[record.seed].append(record)
        for seed, records in sorted(by_seed.items()):
            run = Run(experiment, seed)
            if not run.directory.path.exists():
                _write(run.directory, records, every=every)
            yield run


def _write(run: RunDirectory, records: list[Record], *, every: int) -> None:
    first = records[0]
    source = first.provenance
    write_json(run.recipe, first.recipe)
    write_json(run.datasets, source.dataset)
    write_json(run.code, {"name": source.commit, "dirty": source.dirty})
    write_text(run.journal, "".join(f"{json.dumps(line)}\n" for line in _journal(records, every=every)))
    for record in records:
        write_text(run.result(record.protocol), dump(record))


def _journal(records: list[Record], *, every: int) -> Iterator[dict[str, object]]:
    first = records[0]
    curves = load_details(folders.records(first.scale) / f"{first.name}.json").curves
    by_step: dict[int, dict[str, float]] = defaultdict(dict)
    for name, curve in curves.items():
        last = int(curve.steps[-1])
        # what is measured once in many steps is kept whole
        stride = every if len(curve.steps) > last / 2 else 1
        for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
            if step % stride == 0 or step == last:
                by_step[step][name] = value
    wall = first.provenance.wall_seconds
    ended = calendar.timegm(time.strptime(first.provenance.finished, "%Y-%m-%dT%H:%M:%SZ"))
    steps = first.provenance.steps or max(by_step, default=1)
    for number, record in enumerate(records, start=1):
        protocol = record.recipe["protocol"]
        test = f"test/{protocol['clips']}x{protocol['crops']}"
        by_step[steps + number] |= {f"{test}/top1": record.top1, f"{test}/top5": record.top5}
    for step, metrics in sorted(by_step.items()):
        spent = wall * min(1.0, step / steps)
        yield {
            "step": step,
            "time": round(ended - wall + spent, 3),
            "metrics": {**metrics, "time/wall": round(spent, 2)},
        }
