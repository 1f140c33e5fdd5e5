"""The paper's tables beside what was measured: registry x records, rendered."""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from . import folders
from .collect import records_folder
from .recipe import Scale
from .record import Kind, Record, RecordError, load_details
from .registry import Table, Variant
from .runs import write_text
from .statistics import Summary, summarise

DASH = "-"
BLOCK = "block"
# Columns of words; the others are of numbers.
WORDS = (BLOCK, "", "pretrain, paper")


def measured(variant: Variant, scale: Scale, records: Iterable[Record]) -> list[Record]:
    """The records of trainings of ``variant`` at ``scale``, by seed: same training, same protocol, same data.

    Raises RecordError if some were made on other videos: their numbers must not be averaged.
    """
    mine = _of_kind(Kind.TRAINED, variant, scale, records)
    if len({tuple(sorted(record.provenance.videos.items())) for record in mine}) > 1:
        files = ", ".join(f"{record.name}.json" for record in mine)
        raise RecordError(f"the records of {variant.id} were made on different videos; keep one kind of {files}")
    return sorted(mine, key=lambda record: record.seed or 0)


def published(variant: Variant, scale: Scale, records: Iterable[Record]) -> Record | None:
    """The record of published weights of ``variant``, tested here; None if there is none.

    Raises RecordError where there are several: only one can stand in the table.
    """
    mine = _of_kind(Kind.PUBLISHED_WEIGHTS, variant, scale, records)
    if len(mine) > 1:
        files = ", ".join(f"{record.name}.json" for record in mine)
        raise RecordError(
            f"{variant.id} has published weights from several files or on several data; keep one of {files}"
        )
    return mine[0] if mine else None


def _of_kind(kind: Kind, variant: Variant, scale: Scale, records: Iterable[Record]) -> list[Record]:
    recipe = variant.at(scale)
    key = (kind, scale, recipe.signature, recipe.protocol_signature)
    return [record for record in records if (record.kind, record.scale, record.signature, record.protocol) == key]


def cells(table: Table, scale: Scale, records: Iterable[Record]) -> pd.DataFrame:
    """``table`` as it is printed: the row's name, ours at ``scale``, then what the paper reports, all as text.

    At scale paper rows that the paper only reports are there, too. The paper's number never stands in our column; what
    was not measured is a dash. A table of several blocks has their titles in the column ``block``.
    """
    records = list(records)
    at_paper = scale is Scale.PAPER
    rows = []
    for variant in rows_at(table, scale):
        ours = variant.recipe is not None
        mine = measured(variant, scale, records) if ours else []
        paper = variant.paper
        weights = published(variant, scale, records) if ours else None
        rows.append(
            {
                BLOCK: variant.block or DASH,
                "": variant.label,
                "pretrain, paper": paper.pretrain or DASH if paper else DASH,
                "views, paper": paper.views or DASH if paper else DASH,
                f"top-1, ours ({scale})": _mean(summarise([record.top1 for record in mine])),
                # of the miniature's six classes five are always among the first five
                **({f"top-5, ours ({scale})": _mean(summarise([r.top5 for r in mine]))} if at_paper else {}),
                "seeds": str(len(mine)) if ours else DASH,
                "top-1, published weights": _number(weights.top1 if weights else None, 1),
                "top-5, published weights": _number(weights.top5 if weights else None, 1),
                "top-1, paper": _number(paper.top1 if paper else None, 1),
                "top-5, paper": _number(paper.top5 if paper else None, 1),
                "GFLOPs, paper": _number(paper.gflops if paper else None, 0),
                # one digit, as printed; two in one cell
                "param (M), paper": str(paper.params) if paper and paper.params else DASH,
            }
        )
    frame = pd.DataFrame(rows)
    return frame.drop(
        columns=[
            name
            for name in frame.columns
            if str(name).endswith((BLOCK, "paper", "published weights")) and (frame[name] == DASH).all()
        ]
    )


def rows_at(table: Table, scale: Scale) -> tuple[Variant, ...]:
    """What ``table`` shows at ``scale``: the rows that can be run there, at scale paper all."""
    return table.variants if scale is Scale.PAPER else table.at(scale)


def legend(table: Table, scale: Scale, records: Iterable[Record]) -> str:
    """What the columns mean, and what must not be concluded from them."""
    records = list(records)
    ours = (
        "trained here at the paper's scale"
        if scale is Scale.PAPER
        else f"scale {scale}, a small model on Moving Digits"
    )
    parts = [f"Ours: {ours}; percent of test videos, mean ± standard deviation over seeds."]
    if any(published(variant, scale, records) for variant in table.at(scale)):
        parts.append("Published weights: a downloaded checkpoint, tested here on our videos.")
    if any(variant.paper for variant in rows_at(table, scale)):
        if scale is not Scale.PAPER:
            parts.append("The paper's columns are Kinetics-400: another scale, not comparable number by number.")
        parts.append(f"Source of the paper's columns: {table.source}.")
    return " ".join(parts)


def to_markdown(table: Table, scale: Scale, records: Iterable[Record]) -> str:
    """``table`` as a Markdown section."""
    records = list(records)
    frame = cells(table, scale, records)
    header = "| " + " | ".join(frame.columns) + " |"
    rule = "|" + "|".join(" :-- " if name in WORDS else " --: " for name in frame.columns) + "|"
    body = ["| " + " | ".join(row) + " |" for row in frame.to_numpy()]
    grid = "\n".join([header, rule, *body])
    parts = [f"### {table.id}: {table.caption}", table.question, grid, legend(table, scale, records)]
    return "\n\n".join([*parts, *table.notes]) + "\n"


def to_html(table: Table, scale: Scale, records: Iterable[Record]) -> str:
    """``table`` as an HTML fragment."""
    records = list(records)
    body = cells(table, scale, records).to_html(index=False, border=0)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in (legend(table, scale, records), *table.notes))
    return f"<h3>{html.escape(f'{table.id}: {table.caption}')}</h3>\n{body}\n{notes}\n"


def write(tables: Iterable[Table], scale: Scale, records: Iterable[Record]) -> list[Path]:
    """Write every table as Markdown, CSV and HTML under ``$VSWIN_RESULTS/<scale>/tables``; returns the files."""
    records = list(records)
    folder = folders.results() / scale / "tables"
    written = []
    for table in tables:
        contents = {
            "md": to_markdown(table, scale, records),
            "csv": cells(table, scale, records).to_csv(index=False),
            "html": to_html(table, scale, records),
        }
        for suffix, content in contents.items():
            path = folder / f"{table.id}.{suffix}"
            write_text(path, content)
            written.append(path)
    return written


def _mean(summary: Summary | None) -> str:
    if summary is None:
        return DASH
    return f"{summary.mean:.1f}" if summary.deviation is None else f"{summary.mean:.1f} ± {summary.deviation:.1f}"


def _number(value: float | None, digits: int) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def seeds(tables: Iterable[Table], scale: Scale, records: Iterable[Record]) -> pd.DataFrame:
    """One line per run: ``table``, ``row``, ``seed``, ``top1``, ``top5``, for plots."""
    records = list(records)
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
            for variant in table.at(scale)
            for record in measured(variant, scale, records)
        ],
        columns=["table", "row", "seed", "top1", "top5"],
    )


def curves(tables: Iterable[Table], scale: Scale, records: Iterable[Record], *, smooth: int) -> pd.DataFrame:
    """Training loss, averaged over the last ``smooth`` steps: ``table``, ``row``, ``seed``, ``step``, ``loss``."""
    records = list(records)
    parts = []
    for table in tables:
        for variant in table.at(scale):
            for record in measured(variant, scale, records):
                details = load_details(records_folder(scale) / f"{record.name}.json")
                curve = details.curves["train/loss"]
                loss = pd.Series(curve.values).rolling(smooth, min_periods=1).mean()
                part = pd.DataFrame({"step": curve.steps, "loss": loss})
                parts.append(part.assign(table=table.id, row=variant.label, seed=record.seed))
    empty = pd.DataFrame(columns=["table", "row", "seed", "step", "loss"])
    return pd.concat(parts, ignore_index=True) if parts else empty
