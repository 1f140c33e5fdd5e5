"""A run's description in MLflow: name, tags, parameters and note, all but its metrics. Plain data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ..files import DamagedError
from ..registry.catalogue import find_table
from ..registry.recipe import Scale, difference, flatten
from ..registry.table import Reported, Variant
from ..results.record import Record, load
from ..runs.run import Run
from .groups import color_of, group_of

# What MLflow's stores take: a value longer than that would be cut without a word.
_LONGEST_PARAMETER = 6000
_LONGEST_TAG = 8000


@dataclass(frozen=True, kw_only=True)
class Card:
    """``note`` is Markdown, whole; the tag of MLflow's description may hold less of it."""

    name: str
    tags: Mapping[str, str]
    parameters: Mapping[str, str]
    note: str

    @property
    def fingerprint(self) -> str:
        """Changes with anything a card says."""
        text = json.dumps([self.name, dict(self.tags), dict(self.parameters), self.note], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def differs_tag(table: str) -> str:
    """The tag that says in what a row of the table with this id differs from what it is compared with there."""
    return f"{table}.differs"


def card(run: Run) -> Card:
    """The card of ``run`` as things stand; what only a finished run knows joins it then."""
    experiment = run.experiment
    note = "\n\n".join(
        [
            *(_describe(variant, run.scale) for variant in experiment.variants),
            *(_cost(record) for record in _records(run)),
            f"Again: `vswin run {experiment.name} --scale {run.scale} --seed {run.seed}`",
        ]
    )
    tags = {
        "signature": run.signature,
        "protocol": ", ".join(experiment.protocols),
        "seed": str(run.seed),
        "variant": experiment.name,
        "mlflow.note.content": note,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": "vswin",
        **_code(run),
    }
    for table, rows in groupby(experiment.variants, key=lambda variant: variant.table):
        own = list(rows)
        tags[table] = group_of(table, (variant.id for variant in own), run.scale)
        tags[differs_tag(table)] = "; ".join(_differs(variant, run.scale) for variant in own)
    first = experiment.variants[0].table
    # where the page does not group: the colour of the row, which MLflow would choose by the run's id
    tags["mlflow.runColor"] = color_of(first, tags[first])
    parameters = dict(_parameters({**flatten(experiment.recipe), "seed": run.seed}))
    return Card(
        # a baseline is a row of several tables, and has the name that the first one gives it
        name=f"{experiment.variants[0].title}, seed {run.seed} ({first})",
        tags={name: _cut(value) for name, value in tags.items()},
        parameters=parameters,
        note=note,
    )


def _records(run: Run) -> Iterator[Record]:
    for path in run.directory.results():
        try:
            yield load(path)
        except DamagedError:
            # of another schema: vswin collect says what to do about it
            continue


def _code(run: Run) -> dict[str, str]:
    if not run.directory.code.exists():
        return {}
    code = json.loads(run.directory.code.read_text())
    dirty = "yes" if code["dirty"] else "no"
    return {"commit": code["name"], "dirty": dirty, "mlflow.source.git.commit": code["name"]}


def _parameters(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value)
        if len(text) <= _LONGEST_PARAMETER:
            yield name, text
            continue
        for number, start in enumerate(range(0, len(text), _LONGEST_PARAMETER), start=1):
            yield f"{name}/{number}", text[start : start + _LONGEST_PARAMETER]


def _changes(variant: Variant, scale: Scale) -> dict[str, tuple[Any, Any]]:
    baseline = find_table(variant.table).baseline_of(variant)
    return difference(variant.at(scale), baseline.at(scale)) if baseline else {}


def _differs(variant: Variant, scale: Scale) -> str:
    baseline = find_table(variant.table).baseline_of(variant)
    if baseline is None:
        return "no baseline"
    changes = _changes(variant, scale)
    words = ", ".join(f"{path}: {_plain(old)} -> {_plain(new)}" for path, (old, new) in sorted(changes.items()))
    return words or "baseline"


def _plain(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) and value else str(value)


def _describe(variant: Variant, scale: Scale) -> str:
    table = find_table(variant.table)
    baseline = table.baseline_of(variant)
    changes = _changes(variant, scale)
    lines = [f"### {variant.id}: {variant.title}", f"{table.caption} *{table.question}*", ""]
    if baseline and not changes:
        lines.append("- the baseline of its block")
    lines += [
        f"- `{path}`: {_plain(new)} here, {_plain(old)} in {baseline.id}"
        for path, (old, new) in sorted(changes.items())
        if baseline
    ]
    if variant.paper:
        lines.append(f"- the paper reports {_reported(variant.paper)} ({table.source})")
    return "\n".join(lines)


def _reported(paper: Reported) -> str:
    cells = [f"top-1 {paper.top1}"]
    cells += [f"top-5 {paper.top5}"] if paper.top5 is not None else []
    cells += [f"{paper.gflops:g} GFLOPs"] if paper.gflops is not None else []
    cells += [f"{paper.params:g} M parameters"] if paper.params is not None else []
    cells += [f"{paper.views} views"] if paper.views else []
    return ", ".join(cells)


def _cost(record: Record) -> str:
    protocol = record.recipe["protocol"]
    views = f"{protocol['clips']}x{protocol['crops']}"
    spent = record.provenance
    lines = [
        f"### Measured here, {views} views",
        "",
        f"- top-1 {record.top1:.2f}, top-5 {record.top5:.2f}, mean over classes {record.class_accuracy:.2f}, "
        f"of {record.videos} videos",
        f"- {record.params / 1e6:.3g} M parameters, {record.flops / 1e9:.3g} GFLOPs a view",
        f"- {spent.wall_seconds:.0f} s on {spent.processes} x {spent.device}",
    ]
    return "\n".join(lines)


def _cut(text: str) -> str:
    """As much of ``text`` as a tag holds, in whole lines where it has lines; all of it is in the note, an artifact."""
    if len(text) <= _LONGEST_TAG:
        return text
    more = "\n\n... and more, in description.md"
    kept = text[: _LONGEST_TAG - len(more)]
    return (kept.rpartition("\n")[0] or kept) + more
