"""Pages for readers: what they name is there, and the list of deviations is whole."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from experiments.registry.catalogue import tables_at
from experiments.registry.paper import deviations
from experiments.registry.recipe import Scale
from tests.support.places import CLONE
from vswin.config import TimeSformerConfig
from vswin.models import swin3d

FOLDERS = ("", "experiments", "experiments/registry/paper", "slurm", "results", "results/mini")
PAGES = [
    *(CLONE / folder / "README.md" for folder in FOLDERS),
    CLONE / "slurm" / "TRACKING.md",
    *sorted((CLONE / "docs").glob("*.md")),
]
DEVIATIONS = (CLONE / "experiments" / "registry" / "paper" / "README.md").read_text()
TESTS = re.compile(r"`((?:\w+/)*test_\w+\.py)::(test_\w+)`")


def functions_of(file: str) -> set[str]:
    tree = ast.parse((CLONE / "tests" / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(CLONE)))
def test_every_test_and_file_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    for file, name in TESTS.findall(text):
        assert name in functions_of(file), f"{file}::{name}"
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_every_deviation_is_numbered_and_has_a_test() -> None:
    items = re.findall(r"(?m)^(\d+)\. (.*)$", DEVIATIONS)
    assert [int(number) for number, _ in items] == list(range(1, len(items) + 1))
    assert len(items) >= 40
    assert not [number for number, text in items if not TESTS.search(text)]


def test_what_the_models_chose_is_in_the_list() -> None:
    chosen = re.findall(r"^(\d+)\.", swin3d.__doc__ or "", re.M)
    assert {int(number) for number in re.findall(r"::test_deviation_(\d+)_", DEVIATIONS)} == set(map(int, chosen))


def test_every_row_of_the_deviations_is_in_the_list() -> None:
    """Each block of the table isolates something that the list speaks of."""
    words = {
        "optim.parameter_groups": "Parameter groups",
        "optim.lr": "Learning rate",
        "model.drop_path": "Drop path",
        "data.rand_augment.flip": "RandAugment flips",
    }
    isolated = {field for block in deviations.TABLE.blocks for field in block.isolates}
    assert isolated == set(words)
    assert all(word in DEVIATIONS for word in words.values())


def test_tables_with_a_timesformer_point_to_what_it_is_fed() -> None:
    section = DEVIATIONS.split("\n## What TimeSformer's released code feeds it")[1]
    first, *_, last = re.findall(r"(?m)^(\d+)\.", section)
    words = f"a verdict is about our input, which is not exactly that of its released code: see {first} to {last} in"
    found = {
        table.id: words in " ".join(table.notes)
        for table in tables_at(Scale.PAPER)
        if any(variant.recipe and isinstance(variant.recipe.model, TimeSformerConfig) for variant in table.variants)
    }
    assert found == dict.fromkeys(["table1", "table2", "table3", "baselines"], True)
