"""The rows of a table as MLflow shows the table itself: one run a row, with mean, interval, difference and verdict."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from ..registry.catalogue import find_variant
from ..registry.table import Table
from ..results.comparison import Results
from ..results.pages import DASH, page
from .groups import color_of, group_of

# The tag that has the table's id; a run of a training has a tag named as the table, so that no average takes both.
TABLE_TAG = "row_of"
ROW_TAG = "row"
FINGERPRINT_TAG = "row.says"
# The columns of the paper's table, in its words: tags hold text, as "42.5 ± 2.0".
COLUMNS = ("row.top1", "row.difference", "row.verdict", "row.paper", "row.paper_difference", "row.p", "row.seeds")
METRICS = ("row/top1", "row/difference", "row/paper_top1")
# Other metrics of a row: bounds of the intervals, for charts of one's own.
_MORE = {"top1_low": "row/top1_low", "top1_high": "row/top1_high", "difference_half": "row/difference_half"}


@dataclass(frozen=True, kw_only=True)
class RowSummary:
    """All that MLflow is told of one row of ``table``. ``row`` is its id, metrics are in percent and points."""

    table: str
    row: str
    name: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]

    @property
    def fingerprint(self) -> str:
        """Changes with anything that it says."""
        text = json.dumps([self.name, dict(self.tags), dict(self.metrics)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def summaries(table: Table, results: Results) -> Iterator[RowSummary]:
    """The rows of ``table`` that were measured at the scale of ``results``, in the paper's order."""
    printed = page(table, results)
    for (_, cells), (_, numbers) in zip(printed.cells.iterrows(), printed.numbers.iterrows(), strict=True):
        if numbers["seeds"]:
            yield _summary(table, results, cells, numbers)


def _summary(table: Table, results: Results, cells: pd.Series, numbers: pd.Series) -> RowSummary:
    variant = find_variant(numbers["id"])
    recipe = variant.at(results.scale)
    together = [other.id for other in table.at(results.scale) if other.at(results.scale).signature == recipe.signature]
    number = [other.id for other in table.at(results.scale)].index(variant.id) + 1
    top1 = cells[f"top-1, ours ({results.scale})"]
    baseline = table.baseline_of(variant)
    printed, there = variant.paper, baseline.paper if baseline else None
    difference = f"{printed.top1 - there.top1 + 0.0:+.1f}" if printed and there and baseline != variant else DASH
    tags = {
        TABLE_TAG: table.id,
        # sorted by it, rows come in the paper's order
        ROW_TAG: f"{number:0{len(str(len(table.at(results.scale))))}} {variant.title}",
        "variant": variant.id,
        "row.top1": top1,
        "row.seeds": cells["seeds"],
        "row.difference": cells.get("difference", DASH),
        "row.p": cells.get("p", DASH),
        "row.verdict": cells.get("verdict", DASH),
        "row.paper": cells.get("top-1, paper", DASH),
        "row.paper_difference": difference,
        "mlflow.runColor": color_of(table.id, group_of(table.id, together, results.scale)),
        "mlflow.note.content": _note(table, variant.id, numbers["runs"]),
    }
    found = {
        "row/top1": numbers["top1"],
        "row/difference": numbers["difference"],
        "row/paper_top1": numbers["paper_top1"],
        **{name: numbers[column] for column, name in _MORE.items()},
    }
    return RowSummary(
        table=table.id,
        row=variant.id,
        name=f"{variant.title}: {top1}",
        tags=tags,
        metrics={name: float(value) for name, value in found.items() if pd.notna(value)},
    )


def _note(table: Table, row: str, records: str) -> str:
    return (
        f"### {row}\n\n{table.caption} *{table.question}*\n\n"
        f"A row of the table, computed by `vswin tables {table.id}` from the records {', '.join(records.split())}; "
        "it is no training. ± is the 95 % interval over seeds, that of a difference covers seeds and test videos."
    )
