"""What the command line prints on a terminal."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from .cost import view_cost
from .doctor import Finding
from .plan import Action, Step
from .recipe import Scale, difference, flatten
from .record import Record
from .registry import Reported, Table, Variant, find_experiment, find_table, tables

if TYPE_CHECKING:
    import pandas as pd

_COLOURS = {
    Action.DONE: "green",
    Action.RUNNING: "cyan",
    Action.PENDING: "cyan",
    Action.SUBMIT: "default",
    Action.RESUME: "yellow",
    Action.RETRY: "red",
}


def print_json(content: Any) -> None:
    """``content`` as JSON on standard output, for scripts."""
    json.dump(content, sys.stdout, indent=2)
    sys.stdout.write("\n")


def show_tables(console: Console) -> None:
    """Every table with its variants."""
    for table in tables().values():
        console.print(f"[bold]{table.id}[/]  {table.question}")
        for variant in table.variants:
            console.print(f"  {variant.id:<24}{variant.label}")


def variant_json(variant: Variant, scale: Scale) -> dict[str, Any]:
    """Everything ``show_variant`` prints, as plain data."""
    recipe, baseline = variant.at(scale), find_table(variant.table).variants[0].at(scale)
    return {
        "id": variant.id,
        "label": variant.label,
        "scale": scale,
        "signature": recipe.signature,
        "protocol": recipe.protocol_signature,
        "paper": vars(variant.paper) if variant.paper else None,
        "difference": {
            path: {"baseline": old, "here": new} for path, (old, new) in sorted(difference(recipe, baseline).items())
        },
        "cost": asdict(view_cost(recipe)),
        "recipe": flatten(recipe),
    }


def show_variant(console: Console, variant: Variant, scale: Scale) -> None:
    """One variant: paper value, difference to the baseline, recipe, commands."""
    table = find_table(variant.table)
    content = variant_json(variant, scale)
    console.print(f"[bold]{variant.id}[/]  {variant.label}\n{table.question}\n")
    console.print(f"  {'the paper':<28}{_reported(variant.paper)}")
    console.print(f"  {'scale':<28}{scale}")
    console.print(f"  {'signature':<28}{content['signature']}, tested under protocol {content['protocol']}")
    also = [other.id for other in find_experiment(scale, variant).variants if other.id != variant.id]
    if also:
        console.print(f"  {'same run as':<28}{', '.join(also)}")
    console.print(f"\n[bold]differs from {table.variants[0].id} in[/]")
    for path, change in content["difference"].items():
        console.print(f"  {path:<28}{_plain(change['here'])}  [dim](there {_plain(change['baseline'])})[/]")
    if not content["difference"]:
        console.print("  nothing: it is the baseline")
    _show_cost(console, content["cost"])
    console.print("\n[bold]recipe[/]")
    for path, value in content["recipe"].items():
        console.print(f"  {path:<28}{_plain(value)}")
    console.print("\n[bold]commands[/]")
    console.print(f"  vswin run {variant.id} --scale {scale} --seed 0")
    console.print(f"  vswin launch {table.id} --scale {scale} --seeds 3")


def step_json(step: Step) -> dict[str, Any]:
    """A step of a plan as plain data."""
    return {
        "variants": [variant.id for variant in step.experiment.variants],
        "seed": step.seed,
        "signature": step.run.signature,
        "action": step.action,
        "why": step.why,
        "step": step.run.last_step(),
        "error": step.run.last_error(),
        "directory": str(step.run.path),
    }


def show_plan(console: Console, steps: list[Step], *, title: str) -> None:
    """A plan: one line per run, then a count per action."""
    grid = Grid(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("variant", "seed", "step", "action", "why"):
        grid.add_column(heading, justify="right" if heading in ("seed", "step") else "left", overflow="fold")
    for step in steps:
        why = step.run.last_error() if step.action is Action.RETRY else step.why
        taken = step.run.last_step()
        name = Text(step.experiment.name, overflow="fold")
        grid.add_row(
            name, str(step.seed), str(taken or ""), Text(step.action.value, style=_COLOURS[step.action]), Text(why)
        )
    console.print(grid)
    counts = Counter(step.action for step in steps)
    console.print(", ".join(f"{counts[action]} {action.value}" for action in Action if counts[action]))


def result(record: Record) -> str:
    """A record in one line."""
    broken = f", {record.broken} of them broken" if record.broken else ""
    views = f"{record.recipe['protocol']['clips']}x{record.recipe['protocol']['crops']}"
    return (
        f"top-1 {record.top1:.1f}, top-5 {record.top5:.1f}, class mean {record.class_accuracy:.1f} "
        f"({record.videos} videos{broken}, {views} views)"
    )


def show_table(console: Console, table: Table, frame: pd.DataFrame, legend: str) -> None:
    """A table of the paper, as ``tables.cells`` gives it."""
    grid = Grid(
        title=f"{table.id}: {table.caption}", title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    for position, name in enumerate(frame.columns):
        style = "dim" if name.endswith("paper") else ""
        heading = name.replace(", ", ",\n")
        grid.add_column(heading, justify="left" if position == 0 else "right", style=style, no_wrap=True)
    for row in frame.to_numpy():
        grid.add_row(*row)
    console.print(grid)
    for note in (legend, *table.notes):
        console.print(f"[dim]{note}[/]")
    console.print()


def show_findings(console: Console, findings: list[Finding]) -> None:
    """What this machine has, and for what the missing would be needed."""
    grid = Grid(box=None, pad_edge=False)
    for heading in ("", "", "", "needed for"):
        grid.add_column(heading, overflow="fold")
    for item in findings:
        mark = Text("ok", style="green") if item.ok else Text("missing", style="yellow")
        grid.add_row(mark, item.name, Text(item.detail), Text(item.journey, style="dim"))
    console.print(grid)


def relative(path: Path) -> str:
    """``path`` as a user would type it from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _show_cost(console: Console, cost: Mapping[str, Any]) -> None:
    """Cost per stage, in the order of the model; FLOPs in the paper's convention."""
    console.print("\n[bold]cost of one view[/]")
    for section in [*cost["sections"], {"name": "all", **cost}]:
        console.print(
            f"  {section['name']:<28}{section['params']:>12,} parameters{section['flops'] / 1e9:>10.3f} GFLOPs"
        )


def _reported(paper: Reported | None) -> str:
    if paper is None:
        return "reports nothing: a control of ours"
    costs = [f"{paper.gflops:g} GFLOPs"] if paper.gflops else []
    costs += [f"{paper.params:.1f} M"] if paper.params else []
    return ", ".join([f"top-1 {paper.top1:.1f}", f"top-5 {paper.top5:.1f}", *costs])


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ("x" if all(isinstance(item, int) for item in value) else ", ").join(_plain(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
