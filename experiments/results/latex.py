"""A table in LaTeX, for a page of one column or a column of two; needs the packages array and booktabs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ..registry.recipe import Scale
from ..registry.table import Table
from .comparison import ComparedRow, printed_difference
from .verdicts import Judgement, Verdict


class Width(Enum):
    """The room that a table has: a page of one column (345 pt in class article), or one of two columns (229 pt)."""

    PAGE = "page"
    COLUMN = "column"


_SIGNS = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "<": r"$<$",
    ">": r"$>$",
}
# A verdict in a page's and in a column's room.
_VERDICTS = {
    Verdict.REPRODUCED: ("reproduced", "$=$"),
    Verdict.NOT_REPRODUCED: ("not repr.", r"$\neq$"),
    Verdict.AGREES: ("agrees", "$+$"),
    Verdict.DISAGREES: ("disagrees", "$-$"),
    Verdict.UNDERPOWERED: ("underpow.", "?"),
    Verdict.PAPER_CANNOT_TELL: ("cannot tell", r"$\approx$"),
    Verdict.DID_NOT_LEARN: ("not learnt", r"$\emptyset$"),
    Verdict.NOT_RUN: ("not run", r"$\circ$"),
}
# More rows than this are set smaller, so that a table stays on its page.
_MANY = 40
Column = tuple[str, str, list[str]]


def escape(text: str) -> str:
    """``text`` for LaTeX, with real minus signs before digits."""
    marked = re.sub(r"(?<![\w.])-(?=\d)", "\0", text)
    return "".join(_SIGNS.get(sign, sign) for sign in marked).replace("\0", "$-$")


def table(
    table: Table, scale: Scale, rows: Sequence[ComparedRow], *, width: Width, notes: Sequence[str], runs: Sequence[str]
) -> str:
    """``rows`` of ``table`` as a float that fits ``width``; ``notes`` follow outside of it, ``runs`` as comments."""
    label = f"tab:{table.id}-{scale}" + ("" if width is Width.PAGE else "-column")
    many = len(rows) > _MANY
    groups, left_out, kind, rest = _in_room(_groups(rows, scale, width), _TYPES[width][-1:] if many else _TYPES[width])
    columns = [column for _, group in groups for column in group]
    total = 1 + sum(_span(spec) for spec, _, _ in columns)
    room = min(rest, kind.letter * max((len(row.variant.name_in_block) for row in rows), default=1))
    lines = [
        f"% {table.id} at scale {scale}, for a {width.value}; needs \\usepackage{{array,booktabs}}",
        r"\begin{table}",
        r"\centering",
        kind.command,
        rf"\setlength{{\tabcolsep}}{{{'2pt' if width is Width.COLUMN else '3pt'}}}",
        *([r"\renewcommand{\arraystretch}{0.85}\setlength{\defaultaddspace}{0pt}"] if many else []),
        f"\\caption{{{escape(table.caption)}}}\\smallskip",
        f"\\label{{{label}}}",
        rf"\begin{{tabular}}{{@{{}}>{{\raggedright\arraybackslash\hangindent=1em}}p{{{room:.3f}\linewidth}}"
        f"{''.join(spec for spec, _, _ in columns)}@{{}}}}",
        r"\toprule",
        *_heads(groups),
    ]
    if left_out:
        notes = (*notes, f"Left out for want of room: {', '.join(left_out)}.")
    comments = [f"% {run}" for run in runs]
    before = None
    for number, row in enumerate(rows):
        if row.variant.block != before:
            lines.append(r"\midrule")
            if row.variant.block:
                lines.append(rf"\multicolumn{{{total}}}{{@{{}}l}}{{\emph{{{escape(row.variant.block)}}}}} \\")
            before = row.variant.block
        cells = [escape(row.variant.name_in_block), *(content[number] for _, _, content in columns)]
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", *_notes(rows, width, label, notes), *comments]
    return "\n".join(lines) + "\n"


def _span(spec: str) -> int:
    """The number of TeX's columns in one of ours."""
    return len(re.sub(r"@\{[^}]*\}", "", spec))


def _groups(rows: Sequence[ComparedRow], scale: Scale, width: Width) -> list[tuple[str, list[Column]]]:
    """Ours and the paper's columns: format, head and cells; those that say nothing are left out."""
    narrow = width is Width.COLUMN
    ours: list[Column] = [
        ("r@{ }l", "top-1", [_mean(row) for row in rows]),
        ("r@{ }l", "diff." if narrow else "difference", [_difference(row) for row in rows]),
        ("r", "$p$", ["" if narrow else _p(row.p) for row in rows]),
        ("l", "v." if narrow else "verdict", [_verdict(row.verdict, width) for row in rows]),
        ("l", "v., diff.", [_verdict(row.difference_verdict, width) for row in rows]),
        ("r", "weights", [_number(row.published.top1 if row.published else None) for row in rows]),
    ]
    paper: list[Column] = [
        ("r", "top-1", [_number(row.variant.paper.top1 if row.variant.paper else None) for row in rows]),
        ("r", "diff.", [_number(printed_difference(row), sign=True) for row in rows]),
        ("r", "GFLOPs", [_whole(row, "gflops", narrow=narrow) for row in rows]),
        ("r", "M", [_whole(row, "params", narrow=narrow) for row in rows]),
    ]
    found = [
        (name, [column for column in group if _says(column)]) for name, group in (("ours", ours), ("paper", paper))
    ]
    if scale is Scale.PAPER and not found[0][1]:
        found[0] = ("ours", [ours[0]])
    return [(name, group) for name, group in found if group]


@dataclass(frozen=True)
class _Type:
    """A size of type in a given width: what a letter and the gap beside a column take of it."""

    command: str
    letter: float
    gap: float

    def of(self, column: Column) -> float:
        """The share of the width that ``column`` takes."""
        _, head, cells = column
        return max(map(len, map(_printed, (head, *cells)))) * self.letter + _span(column[0]) * self.gap


_TYPES = {
    Width.PAGE: (_Type(r"\footnotesize", 0.0125, 0.0145), _Type(r"\scriptsize", 0.0116, 0.0145)),
    Width.COLUMN: (_Type(r"\scriptsize", 0.0178, 0.0145),),
}
# What is left out, in this order, where there is no room: nothing at first.
_FIRST_TO_GO = (
    ("", ""),
    ("paper", "GFLOPs"),
    ("paper", "M"),
    ("paper", "diff."),
    ("ours", "$p$"),
    ("ours", "weights"),
)
# Names of rows are folded, but to no less than this share of the width.
_LEAST_NAME = 0.2


def _in_room(
    groups: Sequence[tuple[str, Sequence[Column]]], types: Sequence[_Type]
) -> tuple[list[tuple[str, list[Column]]], list[str], _Type, float]:
    """``groups`` without the columns that there is no room for, the heads of those, a type, and what names may take."""
    kept, left_out = [(name, list(group)) for name, group in groups], []

    def rest(kind: _Type) -> float:
        # Python 3.12's own sum is more exact than that of 3.11
        return 1 - kind.gap - math.fsum(kind.of(column) for _, columns in kept for column in columns)

    for of, head in _FIRST_TO_GO:
        for name, group in kept:
            if name == of and any(column[1] == head for column in group):
                group[:] = [column for column in group if column[1] != head]
                left_out.append(f"{head} of {name}")
        for kind in types:
            if rest(kind) >= _LEAST_NAME:
                return kept, left_out, kind, rest(kind)
    return kept, left_out, types[-1], _LEAST_NAME


def _printed(cell: str) -> str:
    """About as many letters as ``cell`` is wide in print."""
    plain = re.sub(r"\\multicolumn\{\d\}\{\w\}", "", cell).replace(r"$\pm$", "xxx").replace(" & ", " ")
    return re.sub(r"[{}$]", "", re.sub(r"\\[a-z]+", "x", plain))


def _says(column: Column) -> bool:
    return bool({re.sub(r"[&\s]", "", cell) for cell in column[2]} - {"", "--"})


def _heads(groups: Sequence[tuple[str, Sequence[Column]]]) -> list[str]:
    spanners, rules, heads, at = [""], [], [""], 2
    for name, group in groups:
        wide = sum(_span(spec) for spec, _, _ in group)
        spanners.append(rf"\multicolumn{{{wide}}}{{c}}{{{name}}}")
        rules.append(rf"\cmidrule(lr){{{at}-{at + wide - 1}}}")
        at += wide
        heads += [
            rf"\multicolumn{{2}}{{c}}{{{head}}}" if _span(spec) == 2 else rf"\multicolumn{{1}}{{{spec}}}{{{head}}}"
            for spec, head, _ in group
        ]
    return [" & ".join(spanners) + r" \\", "".join(rules), " & ".join(heads) + r" \\"]


def _mean(row: ComparedRow) -> str:
    """Two cells: the mean, and what follows it."""
    if row.top1 is None:
        return "-- &"
    mean, _, rest = str(row.top1).partition(" ")
    rest = re.sub(r"^\((.*) to (.*)\)$", r"(\1--\2)", rest)
    return f"{mean} & {escape(rest)}"


def _difference(row: ComparedRow) -> str:
    if row.is_baseline:
        return r"\multicolumn{2}{c}{base}"
    if row.difference is None:
        return "-- &"
    half = row.difference.half()
    return f"{_number(row.difference.mean, sign=True)} & " + ("" if half is None else rf"$\pm$ {half:.1f}")


def _number(value: float | None, *, sign: bool = False) -> str:
    return "--" if value is None else escape(f"{round(value, 1) + 0.0:{'+' if sign else ''}.1f}").replace("+", "$+$")


def _whole(row: ComparedRow, name: str, *, narrow: bool) -> str:
    value = getattr(row.variant.paper, name) if row.variant.paper and not narrow else None
    return "--" if value is None else f"{value:.0f}" if name == "gflops" else str(value)


def _p(p: float | None) -> str:
    return "--" if p is None else "$<$0.001" if p < 0.001 else f"{p:.3f}"


def _verdict(judgement: Judgement | None, width: Width) -> str:
    return "--" if judgement is None else _VERDICTS[judgement.verdict][width is Width.COLUMN]


def _notes(rows: Sequence[ComparedRow], width: Width, label: str, notes: Sequence[str]) -> list[str]:
    used = {judgement.verdict for row in rows for judgement in (row.verdict, row.difference_verdict) if judgement}
    signs = [
        f"{_VERDICTS[verdict][width is Width.COLUMN]} {verdict}"
        for verdict in Verdict
        if verdict in used and _VERDICTS[verdict][width is Width.COLUMN] != verdict
    ]
    told = [f"Verdicts: {', '.join(signs)}."] if signs else []
    return [
        "",
        r"{\footnotesize\sloppy\emergencystretch=3em",
        rf"\noindent Notes to Table~\ref{{{label}}}.",
        *told,
        *map(escape, notes),
        r"\par}",
    ]
