"""Adding a table of one's own is one file of about fifteen lines and its name in a list."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

import experiments.registry.paper
from experiments.cli.main import app
from experiments.registry.catalogue import find_table, find_variant, tables, tables_at
from experiments.registry.errors import NoRecipeError
from experiments.registry.recipe import Recipe, Scale, changed
from experiments.registry.recipes import SWIN_T_K400
from experiments.registry.table import Block, Row, Table
from tests.support.places import CLONE
from vswin.config import Extent, TimeSformerConfig, VideoInitConfig

TIMESFORMER = next(
    variant.recipe
    for table in experiments.registry.paper.TABLES
    for variant in table.variants
    if variant.recipe and isinstance(variant.recipe.model, TimeSformerConfig)
)

FILE = '''\
"""Does label smoothing help?"""

from experiments.registry.recipes import SWIN_T_K400
from experiments.registry.table import Block, Row, Table

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
    monkeypatch.setattr(experiments.registry.paper, "TABLES", (*experiments.registry.paper.TABLES, module.TABLE))
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
    planned = CliRunner().invoke(app, ["launch", "smoothing", "--seeds", "2", "--dry-run", "--json"])
    # there are no videos of scale mini
    assert planned.exit_code == 1
    plan = json.loads(planned.stdout)
    # the baseline is the one that other tables have
    rows = ["table1/swin-t", "smoothing/smooth"]
    assert [step["variants"][0] for step in plan] == ["upstream/image-t-small", *rows, *rows]


@pytest.mark.usefixtures("own_table")
def test_it_exists_at_every_scale_from_one_definition() -> None:
    assert [scale.value for scale in find_table("smoothing").scales] == ["paper", "mini", "tiny"]


# A field that scales mini and tiny have no counterpart for, as users set them in tables of their own.
UNSCALABLE = {
    "data.dataset": ("my-clips", "data.dataset = 'my-clips'"),
    "data.crop": (112, "data.crop = 112"),
    "model.embed_dim": (64, "model.embed_dim = 64"),
    "model.window": (Extent(8, 9, 9), "model.window.height = 9"),
    "init": (VideoInitConfig(video="my-weights"), "init.video = 'my-weights'"),
    "init.image": ("my-weights", "init.image = 'my-weights'"),
}
UNSCALABLE_TIMESFORMER = {
    "model.frames": (32, "model.frames = 32"),
    "model.image_size": (112, "model.image_size = 112"),
    "data.clip.length": (32, "data.clip.length = 32"),
}


def table_of(baseline: Recipe, changes: Mapping[str, object]) -> Table:
    rows = (Row("mine"), Row("smooth", {"optim.label_smoothing": 0.1}))
    block = Block(baseline=changed(baseline, changes), isolates=("optim.label_smoothing",), rows=rows)
    return Table(id="mine", caption="Mine.", question="Mine?", source="", blocks=(block,))


@pytest.mark.parametrize(
    ("baseline", "path", "value", "named"),
    [
        *((SWIN_T_K400, path, *rest) for path, rest in UNSCALABLE.items()),
        *((TIMESFORMER, path, *rest) for path, rest in UNSCALABLE_TIMESFORMER.items()),
    ],
)
def test_what_cannot_be_scaled_down_exists_at_scale_paper_only(
    baseline: Recipe, path: str, value: object, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(baseline, {path: value})
    assert table.scales == (Scale.PAPER,)
    assert [variant.id for variant in table.at(Scale.PAPER)] == ["mine/mine", "mine/smooth"]
    monkeypatch.setattr(experiments.registry.paper, "TABLES", (*experiments.registry.paper.TABLES, table))
    tables.cache_clear()
    try:
        # no other command is taken down
        assert CliRunner().invoke(app, ["list"]).exit_code == 0
        assert [found.id for found in tables_at(Scale.PAPER)][-1] == "mine"
        for scale in (Scale.MINI, Scale.TINY):
            with pytest.raises(
                NoRecipeError, match=f"mine.* only at paper; add --scale paper .*{re.escape(named)} has"
            ):
                tables_at(scale, ["mine"])
            with pytest.raises(
                NoRecipeError, match=re.escape(f"{named} has no counterpart in the miniature; take one")
            ):
                find_variant("mine/smooth").at(scale)
    finally:
        monkeypatch.undo()
        tables.cache_clear()


def test_a_row_that_cannot_be_scaled_down_keeps_its_block_at_scale_paper() -> None:
    rows = (Row("none"), Row("narrow", {"model.embed_dim": 48}))
    block = Block(baseline=SWIN_T_K400, isolates=("model.embed_dim",), rows=rows)
    table = Table(id="mine", caption="", question="", source="", blocks=(block,))
    assert table.scales == (Scale.PAPER,)


def test_the_example_of_the_docs_needs_no_scales() -> None:
    """The README's table, without the line that says where it exists."""
    code = (CLONE / "docs" / "your-own-videos.md").read_text().split("```python\n")
    [example] = [block.split("```")[0] for block in code if 'id="mine"' in block]
    names: dict[str, object] = {}
    exec(example.replace("            scales=(Scale.PAPER,),\n", ""), names)
    table = names["TABLE"]
    assert isinstance(table, Table)
    assert table.scales == (Scale.PAPER,)
