"""Figures of the report as SVG inside HTML: no scripts, no fonts, colours from the page's style.

Positions along an axis are percentages of its width, so a figure fills whatever room it has without bending its marks.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .comparison import ComparedRow, Results, printed_difference
from .record import Curve

_POINTS = 120
_CURVE = (300, 110)
# Okabe and Ito's colours, which colour-blind readers tell apart, then the same in dashes
COLOURS = 8
_DASHES = ("", "6 3", "2 2")


@dataclass(frozen=True)
class Axis:
    """An axis from ``low`` to ``high`` with a name, in percent or points."""

    name: str
    low: float
    high: float

    @classmethod
    def around(cls, name: str, values: Iterable[float], *, within: tuple[float, float] = (-math.inf, math.inf)) -> Axis:
        """One that has room for all of ``values``, but none beyond ``within``."""
        known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(known), max(known)
        room = 0.06 * (high - low) or 0.5
        return cls(name, max(within[0], low - room), min(within[1], high + room))

    def at(self, value: float) -> str:
        """The place of ``value``."""
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"

    @property
    def ticks(self) -> list[float]:
        """Three to seven round values."""
        rough = (self.high - self.low) / 5
        power = 10 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        first = math.ceil(self.low / step)
        return [number * step for number in range(first, math.floor(self.high / step) + 1)]


def number(value: float, digits: int = 1, *, sign: bool = False) -> str:
    """``value`` with a real minus sign; minus zero is zero."""
    return f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def figure(rows: Sequence[ComparedRow], results: Results, *, comparable: bool) -> str:
    """Every row of a table on one line: seeds, mean and interval; our difference to the baseline and the paper's.

    ``comparable``: the paper's numbers stand on our axes, as at scale paper.
    """
    levels = {row.variant.id: _levels(row, results) for row in rows}
    accuracy = Axis.around(
        "top-1, percent",
        [
            value
            for row in rows
            for value in (
                *(row.top1.values if row.top1 else ()),
                *((row.top1.low, row.top1.high) if row.top1 and row.top1.low is not None else ()),
                *(value for _, value in levels[row.variant.id] if row.trained),
                *([row.variant.paper.top1] if comparable and row.variant.paper else ()),
            )
            if value is not None
        ],
        within=(0, 100),
    )
    ours = [(row.difference.mean, row.difference.half() or 0.0) for row in rows if row.difference]
    printed = [value for row in rows if (value := printed_difference(row)) is not None]
    ends = [0.0, *(end for mean, half in ours for end in (mean - half, mean + half))]
    difference = Axis.around("difference, ours", ends + (printed if comparable else []))
    paper = difference if comparable else Axis.around("difference, paper", [0.0, *printed])
    panels = [accuracy, *([difference] if ours else []), *([paper] if printed and not comparable else [])]
    lines = []
    block = None
    for row in rows:
        if row.variant.block != block:
            block = row.variant.block
            if block:
                lines.append(f'<div class="block">{html.escape(block)}</div>')
        cells = [_accuracy(row, accuracy, levels[row.variant.id], comparable=comparable)]
        if ours:
            cells.append(_difference(row, difference, comparable=comparable))
        if len(panels) == 3:
            cells.append(_printed(row, paper))
        name = html.escape(row.variant.name_in_block)
        lines.append(f'<div class="line"><div class="name">{name}</div>{"".join(cells)}</div>')
    scales = "".join(_scale(axis) for axis in panels)
    heads = "".join(f'<div class="head">{axis.name}</div>' for axis in panels)
    return (
        f'<div class="figure panels-{len(panels)}" role="img" aria-label="{html.escape(_in_words(rows))}">'
        f'<div class="line heads"><div class="name"></div>{heads}</div>{"".join(lines)}'
        f'<div class="line scales"><div class="name"></div>{scales}</div></div>'
        + _legend(rows, levels, comparable=comparable)
    )


def _levels(row: ComparedRow, results: Results) -> list[tuple[str, float]]:
    """Levels that a row should be above: guessing, and the mean of its control."""
    if results.scale not in row.variant.scales:
        return []
    found = [("guess", 100 / row.variant.at(results.scale).model.num_classes)]
    if row.control and (trained := results.trained(row.control)):
        found.append(("control", float(np.mean([record.top1 for record in trained]))))
    return found


def _accuracy(row: ComparedRow, axis: Axis, levels: Sequence[tuple[str, float]], *, comparable: bool) -> str:
    marks = [_upright(axis, value, kind) for kind, value in levels]
    if row.top1:
        if row.top1.low is not None and row.top1.high is not None:
            marks.append(_span(axis, row.top1.low, row.top1.high))
        marks += [f'<circle class="seed" cx="{axis.at(value)}" cy="50%" r="3.2"/>' for value in row.top1.values]
        marks.append(f'<line class="mean" x1="{axis.at(row.top1.mean)}" x2="{axis.at(row.top1.mean)}" y1="5" y2="19"/>')
    if comparable and row.variant.paper:
        marks.append(_diamond(axis, row.variant.paper.top1))
    return _panel(axis, marks)


def _difference(row: ComparedRow, axis: Axis, *, comparable: bool) -> str:
    marks = [_upright(axis, 0.0, "zero")]
    if row.difference:
        half = row.difference.half()
        if half is not None:
            marks.append(_span(axis, row.difference.mean - half, row.difference.mean + half))
        marks.append(f'<circle class="ours" cx="{axis.at(row.difference.mean)}" cy="50%" r="4.2"/>')
    printed = printed_difference(row)
    if comparable and printed is not None:
        marks.append(_diamond(axis, printed))
    return _panel(axis, marks)


def _printed(row: ComparedRow, axis: Axis) -> str:
    printed = printed_difference(row)
    return _panel(axis, [_upright(axis, 0.0, "zero"), *([] if printed is None else [_diamond(axis, printed)])])


def _panel(axis: Axis, marks: Iterable[str]) -> str:
    grid = (f'<line class="grid" x1="{axis.at(tick)}" x2="{axis.at(tick)}" y1="0" y2="100%"/>' for tick in axis.ticks)
    return f'<svg class="panel" height="24">{"".join(grid)}{"".join(marks)}</svg>'


def _scale(axis: Axis) -> str:
    step = axis.ticks[1] - axis.ticks[0] if len(axis.ticks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    texts = "".join(f'<text x="{axis.at(tick)}" y="12">{number(tick, digits)}</text>' for tick in axis.ticks)
    return f'<svg class="panel" height="16">{texts}</svg>'


def _upright(axis: Axis, value: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{axis.at(value)}" x2="{axis.at(value)}" y1="0" y2="100%"/>'


def _span(axis: Axis, low: float, high: float) -> str:
    return f'<line class="span" x1="{axis.at(low)}" x2="{axis.at(high)}" y1="50%" y2="50%"/>'


def _diamond(axis: Axis, value: float) -> str:
    return (
        f'<svg class="at" x="{axis.at(value)}" y="50%" overflow="visible">'
        '<path class="paper" d="M-5 0L0 -5L5 0L0 5Z"/></svg>'
    )


def _legend(rows: Sequence[ComparedRow], levels: Mapping[str, Sequence[tuple[str, float]]], *, comparable: bool) -> str:
    kinds = {kind for row in rows for kind, _ in levels[row.variant.id]}
    span = '<line class="span" x1="2" x2="22" y1="8" y2="8"/>'
    marks = [
        ('<circle class="seed" cx="12" cy="8" r="3.2"/>', "one seed"),
        (f'{span}<line class="mean" x1="12" x2="12" y1="1" y2="15"/>', "mean, 95 %"),
    ]
    if any(row.difference for row in rows):
        marks.append((f'{span}<circle class="ours" cx="12" cy="8" r="4.2"/>', "difference to the baseline, 95 %"))
    if comparable or any(printed_difference(row) is not None for row in rows):
        diamond = '<path class="paper" transform="translate(12 8)" d="M-5 0L0 -5L5 0L0 5Z"/>'
        marks.append((diamond, "the paper" if comparable else "the paper, on an axis of its own"))
    if "control" in kinds:
        marks.append(('<line class="control" x1="12" x2="12" y1="0" y2="16"/>', "control without attention in time"))
    if "guess" in kinds:
        marks.append(('<line class="guess" x1="12" x2="12" y1="0" y2="16"/>', "guessing"))
    return _listed(marks)


def _listed(marks: Iterable[tuple[str, str]]) -> str:
    """A legend of marks, 24 wide and 16 high, with what they mean."""
    items = (
        f'<li><svg width="24" height="16" aria-hidden="true">{mark}</svg>{html.escape(text)}</li>'
        for mark, text in marks
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _in_words(rows: Sequence[ComparedRow]) -> str:
    """A figure in words, for those who do not see it; the table below has the numbers."""
    told = [f"{row.variant.name_in_block} {row.top1}" for row in rows if row.top1]
    return f"Top-1 of every seed, with means and 95 % intervals: {'; '.join(told)}"


# -------------------------------------------------------------------------------------------------- learning curves
def curves(rows: Sequence[ComparedRow], results: Results) -> str:
    """The learning curves of a table's rows: the mean over seeds, the band from the lowest to the highest."""
    panels = []
    for metric, label in (("train/loss", "training loss"), ("val/top1", "validation top-1, percent")):
        lines = {}
        for row in rows:
            found = [curve for record in row.trained if (curve := results.curves(record).get(metric))]
            if found:
                lines[row.variant.id] = _on_one_grid(found)
        if lines:
            panels.append(_curve_panel(label, lines))
    shown = [row for row in rows if row.trained]
    if not panels or not shown:
        return ""
    marks = [
        (
            f'<line class="curve c{index % COLOURS}" stroke-dasharray="{_dash(index)}" x1="1" x2="23" y1="8" y2="8"/>',
            row.variant.title,
        )
        for index, row in enumerate(shown)
    ]
    return f'<div class="curves">{"".join(panels)}</div>{_listed(marks)}'


def _on_one_grid(found: Sequence[Curve]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps [points] and values [seeds, points], smoothed over a fiftieth of the training."""
    steps = np.linspace(max(curve.steps[0] for curve in found), min(curve.steps[-1] for curve in found), _POINTS)
    values = []
    for curve in found:
        window = max(1, len(curve.values) // 50)
        sums = np.cumsum(np.concatenate([[0.0], curve.values.astype(np.float64)]))
        ends = np.arange(1, len(curve.values) + 1)
        begins = np.maximum(0, ends - window)
        values.append(np.interp(steps, curve.steps, (sums[ends] - sums[begins]) / (ends - begins)))
    return steps, np.stack(values)


def _curve_panel(label: str, lines: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> str:
    width, height = _CURVE
    most = max(float(steps[-1]) for steps, _ in lines.values())
    axis = Axis.around(label, [float(end) for _, values in lines.values() for end in (values.min(), values.max())])

    def points(steps: NDArray[np.float64], values: NDArray[np.float64]) -> str:
        across, down = width * steps / most, height * (axis.high - values) / (axis.high - axis.low)
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))

    drawn = [
        f'<line class="grid" x1="0" x2="{width}" y1="{y:.1f}" y2="{y:.1f}"/>'
        for y in (height * (axis.high - tick) / (axis.high - axis.low) for tick in axis.ticks)
    ]
    for index, (steps, values) in enumerate(lines.values()):
        band = points(np.concatenate([steps, steps[::-1]]), np.concatenate([values.min(0), values.max(0)[::-1]]))
        drawn.append(f'<polygon class="band c{index % COLOURS}" points="{band}"/>')
    for index, (steps, values) in enumerate(lines.values()):
        drawn.append(
            f'<polyline class="curve c{index % COLOURS}" stroke-dasharray="{_dash(index)}" '
            f'points="{points(steps, values.mean(0))}"/>'
        )
    step = axis.ticks[1] - axis.ticks[0] if len(axis.ticks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    marks = "".join(
        f'<span style="top:{100 * (axis.high - tick) / (axis.high - axis.low):.1f}%">{number(tick, digits)}</span>'
        for tick in axis.ticks
    )
    return (
        f'<figure><figcaption>{label}</figcaption><div class="plot"><div class="ticks">{marks}</div>'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" aria-label="{label} by step">'
        f'{"".join(drawn)}</svg></div><div class="steps"><span>0</span><span>step</span><span>{most:,.0f}</span></div>'
        "</figure>"
    )


def _dash(index: int) -> str:
    return _DASHES[index // COLOURS % len(_DASHES)]
