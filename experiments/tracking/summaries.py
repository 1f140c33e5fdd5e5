"""The rows of a table as MLflow shows the table itself: one run a row, with mean, interval, difference and verdict."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..registry.table import Table
from ..results.comparison import ComparedRow, Results, printed_difference
from ..results.pages import DASH, page
from .groups import color_of, group_of, row_numbers

if TYPE_CHECKING:
    import pandas as pd

# The tag that has the table's id; a run of a training has a tag named as the table, so that no average takes both.
TABLE_TAG = "row_of"
ROW_TAG = "row"
FINGERPRINT_TAG = "row.says"
# The columns of the paper's table, in its words: tags hold text, as "42.5 ± 2.0".
COLUMNS = ("row.top1", "row.difference", "row.verdict", "row.paper", "row.paper_difference", "row.p", "row.seeds")
METRICS = ("row/top1", "row/difference", "row/paper_top1")


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
    for row, (_, cells) in zip(printed.rows, printed.cells.iterrows(), strict=True):
        if row.trained:
            yield _summary(table, results, row, cells)


def _summary(table: Table, results: Results, row: ComparedRow, cells: pd.Series) -> RowSummary:
    variant = row.variant
    recipe = variant.at(results.scale)
    together = [other.id for other in table.at(results.scale) if other.at(results.scale).signature == recipe.signature]
    top1 = cells[f"top-1, ours ({results.scale})"]
    difference, paper = printed_difference(row), variant.paper
    tags = {
        TABLE_TAG: table.id,
        # sorted by it, rows come in the paper's order
        ROW_TAG: f"{row_numbers(table.id, results.scale)[variant.id]} {variant.title}",
        "variant": variant.id,
        "row.top1": top1,
        "row.seeds": cells["seeds"],
        "row.difference": cells.get("difference", DASH),
        "row.p": cells.get("p", DASH),
        "row.verdict": cells.get("verdict", DASH),
        "row.paper": cells.get("top-1, paper", DASH),
        "row.paper_difference": DASH if difference is None else f"{difference + 0.0:+.1f}",
        "mlflow.runColor": color_of(table.id, group_of(table.id, together, results.scale)),
        "mlflow.note.content": _note(table, variant.id, [record.name for record in row.trained]),
    }
    assert row.top1
    found = {
        "row/top1": row.top1.mean,
        "row/top1_low": row.top1.low,
        "row/top1_high": row.top1.high,
        "row/difference": row.difference.mean if row.difference else None,
        "row/difference_half": row.difference.half() if row.difference else None,
        "row/paper_top1": paper.top1 if paper else None,
    }
    return RowSummary(
        table=table.id,
        row=variant.id,
        name=f"{variant.title}: {top1}",
        tags=tags,
        metrics={name: value for name, value in found.items() if value is not None},
    )


def _note(table: Table, row: str, records: Sequence[str]) -> str:
    return (
        f"### {row}\n\n{table.caption} *{table.question}*\n\n"
        f"A row of the table, computed by `vswin tables {table.id}` from the records {', '.join(records)}; "
        "it is no training. ± is the 95 % interval over seeds, that of a difference covers seeds and test videos."
    )
