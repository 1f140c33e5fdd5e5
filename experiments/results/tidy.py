"""All cells and all seeds of all tables as one table for programs: an observation a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd

from ..registry.recipe import Scale
from .comparison import ComparedRow, printed_difference, unlearnt
from .statistics import Summary
from .verdicts import Judgement

# Columns with their types; empty where they say nothing about a line.
COLUMNS = {
    "scale": "string",
    "table": "string",
    "block": "string",
    "row": "string",
    "id": "string",
    # ours, published weights (tested here), paper (printed)
    "source": "string",
    # top1, top5 in percent; difference of top1 in points; gflops; params_millions
    "quantity": "string",
    # of one seed; empty for means, differences and printed numbers
    "seed": "Int64",
    "value": "Float64",
    # the 95 % interval
    "low": "Float64",
    "high": "Float64",
    "seeds": "Int64",
    "baseline": "string",
    "baseline_seeds": "Int64",
    "p": "Float64",
    "p_holm": "Float64",
    "verdict": "string",
    "needs": "string",
    # who was not shown to have learnt: row, baseline or both
    "did_not_learn": "string",
    "record": "string",
}


def tidy(scale: Scale, rows: Iterable[ComparedRow]) -> pd.DataFrame:
    """``rows`` of any tables at ``scale``, with the columns of ``COLUMNS``."""
    lines = [
        {
            "scale": scale.value,
            "table": row.variant.table,
            "block": row.variant.block or None,
            "row": row.variant.name_in_block,
            "id": row.variant.id,
            **line,
        }
        for row in rows
        for line in _lines(row, scale)
    ]
    return pd.DataFrame(lines, columns=list(COLUMNS)).astype(COLUMNS)


def to_csv(frame: pd.DataFrame) -> str:
    """``frame`` as comma-separated values, numbers with nine digits."""
    return frame.to_csv(index=False, float_format="%.9g", lineterminator="\n")


def _lines(row: ComparedRow, scale: Scale) -> Iterator[dict[str, object]]:
    for record in row.trained:
        for quantity, value in (("top1", record.top1), ("top5", record.top5)):
            yield {
                "source": "ours",
                "quantity": quantity,
                "seed": record.seed,
                "value": value,
                "record": record.name,
            }
    for quantity, summary, judgement in (("top1", row.top1, row.verdict), ("top5", row.top5, row.verdict_top5)):
        # at scale mini a verdict is about the difference
        about = judgement if scale is Scale.PAPER else None
        if summary or about:
            yield {"source": "ours", "quantity": quantity, **_of(summary), **_judged(about, row)}
    yield from _difference(row, row.difference_verdict if scale is Scale.PAPER else row.verdict)
    if row.published:
        for quantity, value in (("top1", row.published.top1), ("top5", row.published.top5)):
            judged = _judged(row.published_verdict, row) if quantity == "top1" else {}
            yield {
                "source": "published weights",
                "quantity": quantity,
                "value": value,
                "record": row.published.name,
                **judged,
            }
    paper = row.variant.paper
    printed = {
        "top1": paper.top1 if paper else None,
        "top5": paper.top5 if paper else None,
        "difference": printed_difference(row),
        "gflops": paper.gflops if paper else None,
        "params_millions": paper.params if paper else None,
    }
    for quantity, number in printed.items():
        if number is not None:
            baseline = {"baseline": row.baseline.id} if quantity == "difference" and row.baseline else {}
            # subtractions of numbers with one digit
            yield {"source": "paper", "quantity": quantity, "value": round(number, 6), **baseline}


def _difference(row: ComparedRow, judgement: Judgement | None) -> Iterator[dict[str, object]]:
    if row.difference is None and judgement is None:
        return
    found: dict[str, object] = {}
    if row.difference:
        half = row.difference.half()
        here, there = row.difference.spreads
        found = {
            "value": row.difference.mean,
            "low": None if half is None else row.difference.mean - half,
            "high": None if half is None else row.difference.mean + half,
            "seeds": here.seeds,
            "baseline_seeds": there.seeds,
            "p": row.difference.p,
            "p_holm": row.p,
        }
    yield {
        "source": "ours",
        "quantity": "difference",
        "baseline": row.baseline.id if row.baseline else None,
        **found,
        **_judged(judgement, row),
    }


def _of(summary: Summary | None) -> dict[str, object]:
    if summary is None:
        return {}
    return {"value": summary.mean, "low": summary.low, "high": summary.high, "seeds": summary.n}


def _judged(judgement: Judgement | None, row: ComparedRow) -> dict[str, object]:
    found: dict[str, object] = {"did_not_learn": unlearnt(row)}
    if judgement:
        found |= {"verdict": judgement.verdict.value, "needs": judgement.needs or None}
    return found
