"""The paper's tables beside what was measured: registry x records, rendered."""

from __future__ import annotations

import html
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from .. import folders
from ..files import write_text
from ..registry.catalogue import tables_at
from ..registry.recipe import Recipe, Scale
from ..registry.table import Table, Variant
from . import latex, tidy
from .comparison import (
    ComparedRow,
    Floor,
    Pair,
    Results,
    compare,
    is_same_measurement,
    ordering,
    printed_difference,
    rows_at,
    unlearnt,
)
from .latex import Width
from .record import Record
from .statistics import Summary
from .verdicts import CANNOT_TELL, MARGIN, TIE_MARGIN, Judgement, Verdict

DASH = "-"
BLOCK = "block"
# Columns of words; the others are of numbers.
WORDS = (
    BLOCK,
    "",
    "pretrain, paper",
    "verdict",
    "verdict, top-5",
    "verdict, difference",
    "verdict, published weights",
    "table",
    "row",
    "against",
    *(verdict.value for verdict in Verdict),
)


@dataclass(frozen=True)
class Page:
    """A table of the paper as it is printed, in any format.

    ``cells`` is all text, ``numbers`` the same unrounded (percent and points) and more, for programs. ``legend`` says
    what the columns mean; ``runs`` names what every measured cell was measured by.
    """

    table: Table
    scale: Scale
    rows: tuple[ComparedRow, ...]
    cells: pd.DataFrame
    numbers: pd.DataFrame
    legend: str
    notes: tuple[str, ...]
    runs: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.table.id}: {self.table.caption}"


def page(table: Table, results: Results) -> Page:
    """``table`` with what was measured at the scale of ``results``."""
    rows, scale = compare(table, results), results.scale
    order = ordering(table, results) if scale is not Scale.PAPER else []
    return Page(
        table=table,
        scale=scale,
        rows=tuple(rows),
        cells=_cells(rows, scale),
        numbers=_numbers(rows),
        legend=_legend(table, rows, scale),
        notes=(
            *_left_out(results),
            *_order(order),
            *_twins(table, results),
            *_floors(rows),
            *_protocols(rows, scale),
            *table.notes,
        ),
        runs=tuple(_runs(rows)),
    )


def summary(every: Iterable[Results]) -> pd.DataFrame:
    """Count the verdicts of each table, one line per scale and table."""
    content = []
    for results in every:
        for table in tables_at(results.scale):
            given = [row.verdict.verdict for row in compare(table, results) if row.verdict]
            counts = {verdict.value: given.count(verdict) for verdict in Verdict}
            content.append({"scale": results.scale.value, "table": table.id, **counts})
    return pd.DataFrame(content).set_index(["scale", "table"])


def named_effects(results: Results) -> pd.DataFrame:
    """Every row with a verdict: the effect here and in the paper, in points, as text."""
    content = []
    for table in tables_at(results.scale):
        for row in compare(table, results):
            printed = printed_difference(row)
            if row.verdict and row.difference and row.baseline and printed is not None:
                content.append(
                    {
                        "table": f"[{table.id}](tables/{table.id}.md)",
                        "row": row.variant.name,
                        "against": row.baseline.name,
                        "difference": _difference(row),
                        "difference, paper": f"{printed + 0.0:+.1f}",
                        "verdict": str(replace(row.verdict, needs="")),
                    }
                )
    return pd.DataFrame(content)


# --------------------------------------------------------------------------------------------------------- cells
def _cells(rows: Sequence[ComparedRow], scale: Scale) -> pd.DataFrame:
    """The row's name, ours at ``scale``, then what the paper reports, all as text.

    At scale paper rows that the paper only reports are there, too. The paper's number never stands in our column; what
    was not measured is a dash, and a column of dashes is left out.
    """
    at_paper = scale is Scale.PAPER
    content = []
    for row in rows:
        paper, weights = row.variant.paper, row.published
        content.append(
            {
                BLOCK: row.variant.block or DASH,
                "": row.variant.label,
                "pretrain, paper": paper.pretrain or DASH if paper else DASH,
                "views, paper": paper.views or DASH if paper else DASH,
                f"top-1, ours ({scale})": _mean(row.top1),
                # of the miniature's few classes five say little
                **({f"top-5, ours ({scale})": _mean(row.top5)} if at_paper else {}),
                "seeds": str(len(row.trained)) if row.variant.recipe else DASH,
                "difference": _difference(row),
                "p": DASH if row.p is None else "<0.001" if row.p < 0.001 else f"{row.p:.3f}",
                "verdict": _verdict(row.verdict),
                "verdict, top-5": _verdict(row.verdict_top5),
                "verdict, difference": _verdict(row.difference_verdict),
                "top-1, published weights": _number(weights.top1 if weights else None, 1),
                "top-5, published weights": _number(weights.top5 if weights else None, 1),
                "verdict, published weights": _verdict(row.published_verdict),
                "top-1, paper": _number(paper.top1 if paper else None, 1),
                "top-5, paper": _number(paper.top5 if paper else None, 1),
                "GFLOPs, paper": _number(paper.gflops if paper else None, 0),
                # one digit, as printed; two in one cell
                "param (M), paper": str(paper.params) if paper and paper.params else DASH,
            }
        )
    frame = pd.DataFrame(content)
    # entries that are not worth a column that has no others
    dull = {DASH, "baseline", Verdict.NOT_RUN.value}
    always = ("", f"top-1, ours ({scale})", f"top-5, ours ({scale})", "seeds")
    return frame.drop(
        columns=[
            name
            for name in frame
            if name not in always
            and set(frame[name]) <= (dull - {Verdict.NOT_RUN.value} if name == "verdict" else dull)
        ]
    )


def _mean(summary: Summary | None) -> str:
    return DASH if summary is None else str(summary)


def _difference(row: ComparedRow) -> str:
    if row.is_baseline:
        return "baseline"
    if row.difference is None:
        return DASH
    half = row.difference.half()
    # minus zero is zero
    mean = f"{round(row.difference.mean, 1) + 0.0:+.1f}"
    return mean if half is None else f"{mean} ± {half:.1f}"


def _verdict(judgement: Judgement | None) -> str:
    return DASH if judgement is None else str(judgement)


def _number(value: float | None, digits: int) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def _numbers(rows: Sequence[ComparedRow]) -> pd.DataFrame:
    """One line per row of the table; empty where there is nothing. Names of runs are those of their records."""
    content = []
    for row in rows:
        paper, difference = row.variant.paper, row.difference
        half = difference.half() if difference else None
        content.append(
            {
                "block": row.variant.block,
                "row": row.variant.name_in_block,
                "id": row.variant.id,
                "seeds": len(row.trained),
                **_spread("top1", row.top1),
                "top1_videos_half": row.videos,
                **_spread("top5", row.top5),
                "baseline": row.baseline.id if row.baseline else None,
                "difference": difference.mean if difference else None,
                "difference_half": half,
                "p": difference.p if difference else None,
                "p_holm": row.p,
                **_judged("verdict", row.verdict),
                "did_not_learn": unlearnt(row),
                **_judged("verdict_top5", row.verdict_top5),
                **_judged("verdict_difference", row.difference_verdict),
                "published_top1": row.published.top1 if row.published else None,
                "published_top5": row.published.top5 if row.published else None,
                "published_verdict": str(row.published_verdict) if row.published_verdict else None,
                "paper_top1": paper.top1 if paper else None,
                "paper_top5": paper.top5 if paper else None,
                "paper_gflops": paper.gflops if paper else None,
                "paper_params_millions": paper.params if paper else None,
                "paper_pretrain": paper.pretrain if paper else None,
                "paper_views": paper.views if paper else None,
                "runs": " ".join(record.name for record in row.trained),
                "published_weights": row.published.name if row.published else None,
            }
        )
    frame = pd.DataFrame(content)
    # whole numbers stay whole where some are missing
    return frame.astype({name: "Int64" for name in frame if str(name).endswith("seeds")})


def _spread(name: str, summary: Summary | None) -> dict[str, float | None]:
    return {
        name: summary.mean if summary else None,
        f"{name}_low": summary.low if summary else None,
        f"{name}_high": summary.high if summary else None,
    }


def _judged(name: str, judgement: Judgement | None) -> dict[str, str | int | None]:
    return {
        name: judgement.verdict.value if judgement else None,
        f"{name}_needs_seeds": judgement.seeds if judgement else None,
    }


# --------------------------------------------------------------------------------------------------------- notes
def _legend(table: Table, rows: Sequence[ComparedRow], scale: Scale) -> str:
    """The meaning of the columns, and what must not be concluded from them."""
    measured = [row for row in rows if row.trained]
    ours = "trained here at the paper's scale" if scale is Scale.PAPER else f"scale {scale}, small models and data"
    parts = [f"Ours: {ours}; percent of test videos."]
    if any(row.top1 and row.top1.low is not None for row in rows):
        parts.append("± or (from to) is the 95 % interval over seeds, on the same test videos.")
    if measured:
        widest = max(row.videos or 0.0 for row in measured)
        parts.append(f"Other test videos would move a number by up to ± {widest:.1f}.")
    if any(row.difference for row in rows):
        parts.append(
            "Difference: to the block's baseline, paired by video, seeds unpaired, with the 95 % interval over both, "
            "of this row alone; p is corrected by Holm over all pairs of rows that the table compares."
        )
    if any(row.published for row in rows):
        parts.append("Published weights: a downloaded checkpoint, tested here on our videos.")
    if any(row.verdict for row in rows):
        parts.append(
            f"Verdict: reproduced is a 90 % prediction interval for a single run within {MARGIN:.0f} point of the "
            "printed number; on a difference, whether it has the sign of the paper's, by p."
            if scale is Scale.PAPER
            else "Verdict: whether the difference to the baseline has the sign of the paper's, by p; where the paper "
            "prints the same number twice, whether its own 90 % interval, not corrected, lies within "
            f"{TIE_MARGIN:.0f} points of zero, whatever p."
        )
    if any(_cannot_tell(row.verdict) or _cannot_tell(row.difference_verdict) for row in rows):
        parts.append(
            f"The paper cannot tell: its two numbers differ by {CANNOT_TELL} points or less, as two runs of one model "
            "may."
        )
    if any(row.variant.paper for row in rows):
        if scale is not Scale.PAPER:
            parts.append("The paper's columns are another scale, not comparable number by number.")
        parts.append(f"Source of the paper's columns: {table.source}.")
    return " ".join(parts)


def _cannot_tell(judgement: Judgement | None) -> bool:
    return judgement is not None and judgement.verdict is Verdict.PAPER_CANNOT_TELL


def _left_out(results: Results) -> list[str]:
    """One line if there is anything beside the records that was not averaged."""
    count = len(results.damages)
    return [
        f"Left out: {count} damaged or foreign file{'s' * (count > 1)} among the records; see vswin verify."
    ] * bool(count)


def _order(pairs: Sequence[Pair]) -> list[str]:
    """One line on the order of all rows, where there is more to say than the rows' own verdicts do."""
    if len(pairs) < 2:
        return []
    counts = {
        verdict: sum(pair.judgement.verdict is verdict for pair in pairs)
        for verdict in (
            Verdict.AGREES,
            Verdict.DISAGREES,
            Verdict.UNDERPOWERED,
            Verdict.PAPER_CANNOT_TELL,
            Verdict.DID_NOT_LEARN,
        )
    }
    words = ("agree", "disagree", "undecided", "which the paper cannot tell", "with a row that did not learn")
    text = ", ".join(f"{count} {word}" for word, count in zip(words, counts.values(), strict=True))
    wrong = [
        f"{pair.first.label} and {pair.second.label}" for pair in pairs if pair.judgement.verdict is Verdict.DISAGREES
    ]
    named = f" (disagree: {'; '.join(wrong)})" if wrong else ""
    return [f"Order of the rows, in pairs within a block: {text}{named}."]


def _twins(table: Table, results: Results) -> list[str]:
    """One line for rows that another way of testing did not change at all."""
    found = [
        f"{two.name} as {one.name}"
        for one, two in itertools.combinations(rows_at(table, results.scale), 2)
        if is_same_measurement(one, two, results) and one.at(results.scale).protocol != two.at(results.scale).protocol
    ]
    return [f"One measurement, since more views of so short a video show the same frames: {'; '.join(found)}."] * bool(
        found
    )


def _floors(rows: Sequence[ComparedRow]) -> list[str]:
    """One line for each thing that some rows have not been shown to be better than."""
    names = _names(rows)
    found = {floor: [names[row.variant] for row in rows if row.floor is floor] for floor in Floor}
    return [
        f"Did not learn: not shown to be better than {floor}, at 95 %: {'; '.join(named)}. Nothing is concluded from "
        "or against such a row: it shows what became of it here, not how it compares once it has learnt."
        for floor, named in found.items()
        if named
    ]


def _names(rows: Sequence[ComparedRow]) -> dict[Variant, str]:
    """The names of rows in notes: their labels, unless two have the same."""
    labels = [row.variant.label for row in rows]
    unique = len(set(labels)) == len(labels)
    return {row.variant: row.variant.label if unique else row.variant.name for row in rows}


def _protocols(rows: Sequence[ComparedRow], scale: Scale) -> list[str]:
    """The protocols of rows: clip, views, crop, list of videos; one line per protocol."""
    ways: dict[str, list[Variant]] = {}
    for row in rows:
        if scale in row.variant.scales:
            [*records] = [*row.trained, *([row.published] if row.published else [])]
            ways.setdefault(_protocol(row.variant.at(scale), records[:1]), []).append(row.variant)
    if len(ways) == 1:
        return [f"Protocol: {way}." for way in ways]
    names = _names(rows)
    return [f"Protocol of {', '.join(names[item] for item in variants)}: {way}." for way, variants in ways.items()]


def _protocol(recipe: Recipe, records: Sequence[Record]) -> str:
    clip, protocol = recipe.data.clip, recipe.protocol
    frames = f"clips of {clip.length} frames, " + (
        "one of every segment of the video" if clip.sampling == "uniform" else f"{clip.interval} apart"
    )
    views = (
        f"{protocol.views} views (clips x crops) of {protocol.crop}x{protocol.crop} at short side {protocol.short_side}"
    )
    videos = f"test list of {recipe.data.dataset}"
    for record in records:
        tested = record.provenance.tested
        videos += f": {tested['source']}, {record.videos} videos, fingerprint {tested['fingerprint'][:10]}"
    return f"{frames}; {views}; {videos}"


def _runs(rows: Sequence[ComparedRow]) -> Iterable[str]:
    """For every measured cell: the records, as file names under ``runs/`` without seed and suffix."""
    for row in rows:
        if row.trained:
            seeds = ", ".join(str(record.seed) for record in row.trained)
            stem = row.trained[0].name.rpartition("-")[0]
            yield f"{_title(row.variant)}: `{stem}`, seed{'s' * (len(row.trained) > 1)} {seeds}, {_code(row.trained)}"
        if row.published and row.published.provenance.checkpoint:
            file = row.published.provenance.checkpoint.file
            yield f"{_title(row.variant)}, published weights: `{row.published.name}` ({file}), {_code([row.published])}"


def _title(variant: Variant) -> str:
    """The name of a row in notes, and in the table."""
    return variant.name if variant.label == variant.name else f"{variant.name} ({variant.label})"


def _code(records: Sequence[Record]) -> str:
    states = {
        record.provenance.commit[:10] + (" with uncommitted changes" if record.provenance.dirty else "")
        for record in records
    }
    return f"commit {' and '.join(sorted(states))}"


# ------------------------------------------------------------------------------------------------------- formats
def grid(frame: pd.DataFrame) -> str:
    """``frame`` as a Markdown table."""
    header = "| " + " | ".join(frame.columns) + " |"
    rule = "|" + "|".join(" :-- " if name in WORDS else " --: " for name in frame.columns) + "|"
    return "\n".join([header, rule, *("| " + " | ".join(row) + " |" for row in frame.to_numpy())])


def to_markdown(page: Page) -> str:
    """A Markdown section."""
    parts = [f"### {page.title}", page.table.question, grid(page.cells), page.legend, *page.notes]
    if page.runs:
        parts += ["Runs:", "\n".join(f"- {run}" for run in page.runs)]
    return "\n\n".join(parts) + "\n"


def to_csv(page: Page) -> str:
    """Comma-separated values, numbers with six digits: points and percent, and p."""
    return page.numbers.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def to_html(page: Page) -> str:
    """An HTML fragment."""
    body = page.cells.to_html(index=False, border=0)
    notes = "".join(f"<p>{html.escape(note)}</p>\n" for note in (page.legend, *page.notes))
    runs = "".join(f"<li>{html.escape(run.replace('`', ''))}</li>\n" for run in page.runs)
    listed = f"<details><summary>Runs</summary>\n<ul>\n{runs}</ul></details>\n" if runs else ""
    return f"<h3>{html.escape(page.title)}</h3>\n<p>{html.escape(page.table.question)}</p>\n{body}\n{notes}{listed}"


def to_latex(page: Page, width: Width) -> str:
    """A LaTeX float for a page of one column or a column of two, its notes after it and its runs as comments."""
    return latex.table(page.table, page.scale, page.rows, width=width, notes=(page.legend, *page.notes), runs=page.runs)


# Renderings of a table by the end of their file's name.
FORMATS: Mapping[str, Callable[[Page], str]] = {
    ".md": to_markdown,
    ".csv": to_csv,
    ".html": to_html,
    ".tex": lambda page: to_latex(page, Width.PAGE),
    "-column.tex": lambda page: to_latex(page, Width.COLUMN),
}


def contents(pages: Iterable[Page]) -> dict[Path, str]:
    """The files that ``$VSWIN_RESULTS/<scale>/tables`` should hold, by path."""
    return {
        folders.results() / page.scale / "tables" / f"{page.table.id}{ending}": render(page)
        for page in pages
        for ending, render in FORMATS.items()
    }


def tidied(pages: Sequence[Page]) -> dict[Path, str]:
    """``$VSWIN_RESULTS/<scale>/tables/all.csv``, every cell and seed of ``pages``, the tables of one scale."""
    rows = [row for page in pages for row in page.rows]
    return {folders.results() / pages[0].scale / "tables" / "all.csv": tidy.to_csv(tidy.tidy(pages[0].scale, rows))}


def write(files: Mapping[Path, str]) -> None:
    """Write ``files``; what is current is left alone."""
    for path in stale(files):
        write_text(path, files[path])


def stale(files: Mapping[Path, str]) -> list[Path]:
    """Those of ``files`` that are not there or say something else."""
    return [path for path, content in files.items() if not path.exists() or path.read_bytes() != content.encode()]


def unwanted(files: Mapping[Path, str]) -> list[Path]:
    """Files that lie beside ``files`` and are none of them."""
    return sorted({path for folder in {path.parent for path in files} for path in folder.glob("*")} - set(files))
