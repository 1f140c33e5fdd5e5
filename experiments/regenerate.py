"""Everything that is generated from records and committed: ``make results``, or with ``--check`` whether it is current.

Tables, checklist and pictures of every scale, the blocks of READMEs between ``<!-- generated: ... -->`` and
``<!-- end -->``, and last the notebooks, executed in place.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from . import checklist, folders, tables
from .comparison import Results
from .display import relative
from .notebooks import execute_all
from .recipe import Scale
from .registry import find_table, tables_at

_CLONE = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"(<!-- generated: (\w+) (\S+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)
# A README has room for what was measured and for the number to compare with.
_README_LEAVES_OUT = ("p", "top-5, paper", "GFLOPs, paper", "param (M), paper")


def generated() -> dict[Path, str]:
    """What every generated text file should hold, by path."""
    files: dict[Path, str] = {}
    every = {scale: Results.load(scale) for scale in (Scale.PAPER, Scale.MINI)}
    for scale, results in every.items():
        files |= tables.contents(tables.page(table, results) for table in tables_at(scale))
    readmes = [_CLONE / "README.md", folders.results() / Scale.MINI / "README.md"]
    return files | checklist.files() | {path: _filled(path.read_text(), every) for path in readmes if path.exists()}


def _filled(text: str, every: Mapping[Scale, Results]) -> str:
    """``text`` with every generated block as the records have it: a table, or the effects of all."""

    def block(match: re.Match[str]) -> str:
        begin, scale, what, end = match.groups()
        results = every[Scale(scale)]
        if what == "effects":
            kept = tables.named_effects(results)
        else:
            cells = tables.page(find_table(what), results).cells
            kept = cells[[name for name in cells if name not in _README_LEAVES_OUT]]
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
