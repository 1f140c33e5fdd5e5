"""What the commands that look after runs print on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from .check import Aspect, Finding, Outcome
from .forecast import Basis, Estimate, Place, Rate, Sum
from .recipe import Scale

_MARKS = {Outcome.OK: "green", Outcome.SKIPPED: "yellow", Outcome.FAILED: "red"}
_PER_VARIANT = {
    Aspect.ISOLATES: "differs in",
    Aspect.COST: "parameters, FLOPs",
    Aspect.WEIGHTS: "weights",
    Aspect.STEP: "step",
}


# ------------------------------------------------------------------------------------------------- check


def show_findings(console: Console, findings: Sequence[Finding], *, title: str) -> None:
    """One line per variant, then data sets and disk, then what failed or was left out, and what to do about it."""
    by_variant: dict[str, dict[Aspect, Finding]] = {}
    for finding in findings:
        if finding.aspect in _PER_VARIANT:
            by_variant.setdefault(finding.about, {})[finding.aspect] = finding
    aspects = [aspect for aspect in _PER_VARIANT if any(aspect in own for own in by_variant.values())]
    console.print(f"[italic]{title}[/]")
    grid = _grid()
    grid.add_column("variant", no_wrap=True)
    for aspect in aspects:
        grid.add_column(_PER_VARIANT[aspect], overflow="fold")
    for name, own in by_variant.items():
        grid.add_row(name, *(_cell(own[aspect]) for aspect in aspects))
    console.print(grid)
    for finding in findings:
        if finding.aspect not in _PER_VARIANT and finding.outcome is Outcome.OK:
            console.print(f"{finding.aspect.value}: {finding.about}, {finding.detail}", style="dim")
    # the same words for many variants are said once
    told: dict[tuple[Outcome, Aspect, str], list[str]] = {}
    for finding in findings:
        if finding.outcome is not Outcome.OK:
            told.setdefault((finding.outcome, finding.aspect, finding.detail), []).append(finding.about)
    for (outcome, aspect, detail), names in sorted(told.items(), key=lambda item: item[0][0] is Outcome.FAILED):
        console.print()
        console.print(Text.assemble((outcome.value, _MARKS[outcome]), f" {aspect.value}: {', '.join(names)}"))
        # the terminal folds: what is to be copied stays in one piece
        console.print(Text(f"  {detail}"), soft_wrap=True)
    failed = {name for (outcome, _, _), names in told.items() for name in names if outcome is Outcome.FAILED}
    console.print(
        f"\n[red]{len(failed)} cannot work[/]" if failed else f"\n[green]all {len(by_variant)} can work[/]", end=""
    )
    skipped = any(outcome is Outcome.SKIPPED for outcome, _, _ in told)
    console.print(", as far as could be looked at" if skipped and not failed else "")


def _cell(finding: Finding) -> Text:
    if finding.outcome is not Outcome.OK:
        return Text(finding.outcome.value, style=_MARKS[finding.outcome])
    match finding.aspect:
        case Aspect.ISOLATES:
            return Text(finding.detail.replace("model.", "").replace("optim.", "").replace("data.", ""))
        case Aspect.COST:
            return Text(finding.detail.replace(" parameters", "").replace(" FLOPs", "").partition(";")[0])
        case Aspect.WEIGHTS:
            return Text("scratch" if finding.detail == "from scratch" else "found")
        case _:
            return Text("ok", style="green")


# ---------------------------------------------------------------------------------------------- forecast


def estimate_json(item: Estimate) -> dict[str, Any]:
    """An estimate as plain data; hours and work are those of one run."""
    return {
        "variants": [variant.id for variant in item.experiment.variants],
        "signature": item.experiment.recipe.signature,
        "runs": item.runs,
        **asdict(item.work),
        "device_hours": item.device_hours,
        "wall_hours": item.wall_hours,
        "actual": asdict(item.actual) if item.actual else None,
    }


def show_forecast(
    console: Console,
    by_table: Mapping[str, Sequence[Estimate]],
    sums: Mapping[str, Sum],
    whole: Sum,
    *,
    scale: Scale,
    seeds: int,
    place: Place,
    rate: Rate,
) -> None:
    """A line per table and the total; of a single table a line per variant."""
    device = "GPU" if scale is Scale.PAPER else "core"
    at_once = "all runs at once" if place.at_once is None else f"{place.at_once} at once"
    several = f"{place.devices} {device}s a run, " if place.devices > 1 else ""
    title = f"scale {scale}, {seeds} {'seed' if seeds == 1 else 'seeds'}, on {place.name}: {several}{at_once}"
    console.print(f"[italic]{title}{'; of each run' if len(by_table) == 1 else ''}[/]")
    grid = _grid()
    if len(by_table) == 1:
        [(name, estimates)] = by_table.items()
        for heading in (name, "steps", f"{device}-hours", "wall", "disk", "done", "took"):
            grid.add_column(heading, justify="left" if heading == name else "right", no_wrap=True)
        for item in estimates:
            row = next(variant for variant in item.experiment.variants if variant.table == name)
            grid.add_row(
                row.name,
                f"{item.work.steps:,}",
                _hours(item.device_hours),
                _time(item.wall_hours),
                _bytes(item.work.disk),
                f"{item.actual.done}" if item.actual else "",
                _took(item),
            )
        grid.add_section()
        grid.add_row(*_sum_cells("all runs", whole))
    else:
        for heading in ("table", "runs", "steps", f"{device}-hours", "wall", "disk", "done", "took"):
            grid.add_column(heading, justify="left" if heading == "table" else "right", no_wrap=True)
        for name, own in [*sums.items(), ("all", whole)]:
            cells = _sum_cells(name, own)
            if name == "all":
                grid.add_section()
            grid.add_row(cells[0], str(own.runs), *cells[1:])
    console.print(grid)
    style = "yellow" if rate.basis is Basis.ASSUMED else "dim"
    console.print(
        f"rate: {rate.basis.value}, {rate.source}; that is {_rate_in_words(rate)} per {device}, a multiply-accumulate "
        "counted once",
        style=style,
    )
    notes = []
    if rate.basis is Basis.ASSUMED:
        notes.append("a guess; better: --throughput CLIPS_PER_S, of table4/joint in training on one device")
    if len(by_table) > 1:
        notes.append("runs that tables share are counted in each of them, and once in all")
    if whole.done:
        notes.append(
            "took: what a run that is done took on average, and beside the forecast"
            if len(by_table) == 1
            else "took: of all runs that are done"
        )
    for note in notes:
        console.print(f"[dim]{note}[/]")


def _sum_cells(name: str, item: Sum) -> list[str]:
    return [
        name,
        f"{item.steps:,}",
        _hours(item.device_hours),
        _time(item.wall_hours),
        _bytes(item.disk),
        str(item.done) if item.done else "",
        _hours(item.actual_device_hours) if item.done else "",
    ]


def _took(item: Estimate) -> str:
    if item.actual is None:
        return ""
    return f"{_hours(item.actual.device_hours)} ({item.actual.device_hours / item.device_hours:.0%})"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}" if hours else "0"


def _time(hours: float) -> str:
    """A length of time in two units at most."""
    seconds = round(3600 * hours)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600}:{seconds % 3600 // 60:02} h"
    return f"{seconds / 86400:.1f} days"


def _bytes(count: float) -> str:
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def _rate_in_words(rate: Rate) -> str:
    for size, unit in ((1e12, "TFLOP/s"), (1e9, "GFLOP/s")):
        if rate.flops >= size:
            return f"{rate.flops / size:.1f} {unit}"
    return f"{rate.flops / 1e6:.0f} MFLOP/s"


def _grid() -> Grid:
    return Grid(box=None, pad_edge=False)
