"""Adding a table of one's own is one file of about fifteen lines and its name in a list."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import experiments.paper
from experiments.cli import app
from experiments.registry import find_table, tables

FILE = '''\
"""Does label smoothing help?"""

from experiments.baselines import SWIN_T_K400
from experiments.registry import Block, Row, Table

TABLE = Table(
    id="smoothing",
    caption="Label smoothing with Swin-T on K400.",
    question="Does label smoothing help Video Swin on Kinetics?",
    source="",
    blocks=(
        Block(
            baseline=SWIN_T_K400,
            isolates=("optim.label_smoothing",),
            rows=(Row("none"), Row("smooth", {"optim.label_smoothing": 0.1}, label="label smoothing 0.1")),
        ),
    ),
)
'''


@pytest.fixture
def own_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    path = tmp_path / "smoothing.py"
    path.write_text(FILE)
    spec = importlib.util.spec_from_file_location("smoothing", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(experiments.paper, "TABLES", (*experiments.paper.TABLES, module.TABLE))
    tables.cache_clear()
    yield
    tables.cache_clear()


def test_it_is_about_fifteen_lines() -> None:
    assert len([line for line in FILE.splitlines() if line.strip()]) <= 17


@pytest.mark.usefixtures("own_table")
def test_it_is_listed_shown_planned_and_rendered(home: Path) -> None:
    def vswin(*arguments: str) -> str:
        answer = CliRunner().invoke(app, list(arguments))
        assert answer.exit_code == 0, answer.output
        return answer.stdout

    assert "smoothing/smooth" in vswin("list")
    shown = json.loads(vswin("show", "smoothing/smooth", "--json"))
    assert shown["difference"] == {"optim.label_smoothing": {"baseline": 0.0, "here": 0.1}}
    assert "label smoothing 0.1" in vswin("tables", "smoothing")
    assert (home / "results" / "mini" / "tables" / "smoothing.md").exists()
    # last: with --json the messages of this process go to standard error from now on
    plan = json.loads(vswin("launch", "smoothing", "--seeds", "2", "--dry-run", "--json"))
    # the baseline is the one that other tables have
    rows = ["table1/swin-t", "smoothing/smooth"]
    assert [step["variants"][0] for step in plan] == ["upstream/image-t-small", *rows, *rows]


@pytest.mark.usefixtures("own_table")
def test_it_exists_at_every_scale_from_one_definition() -> None:
    assert [scale.value for scale in find_table("smoothing").scales] == ["paper", "mini", "tiny"]
