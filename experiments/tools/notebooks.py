"""Executes the notebooks in place, and compares what they print with what is committed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from .. import folders

FOLDER = folders.CLONE / "notebooks"
# A cell; all of a notebook takes a minute on a quiet machine.
_SECONDS = 600


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook at ``path``, executed in its own folder; raises nbclient's errors."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=_SECONDS, kernel_name="python3", resources={"metadata": {"path": FOLDER}})
    client.execute()
    for cell in notebook.cells:
        # when a cell ran and how long is no result
        cell.metadata.pop("execution", None)
    return notebook


def execute_all(*, report: Callable[[str], None]) -> None:
    """Execute every notebook and keep its outputs."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        nbformat.write(execute(path), path)  # type: ignore[no-untyped-call]
        report(f"executed {path.name}")


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """Everything that the cells of ``notebook`` print or show as text or tables; pictures are left out."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            found.append(_text(output))
    return [text for text in found if text]


def _text(output: Any) -> str:
    if output["output_type"] == "stream":
        return str(output["text"])
    data = output.get("data", {})
    if "image/png" in data:
        return ""
    text = "".join(data.get("text/html", data.get("text/plain", "")))
    # pandas gives each of its tables a random name
    return re.sub(r"T_[0-9a-f]{5}", "T", text)
