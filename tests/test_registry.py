"""The registry says what the paper says, and a table differs in what it isolates only."""

import json
from pathlib import Path

import pytest

from experiments.baselines import SWIN_T_K400
from experiments.recipe import Scale, difference
from experiments.registry import (
    Reported,
    Row,
    Table,
    UnknownNameError,
    experiments,
    find_experiment,
    find_table,
    find_variant,
    tables,
)
from vswin.config import Attention, Extent, Shift

PAPER = json.loads((Path(__file__).parent / "golden" / "paper_tables.json").read_text())["tables"]
KEYS = {"table4": "table4_attention_design", "table6": "table6_shift"}


@pytest.mark.parametrize("table", KEYS)
def test_reported_numbers_are_the_papers(table: str) -> None:
    printed = [
        Reported(top1=row["top1"], top5=row["top5"], gflops=row.get("gflops"), params=row.get("params_m"))
        for row in PAPER[KEYS[table]]["rows"]
    ]
    assert [variant.paper for variant in find_table(table).variants] == printed
    assert find_table(table).caption == PAPER[KEYS[table]]["caption"]


def test_row_names_are_the_papers() -> None:
    assert [v.label for v in find_table("table4").variants] == [r["design"] for r in PAPER[KEYS["table4"]]["rows"]]
    assert [v.label for v in find_table("table6").variants] == [r["setting"] for r in PAPER[KEYS["table6"]]["rows"]]


@pytest.mark.parametrize("scale", Scale)
@pytest.mark.parametrize("table", list(tables()))
def test_variants_differ_in_what_the_table_isolates(table: str, scale: Scale) -> None:
    found = find_table(table)
    baseline, *others = found.variants
    for variant in others:
        assert set(difference(variant.at(scale), baseline.at(scale))) == set(found.isolates)


def make_table(*rows: Row) -> Table:
    return Table(
        id="table0",
        caption="",
        question="",
        source="",
        baseline=SWIN_T_K400,
        isolates=("model.attention",),
        rows=(Row("joint"), *rows),
    )


def test_stray_change_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"table0/split at scale paper changes \['model.shift'\]"):
        make_table(Row("split", {"model.attention": Attention.SPLIT, "model.shift": Shift.NONE}))


def test_two_rows_of_the_same_recipe_are_an_error() -> None:
    with pytest.raises(ValueError, match="table0/b and table0/a are the same recipe"):
        make_table(Row("a", {"model.attention": Attention.SPLIT}), Row("b", {"model.attention": Attention.SPLIT}))


def test_baseline_is_the_first_row() -> None:
    with pytest.raises(ValueError, match="must be the baseline unchanged"):
        Table(
            id="table0",
            caption="",
            question="",
            source="",
            baseline=SWIN_T_K400,
            isolates=("model.attention",),
            rows=(Row("split", {"model.attention": Attention.SPLIT}),),
        )


def test_the_shared_baseline_is_one_experiment_named_by_its_first_table() -> None:
    shared = find_experiment(Scale.MINI, find_variant("table6/full"))
    assert shared.name == "table4/joint"
    assert [v.id for v in shared.variants] == ["table4/joint", "table6/full", "baselines/joint"]
    # launched through another table it is still the same experiment, with the same tables
    assert experiments(Scale.MINI, [find_table("table6")])[0] == shared
    assert len(experiments(Scale.MINI, [find_table("table4"), find_table("table6")])) == 5


def test_scales_never_share_a_signature() -> None:
    signatures = [{item.recipe.signature for item in experiments(scale)} for scale in Scale]
    assert len(set.union(*signatures)) == sum(len(some) for some in signatures)


def test_the_miniature_keeps_twice_as_many_tokens_in_time_as_a_window_has() -> None:
    """As in the paper (16 tokens, window 8): otherwise the temporal shift is clamped away and table 6 sees nothing."""
    for scale in Scale:
        recipe = find_variant("table6/full").at(scale)
        assert recipe.data.clip.length // recipe.model.patch.time == 2 * recipe.model.window.time
    assert find_variant("baselines/space-only").at(Scale.MINI).model.window.time == 1
    assert isinstance(find_variant("table4/joint").at(Scale.MINI).model.window, Extent)


@pytest.mark.parametrize(
    ("name", "hint"), [("tabel4/split", "'table4/split'"), ("table4/spilt", "'table4/split'"), ("zzz", "known: ")]
)
def test_unknown_variant_offers_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown variant") as error:
        find_variant(name)
    assert hint in str(error.value)
