"""The command that proves records."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from .. import folders
from ..files import Damage
from ..registry.recipe import Scale
from ..words import relative
from .display import console, fail, print_json
from .options import JsonOption

if TYPE_CHECKING:
    from ..results.verify import Verified


def verify(
    results: Annotated[
        Path | None, typer.Argument(metavar="[RESULTS]", help="A folder of results; default: $VSWIN_RESULTS.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute every recorded number again from the scores beside it, and name what is damaged, copied or foreign.

    Exit code 1 if anything is.
    """
    from ..results.verify import verify as verify_records

    folder = results or folders.results()
    if not folder.is_dir():
        fail(f"expected a folder of results, got {folder}, which is none", code=2)
    every = [verify_records(scale, results=folder) for scale in Scale if (folder / scale / "runs").is_dir()]
    damages = [damage for verified in every for damage in verified.damages]
    if as_json:
        print_json(
            {
                "intact": {verified.scale.value: len(verified.records) for verified in every},
                "without_digests": {verified.scale.value: verified.unbound for verified in every},
                "damages": [
                    {"file": str(damage.file), "what": damage.what, "remedy": damage.remedy} for damage in damages
                ],
                "remarks": [remark for verified in every for remark in verified.remarks],
            }
        )
    else:
        for verified in every:
            _show(verified)
        show_damages(console, damages)
        if not every:
            console.print(f"no records in {relative(folder)}", soft_wrap=True, markup=False)
    if damages:
        raise typer.Exit(1)


def _show(verified: Verified) -> None:
    console.print(
        f"scale {verified.scale}: {len(verified.records)} records are intact, {len(verified.damages)} files are not",
        soft_wrap=True,
    )
    if verified.unbound:
        console.print(
            f"  {verified.unbound} of schema 3 carry no digests: their numbers follow from their scores, but nothing "
            "tells an edited pair from a written one",
            soft_wrap=True,
        )
    for remark in verified.remarks:
        console.print(f"  {remark}", soft_wrap=True, markup=False)


def show_damages(console: Console, damages: Iterable[Damage]) -> None:
    """One line for each file that was left out, with the remedy."""
    for damage in damages:
        console.print(
            f"[red]damaged[/]  {escape(relative(damage.file))}: {escape(damage.what)}; {escape(damage.remedy)}",
            soft_wrap=True,
        )
