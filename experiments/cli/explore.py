"""Commands that start nothing: this machine, tables and variants, forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ..launch.profiles import find_profile
from ..registry.catalogue import experiments, find_variant, tables, tables_at
from ..registry.recipe import Scale
from ..registry.table import Table
from ..runs.runtime import default_runtime
from .display import console, print_json
from .options import AnyScaleOption, JsonOption, OnOption, ScaleOption, SeedsOption, SomeTables, VariantArgument

if TYPE_CHECKING:
    from ..launch.forecast import Actual, Forecast, Place, Rate


def doctor(
    verbose: Annotated[bool, typer.Option("--verbose", help="Also everything that programs said.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check what this machine has, and what is missing for which journey."""
    from .doctor import diagnose, show_diagnoses

    found = diagnose()
    if as_json:
        print_json([asdict(item) for item in found])
    else:
        show_diagnoses(console, found, verbose=verbose)


def list_(as_json: JsonOption = False) -> None:
    """List every table and its variants."""
    from .display.variants import show_tables

    if as_json:
        print_json(
            {
                table.id: {
                    "caption": table.caption,
                    "scales": table.scales,
                    "variants": [variant.id for variant in table.variants if variant.recipe],
                    "reported": [variant.id for variant in table.variants if variant.recipe is None],
                }
                for table in tables().values()
            }
        )
    else:
        show_tables(console)


def show(variant: VariantArgument, scale: AnyScaleOption = None, as_json: JsonOption = False) -> None:
    """Show one variant: the paper's numbers, the difference to the baseline, the recipe, how to run it."""
    from .display.variants import show_variant, variant_json

    found = find_variant(variant)
    scale = scale or (Scale.MINI if Scale.MINI in found.scales else Scale.PAPER)
    if as_json:
        print_json(variant_json(found, scale))
    else:
        show_variant(console, found, scale)


def forecast(
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
    """Forecast steps, GPU-hours, wall time and disk of some tables, beside what finished runs took."""
    from ..launch.forecast import actuals, total, with_upstream
    from ..launch.forecast import forecast as forecast_of
    from .display.forecast import forecast_json, show_forecast

    chosen = tables_at(scale, table or ())
    found = with_upstream(experiments(scale, chosen))
    known = actuals(experiments(scale))
    place = _place(on, scale)
    rate = _rate(throughput, scale, known)
    forecasts = forecast_of(found, seeds=seeds, place=place, rate=rate, actual=known)
    by_table = {item.id: _of_table(item, scale, forecasts) for item in chosen}
    sums = {name: total(own, place=place) for name, own in by_table.items()}
    whole = total(forecasts, place=place)
    if as_json:
        print_json(
            {
                "scale": scale,
                "seeds": seeds,
                "place": asdict(place),
                "rate": asdict(rate),
                "experiments": [forecast_json(item) for item in forecasts],
                "tables": {name: asdict(item) for name, item in sums.items()},
                "total": asdict(whole),
            }
        )
    else:
        show_forecast(console, by_table, sums, whole, scale=scale, seeds=seeds, place=place, rate=rate)


def _of_table(table: Table, scale: Scale, forecasts: Sequence[Forecast]) -> list[Forecast]:
    rows = set(table.at(scale))
    own = [item for item in forecasts if rows.intersection(item.experiment.variants)]
    needed = {source.recipe.signature for item in own for source in item.experiment.upstream}
    return [item for item in forecasts if item.experiment.recipe.signature in needed or item in own]


def _rate(throughput: str, scale: Scale, known: dict[str, Actual]) -> Rate:
    from ..launch.forecast import NothingMeasuredError, assumed_rate, given_rate, measured_rate

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
    from ..launch.forecast import Place

    if profile := find_profile(on):
        return Place(name=on, devices=profile.processes_per_run, at_once=profile.parallel)
    # GPUs are not counted without torch; a workstation has one more often than not
    return Place(name=on, at_once=default_runtime(scale).runs_at_once(gpus=1))
