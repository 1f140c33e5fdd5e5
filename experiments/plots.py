"""Data frames and figures of what was measured, for notebooks and README."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from .collect import records_folder
from .comparison import Results, rows_at
from .record import load_details
from .registry import Table


def seeds(tables: Iterable[Table], results: Results) -> pd.DataFrame:
    """One line per run: ``table``, ``row``, ``seed``, ``top1``, ``top5``."""
    return pd.DataFrame(
        [
            {
                "table": table.id,
                "row": variant.label,
                "seed": record.seed,
                "top1": record.top1,
                "top5": record.top5,
            }
            for table in tables
            for variant in rows_at(table, results.scale)
            for record in results.trained(variant)
        ],
        columns=["table", "row", "seed", "top1", "top5"],
    )


def curves(tables: Iterable[Table], results: Results, *, metric: str, smooth: int = 1) -> pd.DataFrame:
    """A metric of the journal over ``step``, averaged over the last ``smooth`` values: ``table``, ``row``, ``seed``,
    ``value``. Runs that lack the metric are left out.
    """
    parts = []
    for table in tables:
        for variant in rows_at(table, results.scale):
            for record in results.trained(variant):
                details = load_details(records_folder(results.scale) / f"{record.name}.json")
                if metric in details.curves:
                    curve = details.curves[metric]
                    values = pd.Series(curve.values).rolling(smooth, min_periods=1).mean()
                    part = pd.DataFrame({"step": curve.steps, "value": values})
                    parts.append(part.assign(table=table.id, row=variant.label, seed=record.seed))
    empty = pd.DataFrame(columns=["table", "row", "seed", "step", "value"])
    return pd.concat(parts, ignore_index=True) if parts else empty
