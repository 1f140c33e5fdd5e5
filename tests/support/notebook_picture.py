"""The README's picture of a notebook, as committed, in a real browser:

``python -m tests.support.notebook_picture notebooks/2_ablations.ipynb results/pictures/notebook.png``
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter

from tests.support.mlflow_pages import a_page


def main() -> None:
    """Show the page from its top, the first cell, which only imports, left out."""
    notebook, target = sys.argv[1:]
    content = nbformat.read(notebook, as_version=4)
    first = next(index for index, cell in enumerate(content.cells) if cell.cell_type == "code")
    del content.cells[first]
    html, _ = HTMLExporter().from_notebook_node(content)
    with tempfile.TemporaryDirectory() as folder, a_page(width=1000, height=840) as page:
        path = Path(folder) / "notebook.html"
        path.write_text(html)
        page.goto(path.as_uri(), wait_until="domcontentloaded")
        page.screenshot(path=target)


if __name__ == "__main__":
    main()
