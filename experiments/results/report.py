"""One page with everything that was measured: self-contained HTML, readable without a network and printable."""

from __future__ import annotations

import html
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from .. import folders
from ..registry.catalogue import tables_at
from ..registry.recipe import Scale
from ..registry.table import Table
from . import checklist, drawings
from .comparison import ComparedRow, Results, compare, printed_difference
from .drawings import number
from .pages import Page, page
from .record import Record
from .verdicts import Judgement, Verdict

if TYPE_CHECKING:
    from great_tables import GT

DASH = "\N{EN DASH}"
# A verdict's sign, for those who do not see its colour, and the class that colours it.
_SIGNS = {
    Verdict.REPRODUCED: ("\N{CHECK MARK}", "good"),
    Verdict.NOT_REPRODUCED: ("\N{MULTIPLICATION SIGN}", "bad"),
    Verdict.AGREES: ("\N{CHECK MARK}", "good"),
    Verdict.DISAGREES: ("\N{MULTIPLICATION SIGN}", "bad"),
    Verdict.UNDERPOWERED: ("?", "open"),
    Verdict.PAPER_CANNOT_TELL: ("\N{ALMOST EQUAL TO}", "none"),
    Verdict.DID_NOT_LEARN: ("\N{EMPTY SET}", "none"),
    Verdict.NOT_RUN: ("\N{WHITE CIRCLE}", "open"),
}
_DID_NOT_LEARN = (
    "Did not learn: the row, or its baseline, is not shown to be better than guessing, or than the control without "
    "attention in time, at 95 %. Nothing is concluded from it or against it."
)


def default_path(scale: Scale) -> Path:
    """``$VSWIN_RESULTS/<scale>/report.html``."""
    return folders.results() / scale / "report.html"


def report(results: Results, *, beside: Path) -> str:
    """The report on ``results`` as HTML; links to records are relative to the folder ``beside``."""
    compared = {table.id: (table, compare(table, results)) for table in tables_at(results.scale)}
    run = {name: item for name, item in compared.items() if any(row.trained or row.published for row in item[1])}
    records = Path(os.path.relpath(folders.records(results.scale), beside)).as_posix()
    style = package_files(__package__).joinpath("report.css").read_text()
    title = f"Video Swin Transformer, measured at scale {results.scale}"
    sections = "".join(_section(page(table, results), rows, results, records=records) for table, rows in run.values())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # nothing is fetched, whatever a record may say
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#tables">To the tables</a>\n<header><h1>{title}</h1>\n'
        f"{_head(results)}</header>\n<main>\n{_strip(run)}{_not_run(compared, run)}"
        f'<div id="tables">{sections}</div>\n{_provenance(results)}{_checklist(results)}</main>\n</body>\n</html>\n'
    )


def _head(results: Results) -> str:
    about = (
        "The paper's models, data and protocols: numbers are compared with the printed ones."
        if results.scale is Scale.PAPER
        else "Small models on generated videos: the direction of a difference is compared with the paper's, a number "
        "never is."
    )
    damaged = (
        f"<p><strong>{len(results.damages)} damaged or foreign files among the records are left out</strong>; "
        "<code>vswin verify</code> names them.</p>"
        if results.damages
        else ""
    )
    return f'<p class="soft">{len(results.records)} records. {about}</p>{damaged}\n'


# -------------------------------------------------------------------------------------------------------- verdicts
def _strip(run: Mapping[str, tuple[Table, Sequence[ComparedRow]]]) -> str:
    """Verdicts of all tables, counted, then each row's by its sign."""
    judged = {name: [row for row in rows if row.verdict] for name, (_, rows) in run.items()}
    counts = Counter(row.verdict.verdict for rows in judged.values() for row in rows if row.verdict)
    boxes = "".join(
        f'<li class="verdict {_SIGNS[verdict][1]}"><strong>{counts[verdict]}</strong>'
        f"<b>{_SIGNS[verdict][0]}</b> {verdict}</li>"
        for verdict in Verdict
        if counts[verdict]
    )
    lines = []
    for name, rows in judged.items():
        signs = " ".join(
            f'<span class="verdict {_SIGNS[row.verdict.verdict][1]}" title="{_text(row.variant.label)}: '
            f'{_text(str(row.verdict))}"><b>{_SIGNS[row.verdict.verdict][0]}</b></span>'
            for row in rows
            if row.verdict
        )
        if signs:
            lines.append(f'<li><a href="#{name}">{name}</a><span class="marks">{signs}</span></li>')
    unordered = ", ".join(f'<a href="#{name}">{name}</a>' for name, rows in judged.items() if not rows)
    rest = f"<p>Measured, without a difference to judge: {unordered}.</p>" if unordered else ""
    explained = f"<p class=soft>{_DID_NOT_LEARN}</p>" if counts[Verdict.DID_NOT_LEARN] else ""
    return (
        f'<h2 id="verdicts">Verdicts</h2>\n<ul class="counts">{boxes}</ul>\n'
        f'<ul class="strip">{"".join(lines)}</ul>\n{rest}{explained}\n'
        if run
        else '<h2 id="verdicts">Verdicts</h2>\n<p>Nothing was run at this scale yet.</p>\n'
    )


def _not_run(
    compared: Mapping[str, tuple[Table, Sequence[ComparedRow]]], run: Mapping[str, tuple[Table, Sequence[ComparedRow]]]
) -> str:
    names = [name for name in compared if name not in run]
    return f'<p class="soft">Not run: {", ".join(names)}.</p>\n' if names else ""


def _verdict(judgement: Judgement | None) -> str:
    if judgement is None:
        return DASH
    sign, kind = _SIGNS[judgement.verdict]
    more = str(judgement).removeprefix(judgement.verdict).strip()
    needs = f' <span class="needs">{_text(more)}</span>' if more else ""
    return f'<span class="verdict {kind}"><b>{sign}</b> {judgement.verdict}</span>{needs}'


# ---------------------------------------------------------------------------------------------------------- tables
def _section(shown: Page, rows: Sequence[ComparedRow], results: Results, *, records: str) -> str:
    table = shown.table
    drawn = [row for row in rows if row.trained]
    comparable = results.scale is Scale.PAPER
    figure = drawings.figure(drawn, results, comparable=comparable) if drawn else ""
    learning = drawings.curves(drawn, results)
    notes = "".join(f"<li>{_text(note)}</li>" for note in (shown.legend, *shown.notes))
    return (
        f'<section id="{table.id}" aria-labelledby="{table.id}-title">\n'
        f'<h2 id="{table.id}-title">{_text(shown.title)}</h2>\n'
        f'<p class="question">{_text(table.question)}</p>\n{figure}\n'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{table.id}, numbers">'
        f"{_as_html(_great_table(table, rows, results.scale, records=records))}</div>\n"
        f'<details class="notes"><summary>Notes</summary><ul>{notes}</ul></details>\n'
        + (f"<details><summary>Learning curves</summary>{learning}</details>\n" if learning else "")
        + f"<details><summary>Records</summary>{_files(rows, records)}</details></section>\n"
    )


def _great_table(table: Table, rows: Sequence[ComparedRow], scale: Scale, *, records: str) -> GT:
    """The numbers with row groups and spanners; columns that say nothing are left out."""
    from great_tables import GT

    content = pd.DataFrame([_cells(row, scale, records=records) for row in rows])
    empty = [name for name in content if name not in ("row", "block") and set(content[name]) <= {"", DASH}]
    content = content.drop(columns=empty)
    if not content["block"].any():
        content = content.drop(columns="block")
    built = GT(content, rowname_col="row", groupname_col="block" if "block" in content else None, id=f"{table.id}-gt")
    columns = [str(name) for name in content]
    ours, paper = ([name for name in columns if name.startswith(whose)] for whose in ("ours ", "paper "))
    built = built.tab_spanner("ours", ours).tab_spanner("paper", paper) if paper else built.tab_spanner("ours", ours)
    built = built.cols_label({name: _HEADS.get(name, name.partition(" ")[2]) for name in [*ours, *paper]})
    words = [name for name in (*ours, *paper) if name in _LEFT]
    return built.cols_align("right").cols_align("left", columns=words).fmt_passthrough(escape=False)


_HEADS = {
    "ours interval": "95 %",
    "ours difference interval": "95 %",
    "ours number": "verdict on the number",
    "ours difference verdict": "verdict on the difference",
    "ours weights": "published weights",
    "ours weights verdict": "their verdict",
}
_LEFT = frozenset(
    ("ours interval", "ours difference interval", "ours verdict", "ours top-5 verdict", "ours difference verdict")
) | {"ours weights verdict", "ours seeds", "paper pretrain"}


def _cells(row: ComparedRow, scale: Scale, *, records: str) -> dict[str, str]:
    """One row as HTML by column; "ours ..." and "paper ..." go under their spanners."""
    paper, at_paper = row.variant.paper, scale is Scale.PAPER
    half = row.difference.half() if row.difference and not row.is_baseline else None
    printed = printed_difference(row)
    mean = number(row.top1.mean) if row.top1 else DASH
    return {
        "block": row.variant.block,
        "row": row.variant.name_in_block,
        "ours top-1": f'<a href="#records-{_anchor(row)}">{mean}</a>' if row.trained else mean,
        "ours interval": _interval(row),
        "ours top-5": number(row.top5.mean) if row.top5 and at_paper else DASH,
        "ours seeds": " ".join(_link(record, str(record.seed), records) for record in row.trained) or DASH,
        "ours difference": "baseline"
        if row.is_baseline
        else number(row.difference.mean, sign=True)
        if row.difference
        else DASH,
        "ours difference interval": "" if half is None else f'<span class="interval">± {number(half)}</span>',
        "ours p": DASH if row.p is None else "&lt;0.001" if row.p < 0.001 else f"{row.p:.3f}",
        "ours verdict": _verdict(row.verdict),
        "ours top-5 verdict": _verdict(row.verdict_top5),
        "ours difference verdict": _verdict(row.difference_verdict),
        "ours weights": _link(row.published, number(row.published.top1), records) if row.published else DASH,
        "ours weights verdict": _verdict(row.published_verdict),
        "paper top-1": number(paper.top1) if paper else DASH,
        "paper difference": DASH if printed is None else number(printed, sign=True),
        "paper top-5": number(paper.top5) if paper and paper.top5 is not None else DASH,
        "paper GFLOPs": f"{paper.gflops:.0f}" if paper and paper.gflops is not None else DASH,
        "paper params (M)": str(paper.params) if paper and paper.params else DASH,
        "paper pretrain": _text(paper.pretrain) if paper and paper.pretrain else DASH,
        "paper views": _text(paper.views) if paper and paper.views else DASH,
    }


def _interval(row: ComparedRow) -> str:
    """The words after the mean: ``± 2.5``, ``51.3 to 95.8``, or ``2 equal seeds``."""
    text = str(row.top1).partition(" ")[2].strip("()") if row.top1 else ""
    return f'<span class="interval">{text}</span>' if text else ""


def _as_html(built: GT) -> str:
    """Great Tables' HTML without its style sheet and box: the page has its own."""
    return re.search(r"<table.*</table>", built.as_raw_html(), flags=re.DOTALL)[0]  # type: ignore[index]


def _files(rows: Sequence[ComparedRow], records: str) -> str:
    parts = []
    for row in rows:
        every = [*row.trained, *([row.published] if row.published else [])]
        if every:
            links = "".join(
                f"<li>{_link(record, f'{record.name}.json', records)}: "
                + (f"seed {record.seed}" if record.seed is not None else "published weights")
                + f", top-1 {number(record.top1, 2)}, commit <code>{record.provenance.commit[:10]}</code>"
                + (" with uncommitted changes" if record.provenance.dirty else "")
                + "</li>"
                for record in every
            )
            parts.append(
                f'<h3 id="records-{_anchor(row)}">{_text(row.variant.name_in_block)}</h3><ul class="files">{links}</ul>'
            )
    return "".join(parts)


def _link(record: Record, text: str, records: str) -> str:
    path = f"{records}/{record.name}.json"
    return f'<a href="{_text(path)}" title="{_text(path)}">{_text(text)}</a>'


def _anchor(row: ComparedRow) -> str:
    return row.variant.id.replace("/", "-")


# --------------------------------------------------------------------------------------------------- at the end
def _provenance(results: Results) -> str:
    """Facts of the records about themselves, counted."""
    if not results.records:
        return ""
    known = [record.provenance for record in results.records]
    facts = {
        "commits": (item.commit[:10] + (" with uncommitted changes" if item.dirty else "") for item in known),
        "torch": (item.torch for item in known),
        "Python": (item.python for item in known),
        "device": (item.device for item in known),
        "precision": (str(item.precision) for item in known),
        "software (digest of installed packages)": (item.software for item in known),
        "finished": (span for span in _span([item.finished for item in known])),
    }
    lines = "".join(f"<li>{name}: {_counted(values)}</li>" for name, values in facts.items())
    return f'<section id="provenance"><h2>Provenance</h2><ul>{lines}</ul></section>\n'


def _counted(values: Iterable[str]) -> str:
    counts = Counter(values)
    return ", ".join(
        f"<code>{_text(value)}</code>" + (f" ({count} records)" if len(counts) > 1 else "")
        for value, count in counts.most_common()
    )


def _span(times: Sequence[str]) -> list[str]:
    first, last = min(times), max(times)
    return [first if first == last else f"{first} to {last}"]


def _checklist(results: Results) -> str:
    parts = [
        f"<h3>{_text(item.title)}</h3><p class=soft>{_text(item.question)}</p><ul>"
        + "".join(f"<li>{_marked(line)}</li>" for line in item.lines)
        + "</ul>"
        for item in checklist.answers({results.scale: results})
    ]
    return (
        '<section id="checklist"><h2>Reproducibility checklist</h2>'
        f'<details class="notes"><summary>After the questions of NeurIPS</summary>{"".join(parts)}</details>'
        "</section>\n"
    )


def _marked(text: str) -> str:
    """One line of Markdown for HTML: nothing but code is marked there."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", _text(text))


def _text(text: str) -> str:
    """``text`` for HTML, with real minus signs before digits."""
    return html.escape(re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", text))
