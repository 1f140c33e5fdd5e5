"""The command that proves runs and records."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from .. import folders
from ..files import Damage
from ..registry.recipe import Scale
from ..words import relative
from .display import console, fail, print_json
from .options import JsonOption

if TYPE_CHECKING:
    from ..results.verify import Verified
    from ..results.verify_runs import VerifiedRuns


def verify(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[RUNS|RESULTS]", help="A folder of either; default: $VSWIN_RUNS and $VSWIN_RESULTS."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Prove runs and records: compute every number again, and name what is damaged, copied, foreign or lacking.

    Exit code 1 if anything is.
    """
    from ..results.verify import verify as verify_records
    from ..results.verify_runs import verify_runs

    if folder is not None and not folder.is_dir():
        fail(f"expected a folder of runs or results, got {folder}, which is none", code=2)
    if folder is not None and _has_runs(folder):
        os.environ["VSWIN_RUNS"] = str(folder)
    results = folder or folders.results()
    records = [verify_records(scale, results=results) for scale in Scale if (results / scale / "runs").is_dir()]
    runs = []
    if folder is None or _has_runs(folder):
        runs = [verify_runs(scale) for scale in Scale if (folders.runs() / scale).is_dir()]
    damages = [damage for verified in records for damage in verified.damages]
    damages += [damage for verified in runs for damage in verified.damages]
    if as_json:
        print_json(
            {
                "intact": {verified.scale.value: len(verified.records) for verified in records},
                "without_digests": {verified.scale.value: verified.unbound for verified in records},
                "runs": {
                    verified.scale.value: {
                        "looked_at": verified.runs,
                        "intact": verified.intact,
                        "at_work": verified.at_work,
                        "orphans": [str(path) for path in verified.orphans],
                        "strays": [str(path) for path in verified.strays],
                    }
                    for verified in runs
                },
                "damages": [
                    {"file": str(damage.file), "what": damage.what, "remedy": damage.remedy} for damage in damages
                ],
                "remarks": [remark for verified in records for remark in verified.remarks],
            }
        )
    else:
        _show(records, runs)
        show_damages(console, damages)
        if not records and not any(verified.runs for verified in runs):
            places = [folder] if folder else [folders.runs(), folders.results()]
            console.print(f"nothing to verify in {' and '.join(map(relative, places))}", soft_wrap=True, markup=False)
    if damages:
        raise typer.Exit(1)


def _has_runs(folder: Path) -> bool:
    return any(True for scale in Scale for _ in folder.glob(f"{scale}/*/seed-*"))


def _show(records: Sequence[Verified], runs: Sequence[VerifiedRuns]) -> None:
    grid = Grid(box=None, pad_edge=False)
    for heading in ("scale", "what", "intact", "damaged", "at work", "orphans"):
        grid.add_column(heading, justify="left" if heading in ("scale", "what") else "right")
    for verified in records:
        grid.add_row(verified.scale, "records", str(len(verified.records)), str(len(verified.damages)))
    for found in runs:
        damaged = found.runs - found.at_work - found.intact
        grid.add_row(
            *(found.scale, "runs", str(found.intact), str(damaged)), str(found.at_work), str(len(found.orphans))
        )
    if records or runs:
        console.print(grid)
    for line in _remarks(records, runs):
        console.print(line, soft_wrap=True, markup=False)


def _remarks(records: Sequence[Verified], runs: Sequence[VerifiedRuns]) -> Iterator[str]:
    """Remarks on what is no damage, and worth knowing."""
    for verified in records:
        if verified.unbound:
            yield (
                f"scale {verified.scale}: {verified.unbound} records of schema 3 carry no digests; their numbers "
                "follow from their scores, but nothing tells an edited pair from a written one"
            )
        yield from verified.remarks
    for found in runs:
        for paths, what in (
            (found.orphans, "runs of recipes that no table has, not looked into"),
            (found.strays, "copies or files set aside among the runs, which nothing reads"),
        ):
            if paths:
                yield f"scale {found.scale}: {len(paths)} {what}; the first is {relative(paths[0])}"


def show_damages(console: Console, damages: Iterable[Damage]) -> None:
    """One line for each file that was left out, with the remedy."""
    for damage in damages:
        console.print(
            f"[red]damaged[/]  {escape(relative(damage.file))}: {escape(damage.what)}; {escape(damage.remedy)}",
            soft_wrap=True,
        )
