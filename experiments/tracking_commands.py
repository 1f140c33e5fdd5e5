"""Commands about MLflow: sync and ui."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from . import display, folders
from .recipe import Scale
from .registry import Experiment, experiments, find_table, tables_at
from .runs import RunDirectory, existing

if TYPE_CHECKING:
    from .tracking import Pushed

console = Console(highlight=False)
errors = Console(highlight=False, stderr=True)


def sync(
    scale: Annotated[Scale, typer.Option(help="Size of the experiments; tiny is for tests.")] = Scale.MINI,
    again: Annotated[
        bool, typer.Option("--again", help="Send everything once more, also what MLflow should have already.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Bring MLflow up to date with what the runs have written, as often as you like; see vswin ui."""
    if again:
        for run, _ in _runs(scale):
            run.tracking.unlink(missing_ok=True)
    pushed = mirror_all(scale)
    if as_json:
        display.print_json({"uri": folders.tracking_address(), **vars(pushed)})
    else:
        console.print(
            f"{pushed.runs} runs at scale {scale}: {pushed.changed} had news, {pushed.points} points sent",
            soft_wrap=True,
        )
        for name, change in pushed.repaired.items():
            console.print(f"repaired  {name}: {change}", markup=False)
        report_failures(pushed)
    if pushed.failures:
        raise typer.Exit(1)


def ui(
    table: Annotated[str | None, typer.Argument(metavar="[TABLE]", help="Open this table's rows.")] = None,
    scale: Annotated[Scale, typer.Option(help="Size of the experiments; tiny is for tests.")] = Scale.MINI,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The next free one is taken.")] = 5000,
) -> None:
    """Start the MLflow UI on this machine only, and print its address; Ctrl-C stops it.

    With $MLFLOW_TRACKING_URI set to a server, print the address there.
    """
    from .ui import serve

    if table:
        # a table that has no rows at this scale has no view either
        [found] = tables_at(scale, [find_table(table).id])
    serve(console, scale=scale, table=found if table else None, port=port)


def mirror_all(scale: Scale) -> Pushed:
    """Bring MLflow up to date with every run of ``scale``."""
    from .follow import is_allowed
    from .jobs import Jobs
    from .tracking import Mirror, Pushed

    runs = list(_runs(scale))
    if not is_allowed():
        reason = "a job does not write to SQLite, which several nodes must not share; run vswin sync on the login node"
        return Pushed(runs=len(runs), failures={"all": reason})
    # a Slurm job that died says nothing in the run's directory
    mirror = Mirror(state=Jobs([run for run, _ in runs]).state)
    pushed = mirror.round(runs)
    if not pushed.failures:
        mirror.repair_orphans(scale, [run for run, _ in runs], pushed)
    return pushed


def report_failures(pushed: Pushed) -> None:
    """Say what MLflow could not be told, and that nothing is lost."""
    if not pushed.failures:
        return
    names = list(pushed.failures)
    for name in names[:3]:
        errors.print(f"not told  {name}: {pushed.failures[name]}", markup=False, soft_wrap=True)
    if len(names) > 3:
        errors.print(f"          and {len(names) - 3} more")
    errors.print("nothing is lost: vswin sync tells MLflow the rest when it is back")


def _runs(scale: Scale) -> Iterable[tuple[RunDirectory, Experiment]]:
    for experiment in experiments(scale):
        for run in existing([experiment]):
            yield run, experiment
