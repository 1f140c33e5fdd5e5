"""What the command line prints on a terminal."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from .cost import view_cost
from .doctor import Finding
from .plan import Action, Step
from .recipe import Scale, difference, flatten
from .registry import Reported, Variant, find_experiment, find_table, tables

if TYPE_CHECKING:
    import pandas as pd

    from .record import Record
    from .tables import Page

_COLOURS = {
    Action.DONE: "green",
    Action.RUNNING: "cyan",
    Action.PENDING: "cyan",
    Action.SUBMIT: "default",
    Action.RESUME: "yellow",
    Action.RETRY: "yellow",
    Action.FAILED: "red",
    Action.BLOCKED: "magenta",
}


def print_json(content: Any) -> None:
    """``content`` as JSON on standard output, for scripts."""
    json.dump(content, sys.stdout, indent=2)
    sys.stdout.write("\n")


def show_tables(console: Console) -> None:
    """Every table with its variants, block by block; what the paper only reports in one paragraph."""
    width = 2 + max(len(variant.id) for table in tables().values() for variant in table.variants if variant.recipe)
    for table in tables().values():
        console.print(f"[bold]{table.id}[/]{_where(table.scales)}")
        console.print(Padding(table.question, (0, 0, 0, 2)))
        for block, variants in zip(table.blocks, table.by_block, strict=True):
            runnable = [variant for variant in variants if variant.recipe]
            if runnable and len(table.blocks) > 1:
                console.print(f"  [dim]{block.title}[/]{_where(block.scales) if block.scales != table.scales else ''}")
            for variant in runnable:
                console.print(f"  {variant.id:<{width}}{_summary(variant)}", soft_wrap=True)
        reported = [variant.name for variant in table.variants if variant.recipe is None]
        if reported:
            console.print(Padding(f"[dim]reported only: {', '.join(reported)}[/]", (0, 0, 0, 2)))


def _where(scales: tuple[Scale, ...]) -> str:
    return "" if Scale.MINI in scales else "  [dim](scale paper only)[/]"


def _summary(variant: Variant) -> str:
    """The row's label, and where they tell rows apart pre-training and views."""
    paper = variant.paper
    known = [paper.pretrain, paper.views] if paper else []
    return ", ".join([variant.label, *(item for item in known if item)])


def variant_json(variant: Variant, scale: Scale) -> dict[str, Any]:
    """Everything ``show_variant`` prints, as plain data; for a reported reference what the paper prints."""
    content = {
        "id": variant.id,
        "label": variant.label,
        "paper": vars(variant.paper) if variant.paper else None,
        "scales": variant.scales,
    }
    if variant.recipe is None:
        return content
    recipe, baseline = variant.at(scale), find_table(variant.table).baseline_of(variant)
    changes = difference(recipe, baseline.at(scale)) if baseline else {}
    return {
        **content,
        "scale": scale,
        "signature": recipe.signature,
        "protocol": recipe.protocol_signature,
        "baseline": baseline.id if baseline else None,
        "difference": {path: {"baseline": old, "here": new} for path, (old, new) in sorted(changes.items())},
        "cost": asdict(view_cost(recipe)),
        "commands": commands(variant, scale),
        "recipe": flatten(recipe),
    }


def show_variant(console: Console, variant: Variant, scale: Scale) -> None:
    """One variant: paper value, difference to the baseline, recipe, commands."""
    table = find_table(variant.table)
    content = variant_json(variant, scale)
    title = f" ({variant.block})" if variant.block else ""
    console.print(f"[bold]{variant.id}[/]  {variant.label}{title}\n{table.question}\n")
    console.print(f"  {'the paper':<28}{_reported(variant.paper)}")
    if variant.recipe is None:
        console.print(f"  {'here':<28}reported only: a number of the paper to compare with, nothing to run")
    else:
        _show_recipe(console, variant, scale, content)
    for note in table.notes:
        console.print(f"\n[dim]{escape(note)}[/]")


def _show_recipe(console: Console, variant: Variant, scale: Scale, content: Mapping[str, Any]) -> None:
    console.print(f"  {'scale':<28}{scale}")
    console.print(f"  {'signature':<28}{content['signature']}, tested under protocol {content['protocol']}")
    also = [other.id for other in find_experiment(scale, variant).variants if other.id != variant.id]
    if also:
        console.print(f"  {'same run as':<28}{', '.join(also)}")
    if content["baseline"]:
        console.print(f"\n[bold]differs from {content['baseline']} in[/]")
        for path, change in content["difference"].items():
            console.print(f"  {path:<28}{_plain(change['here'])}  [dim](there {_plain(change['baseline'])})[/]")
        if not content["difference"]:
            console.print("  nothing: it is the baseline")
    _show_cost(console, content["cost"])
    console.print("\n[bold]recipe[/]")
    for path, value in content["recipe"].items():
        console.print(f"  {path:<28}{_plain(value)}")
    console.print("\n[bold]commands[/]")
    for command in commands(variant, scale):
        console.print(f"  {command}", soft_wrap=True)


def commands(variant: Variant, scale: Scale) -> list[str]:
    """What to type to look at a variant before it runs, to run it, and to test published weights as it is tested."""
    return [
        f"vswin check {variant.table} --scale {scale}",
        f"vswin forecast {variant.table} --scale {scale} --seeds 3",
        f"vswin run {variant.id} --scale {scale} --seed 0",
        f"vswin launch {variant.table} --scale {scale} --seeds 3",
        f"vswin status {variant.table} --scale {scale}",
        *([f"vswin evaluate {variant.id} --checkpoint FILE"] if scale is Scale.PAPER else []),
    ]


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
        why = step.run.last_error() if step.action in (Action.RETRY, Action.FAILED) else ""
        why = f"{why}; --mode retry tries it again" if why and step.action is Action.FAILED else why or step.why
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


# On a terminal that is too narrow, columns are left out in this order.
_LESS_IMPORTANT = (
    "param (M), paper",
    "GFLOPs, paper",
    "top-5, paper",
    "verdict, top-5",
    "top-5, ours (paper)",
    "top-5, published weights",
    "p",
)


def show_table(console: Console, page: Page) -> None:
    """A table of the paper, block by block."""
    from .tables import BLOCK, DASH

    frame = page.cells.copy()
    for name in ("pretrain, paper", "views, paper"):
        # on a terminal there is no room for columns of their own
        if name in frame:
            told = frame.pop(name)
            frame[""] += told.map(lambda cell: "" if cell == DASH else f", {cell}")
    blocks = frame.pop(BLOCK).tolist() if BLOCK in frame else []
    left_out = []
    for name in _LESS_IMPORTANT:
        if _width(frame) > console.width and name in frame:
            frame.pop(name)
            left_out.append(name)
    grid = Grid(title=page.title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    grid.collapse_padding = _width(frame) > console.width
    for name in frame.columns:
        words = name.startswith("verdict")
        grid.add_column(
            _heading(name),
            justify="left" if words or not name else "right",
            style="dim" if name.endswith("paper") else "",
            no_wrap=bool(name) and not words,
        )
    for number, row in enumerate(frame.to_numpy()):
        if blocks and (number == 0 or blocks[number] != blocks[number - 1]):
            grid.add_section()
            grid.add_row(Text(blocks[number], style="bold"))
        grid.add_row(*row)
    console.print(grid)
    for note in (page.legend, *page.notes):
        console.print(f"[dim]{escape(note)}[/]")
    if left_out:
        console.print(f"[dim]Left out, for want of room: {', '.join(left_out)}.[/]")
    console.print()


def _heading(name: str) -> str:
    """A column's name in short lines."""
    return name.replace(", ", ",\n").replace(" weights", "\nweights")


def _width(frame: pd.DataFrame) -> int:
    """Columns of the terminal that a grid of ``frame`` needs; verdicts and rows' names may be folded."""
    total = 0
    for name in frame.columns:
        cells = [*_heading(name).split("\n"), *frame[name]]
        folds = not name or name.startswith("verdict")
        total += 2 + (
            max(len(word) for cell in cells for word in cell.split() or [""]) if folds else max(map(len, cells))
        )
    # a name that is folded at every word cannot be read
    return total + 8


def show_findings(console: Console, findings: list[Finding]) -> None:
    """What this machine has, and for what the missing would be needed."""
    grid = Grid(box=None, pad_edge=False)
    for heading in ("", "", "", "needed for"):
        grid.add_column(heading, overflow="fold")
    for item in findings:
        mark = Text("ok", style="green") if item.ok else Text("missing", style="yellow")
        grid.add_row(mark, item.name, Text(item.detail), Text(item.journey, style="dim"))
    console.print(grid)


def fail(message: str, *, code: int = 1) -> NoReturn:
    """End the command with ``message`` on standard error: 1 something failed, 2 bad usage."""
    print(f"vswin: {message}", file=sys.stderr)
    raise SystemExit(code)


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
    cells = [f"top-1 {paper.top1:.1f}"]
    cells += [f"top-5 {paper.top5:.1f}"] if paper.top5 else []
    cells += [f"{paper.gflops:g} GFLOPs"] if paper.gflops else []
    cells += [f"{paper.params} M"] if paper.params else []
    cells += [f"views {paper.views}"] if paper.views else []
    cells += [f"pre-trained on {paper.pretrain}"] if paper.pretrain else []
    return ", ".join(cells)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ("x" if all(isinstance(item, int) for item in value) else ", ").join(_plain(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
