"""Forecasts on a terminal, and as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from ...launch.forecast import Basis, Forecast, Place, Rate, Sum
from ...registry.recipe import Scale
from ...runs.runtime import default_runtime
from ...words import in_words


def forecast_json(item: Forecast) -> dict[str, Any]:
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
    by_table: Mapping[str, Sequence[Forecast]],
    sums: Mapping[str, Sum],
    whole: Sum,
    *,
    scale: Scale,
    seeds: int,
    place: Place,
    rate: Rate,
) -> None:
    """A line per table and the total; of a single table a line per variant."""
    device = default_runtime(scale).unit
    at_once = "all runs at once" if place.at_once is None else f"{place.at_once} at once"
    several = f"{place.devices} {device}s a run, " if place.devices > 1 else ""
    title = f"scale {scale}, {seeds} {'seed' if seeds == 1 else 'seeds'}, on {place.name}: {several}{at_once}"
    console.print(f"{title}{'; of each run' if len(by_table) == 1 else ''}", style="italic", markup=False)
    grid = Grid(box=None, pad_edge=False)
    if len(by_table) == 1:
        [(name, estimates)] = by_table.items()
        for heading in (name, "steps", f"{device}-hours", "wall", "disk", "done", "took"):
            grid.add_column(heading, justify="left" if heading == name else "right", no_wrap=True)
        for item in estimates:
            rows = [variant.name for variant in item.experiment.variants if variant.table == name]
            grid.add_row(
                escape(rows[0] if rows else item.experiment.name),
                f"{item.work.steps:,}",
                _hours(item.device_hours),
                in_words(3600 * item.wall_hours),
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
        markup=False,
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
        in_words(3600 * item.wall_hours),
        _bytes(item.disk),
        str(item.done) if item.done else "",
        _hours(item.actual_device_hours) if item.done else "",
    ]


def _took(item: Forecast) -> str:
    if item.actual is None:
        return ""
    return f"{_hours(item.actual.device_hours)} ({item.actual.device_hours / item.device_hours:.0%})"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}" if hours else "0"


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
