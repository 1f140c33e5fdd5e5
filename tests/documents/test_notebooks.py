"""Notebooks are windows on results: they run from a fresh clone, and show what the committed records say."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest

from experiments.tools.notebooks import FOLDER, execute, texts

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["1_tables", "2_ablations", "3_compare_runs", "4_windows"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebooks_were_run_and_define_nothing(path: Path) -> None:
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert texts(read(path))
    for cell in cells:
        assert not any(output["output_type"] == "error" for output in cell.outputs)
        defined = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.FunctionDef | ast.Lambda)]
        assert defined == []
        assert len(cell.source.splitlines()) <= 40


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_show_what_they_showed(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Executed anew, with nothing but the clone: the same texts and tables, and as many pictures."""
    for name in ("VSWIN_RESULTS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    for name in ("VSWIN_RUNS", "VSWIN_DATA"):
        monkeypatch.setenv(name, str(tmp_path / "nothing here"))
    executed, committed = execute(path), read(path)
    assert texts(executed) == texts(committed)
    assert pictures(executed) == pictures(committed)


def pictures(notebook: nbformat.NotebookNode) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)
