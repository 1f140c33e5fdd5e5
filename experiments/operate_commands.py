"""Commands that look after runs: what they will take, whether they can work, how they stand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from . import operate_display
from .display import print_json
from .forecast import (
    Actual,
    Estimate,
    NothingMeasuredError,
    Place,
    Rate,
    actuals,
    assumed_rate,
    forecast,
    given_rate,
    measured_rate,
    total,
)
from .profiles import profiles
from .recipe import Scale
from .registry import Table, UnknownNameError, experiments, tables_at

console = Console(highlight=False)

ScaleOption = Annotated[Scale, typer.Option(help="Size of the experiments; tiny is for tests.")]
SeedsOption = Annotated[int, typer.Option(min=1, metavar="N", help="Seeds per variant: 0 to N-1.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
SomeTables = Annotated[list[str] | None, typer.Argument(metavar="[TABLE]...", help="Such as table4; default: all.")]
OnOption = Annotated[str, typer.Option(metavar="PROFILE", help="Where; 'local' is this machine.")]


def add_operate_commands(app: typer.Typer) -> None:
    """Give ``app`` these commands."""
    app.command("check")(check_)
    app.command("forecast")(forecast_)


def check_(
    table: SomeTables = None,
    scale: ScaleOption = Scale.MINI,
    seeds: SeedsOption = 3,
    take_steps: Annotated[
        bool, typer.Option("--steps/--no-steps", help="Train each model for one step on one real batch.")
    ] = True,
    again: Annotated[bool, typer.Option("--again", help="Also the steps that went well before.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Whether every variant of some tables can work: fields, cost, weights, one training step, data, disk."""
    from .check import Outcome, check, forget_steps
    from .progress import counting

    chosen = tables_at(scale, table or ())
    found = experiments(scale, chosen)
    variants = [variant for item in chosen for variant in item.at(scale)]
    if again:
        forget_steps()
    with counting(Console(stderr=True), "training steps", total=len(found)) as advance:
        findings = check(
            found,
            variants=variants,
            runs={experiment.recipe.signature: seeds for experiment in found},
            take_steps=take_steps,
            on_step=lambda experiment: advance(1),
        )
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        operate_display.show_findings(console, findings, title=f"scale {scale}")
    if any(finding.outcome is Outcome.FAILED for finding in findings):
        raise typer.Exit(1)


def forecast_(
    table: SomeTables = None,
    scale: ScaleOption = Scale.MINI,
    seeds: SeedsOption = 3,
    on: OnOption = "local",
    throughput: Annotated[
        str,
        typer.Option(
            metavar="CLIPS_PER_S|measured",
            help="Of table4/joint in training, per device; 'measured' insists on that. Default: measured, or a guess.",
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Steps, GPU-hours, wall time and disk of some tables; what the runs took that are done."""
    chosen = tables_at(scale, table or ())
    found = experiments(scale, chosen)
    known = actuals(experiments(scale))
    place = _place(on, scale)
    rate = _rate(throughput, scale, known)
    estimates = forecast(found, seeds=seeds, place=place, rate=rate, actual=known)
    by_table = {item.id: _of_table(item, scale, estimates) for item in chosen}
    sums = {name: total(own, place=place) for name, own in by_table.items()}
    whole = total(estimates, place=place)
    if as_json:
        print_json(
            {
                "scale": scale,
                "seeds": seeds,
                "place": asdict(place),
                "rate": asdict(rate),
                "experiments": [operate_display.estimate_json(item) for item in estimates],
                "tables": {name: asdict(item) for name, item in sums.items()},
                "total": asdict(whole),
            }
        )
    else:
        operate_display.show_forecast(console, by_table, sums, whole, scale=scale, seeds=seeds, place=place, rate=rate)


def _of_table(table: Table, scale: Scale, estimates: Sequence[Estimate]) -> list[Estimate]:
    own = set(table.at(scale))
    return [item for item in estimates if own.intersection(item.experiment.variants)]


def _rate(throughput: str, scale: Scale, known: dict[str, Actual]) -> Rate:
    if throughput not in ("", "measured"):
        try:
            clips = float(throughput)
        except ValueError:
            clips = 0.0
        if not clips > 0:
            raise typer.BadParameter(
                f"expected clips per second or 'measured', got {throughput!r}", param_hint="--throughput"
            )
        return given_rate(clips, scale=scale)
    measured = measured_rate(experiments(scale), known)
    if measured is None and throughput:
        raise NothingMeasuredError(
            f"no run at scale {scale} has measured anything yet; give a number: --throughput CLIPS_PER_S"
        )
    return measured or assumed_rate(scale)


def _place(on: str, scale: Scale) -> Place:
    if on not in profiles():
        raise UnknownNameError("profile", on, profiles())
    # GPUs are not counted without torch; a workstation has one more often than not
    return Place(name=on, at_once=1 if scale is Scale.PAPER else len(os.sched_getaffinity(0)))
