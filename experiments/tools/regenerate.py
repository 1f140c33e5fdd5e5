"""Regenerates everything that is made from records and committed: ``make results``; ``--check`` compares only.

Tables, checklist and pictures of every scale, the blocks of pages between ``<!-- generated: ... -->`` and
``<!-- end -->``, and last the notebooks, executed in place.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from .. import folders
from ..registry.catalogue import find_table, tables_at
from ..registry.recipe import Scale
from ..results import checklist
from ..results import pages as tables
from ..results.comparison import Results
from ..words import relative
from .notebooks import execute_all

_CLONE = folders.CLONE
_BLOCK = re.compile(r"(<!-- generated: (\w+) (\S+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)
# A page has room for what was measured and for the number to compare with.
_PAGES_LEAVE_OUT = ("p", "top-5, paper", "GFLOPs, paper", "param (M), paper")


def generated() -> dict[Path, str]:
    """The content of every generated text file, by path."""
    files: dict[Path, str] = {}
    every = {scale: Results.load(scale) for scale in (Scale.PAPER, Scale.MINI)}
    for scale, results in every.items():
        shown = [tables.page(table, results) for table in tables_at(scale)]
        files |= tables.contents(shown) | tables.tidied(shown)
    pages = [_CLONE / "README.md", _CLONE / "docs" / "miniature.md", folders.results() / Scale.MINI / "README.md"]
    return files | checklist.files(every) | {path: _filled(path.read_text(), every) for path in pages if path.exists()}


def _filled(text: str, every: Mapping[Scale, Results]) -> str:
    """``text`` with every generated block as the records have it: a table, or the effects of all."""

    def block(match: re.Match[str]) -> str:
        begin, scale, what, end = match.groups()
        results = every[Scale(scale)]
        if what == "effects":
            kept = tables.named_effects(results)
        else:
            cells = tables.page(find_table(what), results).cells
            kept = cells[[name for name in cells if name not in _PAGES_LEAVE_OUT]]
        return f"{begin}\n{tables.grid(kept)}\n\n{end}"

    return _BLOCK.sub(block, text)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a text file is not current")
    arguments = parser.parse_args()
    files = generated()
    wrong = tables.stale(files)
    if arguments.check:
        if wrong:
            sys.exit(f"not what the records say, make results: {', '.join(map(relative, wrong))}")
        return
    tables.write(files)
    print(f"{len(files)} files, {len(wrong)} of them new")
    execute_all(report=print)


if __name__ == "__main__":
    main()
