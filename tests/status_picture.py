"""The README's picture of ``vswin status``, as the terminal has it:

``VSWIN_RUNS=demo/runs python tests/status_picture.py results/pictures/status.svg status table4 table6 --seeds 2``
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console

from experiments import operate_commands
from experiments.cli import app


def main() -> None:
    """Draw what the command prints."""
    target, *arguments = sys.argv[1:]
    console = Console(record=True, width=84, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    operate_commands.console = console
    app(arguments, standalone_mode=False)
    Path(target).write_text(console.export_svg(title=f"vswin {' '.join(arguments)}", unique_id="status"))


if __name__ == "__main__":
    main()
