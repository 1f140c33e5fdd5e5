"""The findings of ``vswin check`` on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from ...launch.check import Aspect, CheckResult, Outcome

_MARKS = {Outcome.OK: "green", Outcome.SKIPPED: "yellow", Outcome.FAILED: "red"}
_PER_VARIANT = {
    Aspect.ISOLATES: "differs in",
    Aspect.COST: "parameters, FLOPs",
    Aspect.WEIGHTS: "weights",
    Aspect.STEP: "step",
}


def show_findings(console: Console, findings: Sequence[CheckResult], *, title: str) -> None:
    """One line per variant, then data sets and disk, then what failed or was left out, and what to do about it."""
    by_variant: dict[str, dict[Aspect, CheckResult]] = {}
    for finding in findings:
        if finding.aspect in _PER_VARIANT:
            by_variant.setdefault(finding.about, {})[finding.aspect] = finding
    aspects = [aspect for aspect in _PER_VARIANT if any(aspect in own for own in by_variant.values())]
    console.print(Text(title, style="italic"))
    grid = Grid(box=None, pad_edge=False)
    grid.add_column("variant", no_wrap=True)
    for aspect in aspects:
        grid.add_column(_PER_VARIANT[aspect], overflow="fold")
    for name, own in by_variant.items():
        grid.add_row(Text(name), *(_cell(own[aspect]) for aspect in aspects))
    console.print(grid)
    for finding in findings:
        if finding.aspect not in _PER_VARIANT and finding.outcome is Outcome.OK:
            console.print(f"{finding.aspect.value}: {finding.about}, {finding.detail}", style="dim", markup=False)
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


def _cell(finding: CheckResult) -> Text:
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
