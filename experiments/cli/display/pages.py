"""Tables of the paper beside what was measured, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd

    from ...results.pages import Page

# On a terminal that is too narrow, columns are left out in this order.
_LESS_IMPORTANT = (
    "param (M), paper",
    "GFLOPs, paper",
    "top-5, paper",
    "verdict, top-5",
    "top-5, ours (paper)",
    "top-5, published weights",
    "p",
)


def show_table(console: Console, page: Page) -> None:
    """A table of the paper, block by block."""
    from ...results.pages import BLOCK, DASH

    frame = page.cells.copy()
    for name in ("pretrain, paper", "views, paper"):
        # on a terminal there is no room for columns of their own
        if name in frame:
            told = frame.pop(name)
            frame[""] += told.map(lambda cell: "" if cell == DASH else f", {cell}")
    blocks = frame.pop(BLOCK).tolist() if BLOCK in frame else []
    left_out = []
    for name in _LESS_IMPORTANT:
        if _width(frame) > console.width and name in frame:
            frame.pop(name)
            left_out.append(name)
    grid = Grid(title=escape(page.title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    grid.collapse_padding = _width(frame) > console.width
    for name in frame.columns:
        words = name.startswith("verdict")
        grid.add_column(
            _heading(name),
            justify="left" if words or not name else "right",
            style="dim" if name.endswith("paper") else "",
            no_wrap=bool(name) and not words,
        )
    for number, row in enumerate(frame.to_numpy()):
        if blocks and (number == 0 or blocks[number] != blocks[number - 1]):
            grid.add_section()
            grid.add_row(Text(blocks[number], style="bold"))
        grid.add_row(*map(escape, row))
    console.print(grid)
    for note in (page.legend, *page.notes):
        console.print(f"[dim]{escape(note)}[/]")
    if left_out:
        console.print(f"[dim]Left out, for want of room: {', '.join(left_out)}.[/]")
    console.print()


def _heading(name: str) -> str:
    """A column's name in short lines."""
    return name.replace(", ", ",\n").replace(" weights", "\nweights")


def _width(frame: pd.DataFrame) -> int:
    """Columns of the terminal that a grid of ``frame`` needs; verdicts and rows' names may be folded."""
    total = 0
    for name in frame.columns:
        cells = [*_heading(name).split("\n"), *frame[name]]
        folds = not name or name.startswith("verdict")
        total += 2 + (
            max(len(word) for cell in cells for word in cell.split() or [""]) if folds else max(map(len, cells))
        )
    # a name that is folded at every word cannot be read
    return total + 8
