"""Commands for results: collect, tables, report, sync, ui."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track

from .. import folders
from ..files import Damage
from ..registry.catalogue import experiments, tables_at
from ..registry.catalogue import tables as all_tables
from ..registry.recipe import Scale
from ..runs.run import existing
from ..words import relative
from .display import console, errors, fail, messages, print_json
from .options import JsonOption, ScaleOption, SomeTables
from .verify import show_damages

if TYPE_CHECKING:
    from ..registry.table import Table
    from ..results.comparison import Results
    from ..results.pages import Page
    from ..tracking.mirror import Pushed

# Of a curve of a thousand steps a hundred points show as much on MLflow's page, and are told ten times as fast.
_EVERY = 10


def collect(scale: ScaleOption = Scale.MINI, as_json: JsonOption = False) -> None:
    """Turn finished runs into records under the results folder, and bring MLflow up to date."""
    found = _collect_records(scale)
    written = [path for path in found if isinstance(path, Path)]
    damages = [damage for damage in found if isinstance(damage, Damage)]
    _report_failures(_mirror_all(scale))
    show_behind(errors, scale)
    if as_json:
        print_json([str(path) for path in written])
    else:
        where = relative(written[0].parent) if written else relative(folders.results())
        console.print(f"{len(written)} records in {where}", soft_wrap=True, markup=False)
    show_damages(errors, damages)
    if damages:
        raise typer.Exit(1)


def tables(
    table: SomeTables = None,
    scale: ScaleOption = Scale.MINI,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if what is written is not what the records say.")
    ] = False,
    parquet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write every cell and seed to this Parquet file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the paper's tables beside what was measured, and write them as Markdown, CSV, LaTeX and HTML."""
    from ..results.comparison import Results
    from ..results.pages import contents, page, stale, tidied, unwanted, write
    from ..results.tidy import tidy

    if scale is Scale.TINY:
        fail("runs at scale tiny leave no records, so there are no tables of them", code=2)
    chosen = tables_at(scale, table or ())
    results = Results.load(scale)
    shown = messages(as_json)
    pages = [page(item, results) for item in chosen]
    # all of them in one file only where all were asked for
    files = contents(pages) | ({} if table else tidied(pages))
    if check:
        wrong = [*stale(files), *([] if table else unwanted(files))]
        if as_json:
            print_json([str(path) for path in wrong])
        show_damages(shown, results.damages)
        if wrong:
            names = ", ".join(relative(path) for path in wrong)
            fail(f"not what the records say: {names}; vswin tables --scale {scale} writes them anew")
        if results.damages:
            raise typer.Exit(1)
        if not as_json:
            console.print(f"{len(files)} files are what {len(results.records)} records say")
        return
    write(files)
    if parquet:
        parquet.parent.mkdir(parents=True, exist_ok=True)
        tidy(scale, [row for item in pages for row in item.rows]).to_parquet(parquet, index=False)
    if as_json:
        print_json({item.table.id: item.cells.to_dict("records") for item in pages})
    else:
        _show(pages, results, files)
    show_damages(shown, results.damages)
    if results.damages:
        raise typer.Exit(1)


def _show(pages: Iterable[Page], results: Results, files: Iterable[Path]) -> None:
    from .display.pages import show_table

    for item in pages:
        show_table(console, item)
    if strangers := results.strangers(all_tables().values()):
        console.print(
            f"{len(strangers)} records are of no row, made by other code: {strangers[0].name}.json and the like in "
            f"{relative(folders.results() / results.scale / 'runs')}",
            markup=False,
        )
    where = relative(next(iter(files)).parent)
    console.print(f"written to {where} as .md, .csv, .tex and .html", soft_wrap=True, markup=False)


def report(
    scale: ScaleOption = Scale.MINI,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Where to write it; default: beside the records.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write one self-contained HTML page: verdicts, figures, tables, curves, provenance; print its address."""
    from ..files import write_text
    from ..results import report as reports
    from ..results.comparison import Results

    if scale is Scale.TINY:
        fail("runs at scale tiny leave no records, so there is no report of them", code=2)
    target = (output or reports.default_path(scale)).absolute()
    results = Results.load(scale)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, reports.report(results, beside=target.parent))
    if as_json:
        print_json({"file": str(target), "records": len(results.records)})
    else:
        console.print(f"{len(results.records)} records in {target.as_uri()}", soft_wrap=True)
    show_damages(messages(as_json), results.damages)
    if results.damages:
        raise typer.Exit(1)


def sync(
    scale: ScaleOption = Scale.MINI,
    again: Annotated[
        bool, typer.Option("--again", help="Resend everything, also what MLflow should have already.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring MLflow up to date with what the runs have written, as often as you like; see vswin ui."""
    if again:
        for run in existing(experiments(scale)):
            run.directory.tracking.unlink(missing_ok=True)
    pushed = _mirror_all(scale)
    if as_json:
        print_json({"uri": folders.tracking_address(), **vars(pushed)})
    else:
        console.print(
            f"{pushed.runs} runs at scale {scale}: {pushed.changed} had news, {pushed.points} points sent",
            soft_wrap=True,
        )
        for name, change in pushed.repaired.items():
            console.print(f"repaired  {name}: {change}", markup=False)
        _report_failures(pushed)
    if pushed.failures:
        raise typer.Exit(1)


def ui(
    table: Annotated[str | None, typer.Argument(metavar="[TABLE]", help="Open this table's rows.")] = None,
    scale: ScaleOption = Scale.MINI,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The next free one is taken.")] = 5000,
    records: Annotated[
        bool, typer.Option("--records", help="Show the records under the results folder, in a throw-away store.")
    ] = False,
) -> None:
    """Start the MLflow UI on this machine, to look at and for you only, and print its address; Ctrl-C stops it.

    The token in the address lets a browser in. With $MLFLOW_TRACKING_URI set to a server, print the address there.
    """
    from ..tracking.ui import serve

    # a table that has no rows at this scale has no view either
    chosen = tables_at(scale, [table] if table else ())
    if not records:
        show_behind(errors, scale)
    with _records_as_runs(scale, chosen) if records else nullcontext():
        serve(console, scale=scale, table=chosen[0] if table else None, port=port)


@contextmanager
def _records_as_runs(scale: Scale, chosen: Iterable[Table]) -> Iterator[None]:
    """Have the records of ``chosen`` be all the runs there are, in a folder that is deleted in the end."""
    from ..results.comparison import Results
    from ..results.restore import restore
    from ..tracking.mirror import Mirror

    results = Results.load(scale)
    show_damages(errors, results.damages)
    with tempfile.TemporaryDirectory(prefix="vswin-records-") as folder:
        os.environ["VSWIN_RUNS"] = folder
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        runs = list(restore(chosen, results, every=_EVERY))
        if not runs:
            fail(f"no records of these rows at scale {scale} in {relative(folders.results())}")
        mirror = Mirror(folders.tracking_uri())
        pushed = mirror.round(track(runs, "telling MLflow", console=errors, transient=True))
        mirror.push_rows(chosen, results, pushed)
        _report_failures(pushed)
        yield


def show_behind(console: Console, scale: Scale) -> None:
    """Say how many runs of ``scale`` MLflow is behind with, if any."""
    from ..runs.jobs import Jobs
    from ..tracking.told import behind

    runs = list(existing(experiments(scale)))
    jobs = Jobs(runs)
    if told := behind({run: jobs.state(run) for run in runs}):
        console.print(told, soft_wrap=True)


def _collect_records(scale: Scale) -> list[Path | Damage]:
    """Turn every finished run of ``scale`` into a record, or name its damage; tiny ones are refused."""
    from ..results.collect import collect, collect_published, collect_weights

    if scale is Scale.TINY:
        fail("runs at scale tiny leave no records: they exist for tests and mean nothing", code=2)
    records = [*collect(existing(experiments(scale))), *collect_published(scale)]
    for _ in collect_weights(scale):
        pass
    return records


def _mirror_all(scale: Scale) -> Pushed:
    """Bring MLflow up to date with every run of ``scale``."""
    from ..results.comparison import Results
    from ..runs.jobs import Jobs
    from ..tracking.follow import is_allowed
    from ..tracking.mirror import Mirror, Pushed

    runs = list(existing(experiments(scale)))
    if not is_allowed():
        reason = "a job does not write to SQLite, which several nodes must not share; run vswin sync on the login node"
        return Pushed(runs=len(runs), failures={"all": reason})
    # a Slurm job that died says nothing in the run's directory
    jobs = Jobs(runs)
    mirror = Mirror(state=lambda run: run.state(jobs.job(run)))
    pushed = mirror.round(runs)
    if not pushed.failures:
        mirror.repair_orphans(scale, runs, pushed)
    if not pushed.failures and any(folders.records(scale).glob("*.json")):
        mirror.push_rows(tables_at(scale), Results.load(scale), pushed)
    return pushed


def _report_failures(pushed: Pushed) -> None:
    """Say what MLflow could not be told, and that nothing is lost."""
    if not pushed.failures:
        return
    names = list(pushed.failures)
    for name in names[:3]:
        errors.print(f"not told  {name}: {pushed.failures[name]}", markup=False, soft_wrap=True)
    if len(names) > 3:
        errors.print(f"          and {len(names) - 3} more")
    errors.print("nothing is lost: vswin sync tells MLflow the rest when it is back")
