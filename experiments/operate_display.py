"""What the commands that look after runs print on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group
from rich.table import Table as Grid
from rich.text import Text

from .cancel import Ending, Means
from .check import Aspect, Finding, Outcome
from .forecast import Basis, Estimate, Place, Rate, Sum
from .plan import Action, Step
from .recipe import Scale
from .status import Standing, in_words

_MARKS = {Outcome.OK: "green", Outcome.SKIPPED: "yellow", Outcome.FAILED: "red"}
_PER_VARIANT = {
    Aspect.ISOLATES: "differs in",
    Aspect.COST: "parameters, FLOPs",
    Aspect.WEIGHTS: "weights",
    Aspect.STEP: "step",
}


# A letter's room for each run, and its colour.
_SIGNS = {
    Action.DONE: ("✓", "green"),
    Action.RUNNING: ("▶", "cyan"),
    Action.PENDING: ("…", "cyan"),
    Action.SUBMIT: ("·", "default"),
    Action.RESUME: ("↻", "yellow"),
    Action.RETRY: ("↻", "red"),
    Action.BLOCKED: ("‖", "yellow"),
    Action.FAILED: ("✗", "red"),
}
_BAR = 10
# So many reasons of one kind are told one by one.
_TOLD = 3


# ------------------------------------------------------------------------------------------------ status


def status_view(found: Sequence[Standing], *, title: str, every_run: bool) -> Group:
    """How runs stand: a line per variant over its seeds, or per run; what happens next and why; a count."""
    grid = _every_run(found) if every_run else _by_variant(found)
    counts = Counter(item.step.action for item in found)
    legend = Text(", ").join(
        Text.assemble(_sign(action), f" {counts[action]} {action.value}") for action in Action if counts[action]
    )
    # first what must not be cut off on a low terminal
    return Group(Text(title, style="italic"), legend, grid, *_reasons(found))


def _by_variant(found: Sequence[Standing]) -> Grid:
    by_variant: dict[str, list[Standing]] = {}
    for item in found:
        by_variant.setdefault(item.step.experiment.name, []).append(item)
    grid = _grid()
    grid.add_column("variant", no_wrap=True, overflow="ellipsis", ratio=None)
    for heading in ("seeds", "training", "newest", "left"):
        grid.add_column(heading, no_wrap=True, justify="right" if heading == "left" else "left")
    for name, runs in by_variant.items():
        share = sum(item.share for item in runs) / len(runs)
        left = [item.seconds_left for item in runs if item.seconds_left is not None]
        grid.add_row(
            name,
            Text.assemble(*(_sign(item.step.action) for item in runs)),
            _bar(share),
            _newest(runs),
            in_words(max(left)) if left else "",
        )
    return grid


def _newest(runs: Sequence[Standing]) -> str:
    """The mean result of what is done; else the newest of what is not."""
    results = [value for item in runs for value in list(item.top1.values())[:1]]
    if results:
        several = f" ({len(results)} seeds)" if len(results) > 1 else ""
        return f"top-1 {sum(results) / len(results):.1f}{several}"
    newest = max(runs, key=lambda item: item.updated or 0.0)
    return newest.doing


def _every_run(found: Sequence[Standing]) -> Grid:
    grid = _grid()
    grid.add_column("variant", no_wrap=True)
    for heading in ("seed", "step", "newest", "left", "next"):
        grid.add_column(heading, no_wrap=True, justify="left" if heading in ("newest", "next") else "right")
    for item in found:
        sign, style = _SIGNS[item.step.action]
        steps = f"{item.taken} of {item.steps}" if item.steps else ""
        grid.add_row(
            item.step.experiment.name,
            str(item.step.seed),
            steps,
            item.doing,
            in_words(item.seconds_left) if item.seconds_left is not None else "",
            Text(f"{sign} {item.step.action.value}", style=style),
        )
    return grid


def _reasons(found: Sequence[Standing]) -> list[Text]:
    """Why runs are not done, the same words once."""
    told: dict[tuple[Action, str], list[Standing]] = {}
    for item in found:
        if item.step.action not in (Action.DONE, Action.SUBMIT):
            told.setdefault((item.step.action, item.why), []).append(item)
    shown: Counter[Action] = Counter()
    lines = []
    for (action, why), items in told.items():
        shown[action] += 1
        if shown[action] > _TOLD:
            continue
        names = items[0].name if len(items) == 1 else f"{len(items)} runs"
        lines.append(Text.assemble(_sign(action), f" {names}: ", why))
    for action, count in shown.items():
        if count > _TOLD:
            rest = sum(len(items) for (other, _), items in list(told.items()) if other is action)
            lines.append(Text.assemble(_sign(action), f" {action.value}: {rest} runs in all; --runs has each of them"))
    return lines


def _sign(action: Action) -> tuple[str, str]:
    return _SIGNS[action]


def _bar(share: float) -> Text:
    whole = round(share * _BAR)
    return Text.assemble(("━" * whole, "green"), ("╌" * (_BAR - whole), "bright_black"), f" {share:4.0%}")


# ------------------------------------------------------------------------------------------------ cancel


def ending_json(ending: Ending, failed: Sequence[Ending]) -> dict[str, Any]:
    """What was done to end a run, as plain data."""
    problem = next((item.why for item in failed if item.step == ending.step), None)
    return {
        "variant": ending.step.experiment.name,
        "seed": ending.step.seed,
        "means": ending.means,
        "target": ending.target,
        "error": problem,
    }


def show_endings(
    console: Console, planned: Sequence[Ending], failed: Sequence[Ending], shared: Sequence[Step], *, dry_run: bool
) -> None:
    """What was done, or would be, run by run."""
    if not planned:
        console.print("nothing to end: none of these runs works or waits")
        return
    problems = {(item.step.run.signature, item.step.seed): item.why for item in failed}
    for ending in planned:
        name = f"{ending.step.experiment.name} seed {ending.step.seed}"
        problem = problems.get((ending.step.run.signature, ending.step.seed))
        if problem is not None or ending.means is Means.NONE:
            console.print(f"[red]not ended[/]  {name}: {problem or ending.why}", soft_wrap=True)
            continue
        how = {
            Means.SIGNAL: f"process {ending.target} {'would be' if dry_run else 'was'} told to save and end",
            Means.SCANCEL: f"job {ending.target} {'would be' if dry_run else 'was'} cancelled",
        }[ending.means]
        console.print(f"{name}: {how}", soft_wrap=True)
    for step in shared:
        console.print(f"[yellow]{step.experiment.name} seed {step.seed}[/]: shares one of these jobs, and ends with it")


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
            rows = [variant.name for variant in item.experiment.variants if variant.table == name]
            grid.add_row(
                rows[0] if rows else item.experiment.name,
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


def _took(item: Estimate) -> str:
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


def _grid() -> Grid:
    return Grid(box=None, pad_edge=False)
