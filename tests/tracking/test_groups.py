"""Rows as MLflow groups them: an order and colours of their own."""

from __future__ import annotations

import pytest

from experiments.registry.catalogue import experiments, tables, tables_at
from experiments.registry.recipe import Scale
from experiments.runs.run import Run
from experiments.tracking.card import card
from experiments.tracking.groups import color_of, group_of


# As seen in MLflow 3.17's page, by the browser test also.
@pytest.mark.parametrize(
    ("group", "color"),
    [("1\u202fjoint", "#de7921"), ("2\u205fsplit", "#1f272d"), ("3\u2008\u2008factorized", "#137dae")],
)
def test_colors_are_those_of_mlflows_page(group: str, color: str) -> None:
    assert color_of("table4", group) == color


@pytest.mark.parametrize("scale", Scale)
def test_no_two_rows_of_a_table_share_a_group_or_a_color(scale: Scale) -> None:
    for table in tables_at(scale):
        runs = [Run(experiment, 0) for experiment in experiments(scale, [table])]
        groups = [card(run).tags[table.id] for run in runs]
        assert len(set(groups)) == len(groups)
        assert len({color_of(table.id, group) for group in groups}) == len(groups), table.id


@pytest.mark.parametrize("scale", Scale)
def test_groups_sort_as_the_paper_does(scale: Scale) -> None:
    for table in tables_at(scale):
        rows = [variant.id for variant in table.at(scale)]
        groups = {}
        for experiment in experiments(scale, [table]):
            own = [variant.id for variant in experiment.variants if variant.table == table.id]
            groups[group_of(table.id, own, scale)] = own
        # a run that is two rows stands where the first of them does
        places = [rows.index(groups[group][0]) for group in sorted(groups)]
        assert places == sorted(places)


def test_every_row_has_a_title_that_no_other_row_of_its_table_has() -> None:
    for table in tables().values():
        titles = [variant.title for variant in table.variants]
        assert len(set(titles)) == len(titles), table.id
        for variant in table.variants:
            assert variant.label in variant.title


def test_what_the_paper_calls_alike_is_told_apart_by_its_own_columns() -> None:
    titles = {variant.id: variant.title for table in tables().values() for variant in table.variants}
    assert titles["table1/swin-b-1k"] == "Video Swin: Swin-B, ImageNet-1K"
    assert titles["table1/swin-b-21k"] == "Video Swin: Swin-B, ImageNet-21K"
    assert titles["table2/swin-l-384-4x3"] == "Swin-L (384↑), 4x3"
    assert titles["table1/swin-l-384-10x5"] == "Video Swin: Swin-L (384↑), 10x5"
    assert titles["table7/ratio-1-21k"] == "ImageNet-21K: 1.0x"
    assert titles["table4/split"] == "split"
