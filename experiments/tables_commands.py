"""The commands that turn runs into records, and records into tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import display, folders
from .recipe import Scale
from .registry import experiments as all_experiments
from .registry import tables, tables_at
from .runs import existing

console = Console(highlight=False)


def tables_command(
    table: Annotated[
        list[str] | None, typer.Argument(metavar="[TABLE]...", help="Such as table4; default: all.")
    ] = None,
    scale: Annotated[Scale, typer.Option(help="Size of the experiments.")] = Scale.MINI,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if what is written is not what the records say.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """The paper's tables beside what was measured; written to the results folder as Markdown, CSV, LaTeX and HTML."""
    from .comparison import Results
    from .tables import contents, page, stale, unwanted, write

    if scale is Scale.TINY:
        display.fail("runs at scale tiny leave no records, so there are no tables of them", code=2)
    chosen = tables_at(scale, table or ())
    results = Results.load(scale)
    pages = [page(item, results) for item in chosen]
    files = contents(pages)
    if check:
        wrong = [*stale(files), *([] if table else unwanted(files))]
        if as_json:
            display.print_json([str(path) for path in wrong])
        if wrong:
            names = ", ".join(display.relative(path) for path in wrong)
            display.fail(f"not what the records say: {names}; vswin tables --scale {scale} writes them anew")
        if not as_json:
            console.print(f"{len(files)} files are what {len(results.records)} records say")
        return
    write(files)
    if as_json:
        display.print_json({item.table.id: item.cells.to_dict("records") for item in pages})
        return
    for item in pages:
        display.show_table(console, item)
    if strangers := results.strangers(tables().values()):
        console.print(
            f"{len(strangers)} records are of no row, made by other code: {strangers[0].name}.json and the like in "
            f"{display.relative(folders.results() / scale / 'runs')}"
        )
    where = display.relative(next(iter(files)).parent)
    console.print(f"written to {where} as .md, .csv, .tex and .html", soft_wrap=True)


def collect_records(scale: Scale) -> list[Path]:
    """Every finished run of ``scale`` as a record; tiny ones are refused."""
    from .collect import collect, collect_published, collect_weights

    if scale is Scale.TINY:
        display.fail("runs at scale tiny leave no records: they exist for tests and mean nothing", code=2)
    records = [*collect(existing(all_experiments(scale))), *collect_published(scale)]
    for _ in collect_weights(scale):
        pass
    return records
