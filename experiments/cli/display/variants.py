"""Tables and variants on a terminal: ``vswin list`` and ``vswin show``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from ...registry.catalogue import find_experiment, find_table, tables
from ...registry.recipe import Scale, difference, flatten
from ...registry.table import Reported, Variant


def show_tables(console: Console) -> None:
    """Every table with its variants, block by block; what the paper only reports in one paragraph."""
    width = 2 + max(len(variant.id) for table in tables().values() for variant in table.variants if variant.recipe)
    for table in tables().values():
        console.print(f"[bold]{escape(table.id)}[/]{_where(table.scales)}")
        console.print(Padding(escape(table.question), (0, 0, 0, 2)))
        for block, variants in zip(table.blocks, table.by_block, strict=True):
            runnable = [variant for variant in variants if variant.recipe]
            if runnable and len(table.blocks) > 1:
                where = _where(block.exists_at) if block.exists_at != table.scales else ""
                console.print(f"  [dim]{escape(block.title)}[/]{where}")
            for variant in runnable:
                console.print(f"  {variant.id:<{width}}{_summary(variant)}", soft_wrap=True, markup=False)
        reported = [variant.name for variant in table.variants if variant.recipe is None]
        if reported:
            console.print(Padding(f"[dim]reported only: {escape(', '.join(reported))}[/]", (0, 0, 0, 2)))


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
    from ...registry.cost import view_cost

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
    console.print(f"[bold]{variant.id}[/]  {escape(f'{variant.label}{title}')}\n{escape(table.question)}\n")
    console.print(f"  {'the paper':<28}{_reported(variant.paper)}", markup=False)
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
            here, there = escape(_plain(change["here"])), escape(_plain(change["baseline"]))
            console.print(f"  {path:<28}{here}  [dim](there {there})[/]")
        if not content["difference"]:
            console.print("  nothing: it is the baseline")
    _show_cost(console, content["cost"])
    console.print("\n[bold]recipe[/]")
    for path, value in content["recipe"].items():
        console.print(f"  {path:<28}{_plain(value)}", markup=False)
    console.print("\n[bold]commands[/]")
    for command in commands(variant, scale):
        console.print(f"  {command}", soft_wrap=True)


def commands(variant: Variant, scale: Scale) -> list[str]:
    """The commands that look at a variant before it runs, run it, and test published weights as it is tested."""
    return [
        f"vswin check {variant.table} --scale {scale}",
        f"vswin forecast {variant.table} --scale {scale} --seeds 3",
        f"vswin run {variant.id} --scale {scale} --seed 0",
        f"vswin launch {variant.table} --scale {scale} --seeds 3",
        f"vswin status {variant.table} --scale {scale}",
        *([f"vswin evaluate {variant.id} --checkpoint FILE"] if scale is Scale.PAPER else []),
    ]


def _show_cost(console: Console, cost: Mapping[str, Any]) -> None:
    """Cost per stage and block, in the order of the model; FLOPs in the paper's convention."""
    console.print("\n[bold]cost of one view[/]")
    sections = {section["name"]: section for section in cost["sections"]}
    blocks = {name: module for module in cost["modules"] if (name := module["name"]).rpartition(".")[2].isdigit()}
    for name, section in sections.items():
        _cost_line(console, name, section)
        inside = [block for block in blocks if block.startswith(f"{name}.")]
        for block in inside if len(inside) > 1 else ():
            _cost_line(console, f"  {block.removeprefix(f'{name}.')}", blocks[block])
    _cost_line(console, "all", cost)


def _cost_line(console: Console, name: str, cost: Mapping[str, Any]) -> None:
    console.print(f"  {name:<28}{cost['params']:>12,} parameters{cost['flops'] / 1e9:>10.3f} GFLOPs")


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
