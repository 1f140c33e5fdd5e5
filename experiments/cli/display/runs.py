"""Runs on a terminal: plans, status, results, and how they were ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.table import Table as Grid
from rich.text import Text

from ...launch.cancel import Ending, Means
from ...launch.plan import Action, Step
from ...words import in_short, in_words

if TYPE_CHECKING:
    from ...launch.status import Standing
    from ...results.record import Record

# The sign of each action, and its colour.
_SIGNS = {
    Action.DONE: ("✓", "green"),
    Action.RUNNING: ("▶", "cyan"),
    Action.PENDING: ("…", "cyan"),
    Action.UNKNOWN: ("?", "red"),
    Action.SUBMIT: ("·", "default"),
    Action.RESUME: ("↻", "yellow"),
    Action.RETRY: ("↻", "red"),
    Action.BLOCKED: ("‖", "yellow"),
    Action.FAILED: ("✗", "red"),
    Action.DAMAGED: ("!", "red"),
}
_BAR = 10
# So many reasons of one kind are told one by one.
_TOLD = 3


def step_json(step: Step) -> dict[str, Any]:
    """A step of a plan as plain data."""
    look = step.run.look()
    return {
        "variants": [variant.id for variant in step.run.experiment.variants],
        "seed": step.run.seed,
        "signature": step.run.signature,
        "action": step.action,
        "why": step.why,
        "step": look.step,
        "error": look.error,
        "directory": str(step.run.directory.path),
    }


def show_plan(console: Console, steps: Sequence[Step], *, title: str) -> None:
    """A plan: one line per run, then a count per action."""
    grid = Grid(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("variant", "seed", "step", "action", "why"):
        grid.add_column(heading, justify="right" if heading in ("seed", "step") else "left", overflow="fold")
    for step in steps:
        look = step.run.look()
        why = look.error if step.action in (Action.RETRY, Action.FAILED) else ""
        why = f"{why}; --mode retry retries it" if why and step.action is Action.FAILED else why or step.why
        name = Text(step.run.experiment.name, overflow="fold")
        grid.add_row(
            name,
            str(step.run.seed),
            str(look.step or ""),
            Text(step.action.value, style=_SIGNS[step.action][1]),
            Text(why),
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


def status_view(found: Sequence[Standing], *, title: str, every_run: bool, hidden: int = 0, behind: str = "") -> Group:
    """The status of runs: a count by action, a line per variant over its seeds or per run, and reasons.

    ``hidden``: how many more there are that were never started. ``behind``: what MLflow has not been told, in words.
    """
    grid = _every_run(found) if every_run else _by_variant(found)
    counts = Counter(item.step.action for item in found)
    legend = Text(", ").join(
        Text.assemble(_sign(action), f" {counts[action]} {action.value}") for action in Action if counts[action]
    )
    if hidden:
        never = f"{hidden} never started (--all)"
        legend = Text(", ").join([legend, Text(never, style="dim")] if found else [Text(never, style="dim")])
    # first what must not be cut off on a low terminal
    head = [Text(title, style="italic"), legend, *([Text(behind, style="yellow")] if behind else [])]
    return Group(*head, *([grid] if found else []), *_reasons(found))


def _by_variant(found: Sequence[Standing]) -> Grid:
    by_variant: dict[str, list[Standing]] = {}
    for item in found:
        by_variant.setdefault(item.name, []).append(item)
    grid = Grid(box=None, pad_edge=False)
    grid.add_column("variant", no_wrap=True, overflow="ellipsis", ratio=None)
    for heading in ("seeds", "training", "newest", "left"):
        grid.add_column(heading, no_wrap=True, justify="right" if heading == "left" else "left")
    for name, runs in by_variant.items():
        share = sum(item.share for item in runs) / len(runs)
        left = [item.seconds_left for item in runs if item.seconds_left is not None]
        grid.add_row(
            Text(name),
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
    grid = Grid(box=None, pad_edge=False)
    grid.add_column("variant", no_wrap=True)
    for heading in ("seed", "step", "newest", "left", "next"):
        grid.add_column(heading, no_wrap=True, justify="left" if heading in ("newest", "next") else "right")
    for item in found:
        sign, style = _SIGNS[item.step.action]
        steps = f"{item.taken} of {item.steps}" if item.steps else ""
        grid.add_row(
            Text(item.name),
            str(item.step.run.seed),
            steps,
            item.doing,
            in_words(item.seconds_left) if item.seconds_left is not None else "",
            Text(f"{sign} {item.step.action.value}", style=style),
        )
    return grid


def _reasons(found: Sequence[Standing]) -> list[Text]:
    """The reasons why runs are not done, each once."""
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
        names = f"{items[0].name} seed {items[0].step.run.seed}" if len(items) == 1 else f"{len(items)} runs"
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


def ending_json(ending: Ending, failed: Sequence[Ending]) -> dict[str, Any]:
    """The end of a run as plain data."""
    problem = next((item.why for item in failed if item.step == ending.step), None)
    return {
        "variant": ending.step.run.experiment.name,
        "seed": ending.step.run.seed,
        "means": ending.means,
        "target": ending.target,
        "error": problem,
    }


def show_endings(
    console: Console,
    planned: Sequence[Ending],
    failed: Sequence[Ending],
    shared: Sequence[Step],
    dependants: Sequence[Step] = (),
    *,
    dry_run: bool,
) -> None:
    """The ends of runs, one by one: done, or planned in a dry run."""
    if not planned:
        console.print("nothing to cancel: none of these runs is running or waiting")
        return
    problems = {item.step.run: item.why for item in failed}
    for ending in planned:
        name = ending.step.run.name
        problem = problems.get(ending.step.run)
        if problem is not None or ending.means is Means.NONE:
            console.print(Text.assemble(("not ended", "red"), f"  {name}: {problem or ending.why}"), soft_wrap=True)
            continue
        how = {
            Means.SIGNAL: f"process {ending.target} {'would be' if dry_run else 'was'} told to save and end",
            Means.SCANCEL: f"job {ending.target} {'would be' if dry_run else 'was'} cancelled",
        }[ending.means]
        console.print(f"{name}: {how}", soft_wrap=True, markup=False)
    for step in shared:
        console.print(Text.assemble((step.run.name, "yellow"), ": shares one of these jobs, and ends with it"))
    if dependants:
        names = in_short([step.run.name for step in dependants])
        several = "runs wait" if len(dependants) > 1 else "run waits"
        ends = "would end" if dry_run else "end"
        told = Text.assemble((f"{len(dependants)} {several} for these", "yellow"), f" and {ends}, too: {names}")
        console.print(told, soft_wrap=True)
