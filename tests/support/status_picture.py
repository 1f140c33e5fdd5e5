"""The README's picture of ``vswin status``, as the terminal has it:

``VSWIN_RUNS=demo/runs python -m tests.support.status_picture FILE.svg status table4 table6 --seeds 2``
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console

from experiments.cli import look_after
from experiments.cli.main import app


def main() -> None:
    """Draw what the command prints."""
    target, *arguments = sys.argv[1:]
    console = Console(record=True, width=84, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    look_after.console = console
    app(arguments, standalone_mode=False)
    Path(target).write_text(console.export_svg(title=f"vswin {' '.join(arguments)}", unique_id="status"))


if __name__ == "__main__":
    main()
