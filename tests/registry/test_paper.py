"""The registry says what the paper says, and a table differs in what it isolates only."""

import json
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from experiments.cli.main import app
from experiments.registry import scales as mini
from experiments.registry import stand_ins as upstream
from experiments.registry.catalogue import experiments, find_experiment, find_table, find_variant, tables, tables_at
from experiments.registry.errors import NoRecipeError, UnknownNameError
from experiments.registry.recipe import Scale, difference
from experiments.registry.recipes import (
    SWIN_B_K400_1K,
    SWIN_B_K400_22K,
    SWIN_B_K600,
    SWIN_B_SSV2,
    SWIN_S_K400,
    SWIN_T_K400,
)
from experiments.registry.stand_ins import SOURCES, weights_name
from experiments.registry.table import Block, Reported, Row, Table
from experiments.runs.weights import RELEASES
from tests.support.places import GOLDEN
from vswin.config import Attention, Extent, Shift, Swin2DConfig, Swin3DConfig, TimeSformerConfig

PAPER = json.loads((GOLDEN / "paper_tables.json").read_text())["tables"]
KEYS = {
    "table1": "table1_k400",
    "table2": "table2_k600",
    "table3": "table3_ssv2",
    "table4": "table4_attention_design",
    "table5": "table5_temporal",
    "table6": "table6_shift",
    "table7": "table7_lr_ratio",
    "table8": "table8_embed_init",
    "table9": "table9_rpb_init",
}


def printed(row: dict[str, Any]) -> Reported:
    return Reported(
        top1=row["top1"],
        top5=row["top5"],
        gflops=row.get("gflops", row.get("gflops_per_view")),
        params=row.get("params_m"),
        pretrain=row.get("pretrain"),
        views=row.get("views"),
    )


def words(row: dict[str, Any]) -> str:
    """The paper's name of a row, as our labels have it."""
    if "method" in row:
        return str(row["method"]).replace("\u00d7", "x")
    if "temporal_dim" in row:
        return f"dimension {row['temporal_dim']}, window {'x'.join(map(str, row['window']))}"
    if "ratio" in row:
        return f"{row['ratio']:.1f}x"
    return str(row.get("design") or row.get("setting") or row.get("init"))


@pytest.mark.parametrize("table", KEYS)
def test_every_row_of_the_paper_is_there_with_its_numbers(table: str) -> None:
    rows = [(words(row), printed(row)) for row in PAPER[KEYS[table]]["rows"]]
    assert [(variant.label, variant.paper) for variant in find_table(table).variants] == rows
    assert PAPER[KEYS[table]]["caption"].startswith(find_table(table).caption)
    assert find_table(table).source == f"Table {table[-1]} of arXiv 2106.13230v1"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("table7", "82.6 / 95.7 here, 82.7 / 95.5 in table 1"),
        ("table1", "82.7 / 95.5 here, 82.6 / 95.7 in table 7"),
        ("table1", "MViT-B 32x3, 1x5, should be 5x1"),
        ("table2", "ViViT-H is cited as MViT"),
        ("table1", "11.04 cannot be"),
        ("table1", "88.1 was rounded twice"),
        ("table2", "Param repeats the 400-class models"),
        ("table1", "see deviations"),
        ("deviations", "Swin-S: 0.2 in the text is a clerical error"),
        ("deviations", "1e-3 for the three models from ImageNet-1K"),
        ("deviations", "one drop path, 0.3, for Swin-B"),
        ("deviations", "mixed precision (fp16, apex O1)"),
        ("table3", "a separate Kinetics-400 model with window 16x7x7"),
        ("table2", "86.1 in arXiv v1, 85.9 in the abstract of the CVPR version"),
        ("table3", "trained with horizontal flips although its recipe turns them off"),
    ],
)
def test_known_contradictions_are_printed_under_their_tables(table: str, words: str) -> None:
    """Sections 1, 4.1 and 7 of the collected facts."""
    notes = " ".join(find_table(table).notes)
    assert words in notes
    [row, *_] = find_table(table).variants
    shown = CliRunner().invoke(app, ["show", row.id])
    assert words in " ".join(shown.stdout.split())


def test_what_is_grey_in_the_paper_is_a_block_of_its_own() -> None:
    for table in ("table1", "table2", "table3"):
        grey = [row["greyed_out"] for row in PAPER[KEYS[table]]["rows"]]
        assert [variant.block == "others, more data (grey)" for variant in find_table(table).variants] == grey


def test_video_swin_and_timesformer_can_be_run_and_the_others_are_reported() -> None:
    for table in ("table1", "table2", "table3"):
        for variant in find_table(table).variants:
            assert (variant.recipe is not None) is variant.label.startswith(("Swin", "TimeSformer"))


def test_the_other_reading_of_table_5_has_the_same_numbers() -> None:
    other = [variant.paper for variant in find_table("table5-patches").variants]
    assert other == [variant.paper for variant in find_table("table5").variants][:3]


def test_views_and_classes_of_a_recipe_are_those_of_its_table() -> None:
    for variant in (v for table in ("table1", "table2", "table3") for v in find_table(table).variants if v.recipe):
        assert variant.recipe
        assert variant.paper
        assert variant.recipe.protocol.views == variant.paper.views
        classes = {"table1": ("kinetics400", 400), "table2": ("kinetics600", 600)}
        expected = classes.get(variant.table, ("something-something-v2", 174))
        assert (variant.recipe.data.dataset, variant.recipe.model.num_classes) == expected


def test_two_protocols_of_one_model_are_one_experiment() -> None:
    found = find_experiment(Scale.PAPER, find_variant("table1/swin-l-384-10x5"))
    assert [v.id for v in found.variants] == ["table1/swin-l-384-4x3", "table1/swin-l-384-10x5"]
    assert [protocol.views for protocol in found.protocols.values()] == ["4x3", "10x5"]


def test_what_differs_in_the_released_configs_differs_in_the_recipes() -> None:
    """By file: what the recipe of that config must say."""
    recipes = {
        "swin_tiny_patch244_window877_kinetics400_1k.py": SWIN_T_K400,
        "swin_small_patch244_window877_kinetics400_1k.py": SWIN_S_K400,
        "swin_base_patch244_window877_kinetics400_1k.py": SWIN_B_K400_1K,
        "swin_base_patch244_window877_kinetics400_22k.py": SWIN_B_K400_22K,
        "swin_base_patch244_window877_kinetics600_22k.py": SWIN_B_K600,
        "swin_base_patch244_window1677_sthv2.py": SWIN_B_SSV2,
    }
    configs = json.loads((GOLDEN / "paper_tables.json").read_text())["official_configs"]
    assert [config["file"] for config in configs] == list(recipes)
    for config in configs:
        recipe = recipes[config["file"]]
        assert isinstance(recipe.model, Swin3DConfig)
        assert (list(recipe.model.window), list(recipe.model.patch)) == (config["window"], config["patch"])
        assert (recipe.model.drop_path, recipe.model.num_classes) == (config["drop_path"], config["classes"])
        optim = recipe.optim
        assert (optim.lr, optim.backbone_lr_ratio) == (config["lr"], config["backbone_lr_mult"])
        assert (optim.epochs, optim.warmup_epochs) == (config["epochs"], config["warmup_epochs"])
        assert (optim.weight_decay, optim.batch_size) == (config["weight_decay"], 8 * config["videos_per_gpu"])
        assert optim.label_smoothing == config["label_smoothing"]
        assert recipe.protocol.views == config["test"]
        assert recipe.data.erasing == config.get("random_erasing", 0)
        assert f"{weights_name(recipe.init)}.pth" in config["pretrain"].split()


def test_all_weights_that_recipes_start_from_have_an_address() -> None:
    inits = [item.recipe.init for item in experiments(Scale.PAPER)]
    # and the published video models, for fine-tuning them on one's own videos
    assert {weights_name(init) for init in inits} - {None} <= set(RELEASES)


def test_every_published_file_has_a_stand_in_that_is_trained_first() -> None:
    assert set(SOURCES) == {weights_name(item.recipe.init) for item in experiments(Scale.PAPER)} - {None}
    for scale in (Scale.MINI, Scale.TINY):
        for item in experiments(scale):
            name = weights_name(item.recipe.init)
            assert (name is None) == (not item.upstream)
            if name:
                assert name == f"{item.upstream[-1].name}@{item.upstream[-1].recipe.signature}"
    assert all(not item.upstream for item in experiments(Scale.PAPER))
    chain = find_experiment(Scale.MINI, find_variant("table3/swin-b")).upstream
    assert [source.name for source in chain] == ["upstream/image-b-large", "upstream/video-b-window16"]


def test_another_upstream_recipe_is_another_signature_downstream(monkeypatch: pytest.MonkeyPatch) -> None:
    image, video = "upstream/image-b-large", "table3/swin-b"
    before = {name: find_variant(name).at(Scale.MINI).signature for name in (image, video, "table4/joint")}
    monkeypatch.setattr(mini, "IMAGE_EPOCHS", mini.IMAGE_EPOCHS + 1)
    upstream.weights_of.cache_clear()
    after = {name: find_variant(name).at(Scale.MINI).signature for name in before}
    upstream.weights_of.cache_clear()
    assert all(before[name] != after[name] for name in before)


@pytest.mark.parametrize("scale", [Scale.MINI, Scale.TINY])
def test_an_image_model_fits_what_starts_from_it(scale: Scale) -> None:
    for item in (item for item in experiments(scale) if item.upstream):
        source, model = item.upstream[-1].recipe.model, item.recipe.model
        assert source.num_classes
        match model:
            case Swin3DConfig():
                assert isinstance(source, Swin2DConfig | Swin3DConfig)
                sizes = (source.embed_dim, source.depths, source.num_heads)
                assert sizes == (model.embed_dim, model.depths, model.num_heads)
                window = source.window if isinstance(source, Swin2DConfig) else source.window.height
                assert window == model.window.height
            case TimeSformerConfig():
                assert isinstance(source, TimeSformerConfig)
                assert replace(model, attention=source.attention, frames=1, **like(source)) == source
            case _:
                raise AssertionError(f"{item.name} starts from {item.upstream[-1].name}")


def like(source: TimeSformerConfig) -> dict[str, Any]:
    """What may differ: position embeddings are resized, and the head is new."""
    return {"image_size": source.image_size, "drop_path": source.drop_path, "num_classes": source.num_classes}


@pytest.mark.parametrize("table", list(tables()))
def test_variants_differ_in_what_their_block_isolates(table: str) -> None:
    for block, (first, *others) in zip(find_table(table).blocks, find_table(table).by_block, strict=True):
        for scale in block.scales if block.baseline else ():
            changes = [difference(variant.at(scale), first.at(scale)).keys() for variant in others]
            assert all(changes)
            assert set().union(*changes) == set(block.isolates)


def test_baselines_are_the_first_rows_of_blocks() -> None:
    table = find_table("table7")
    baselines = [table.baseline_of(variant) for variant in table.variants]
    assert [v.name if v else "" for v in baselines] == [
        "ratio-0.1-1k",
        "ratio-0.1-1k",
        "ratio-0.1-21k",
        "ratio-0.1-21k",
    ]
    assert find_table("table1").baseline_of(find_variant("table1/swin-s")) is None
    with pytest.raises(ValueError, match="table1/swin-s is no row of table7"):
        table.baseline_of(find_variant("table1/swin-s"))


def test_scales_of_tables() -> None:
    assert tables_at(Scale.MINI) == list(tables().values())
    assert tables_at(Scale.PAPER) == [table for table in tables().values() if table.id != "upstream"]
    assert [table.id for table in tables_at(Scale.TINY)] == [
        *("table4", "table5", "table6", "table7", "table8", "table9", "table5-patches", "deviations", "baselines"),
        "upstream",
    ]
    with pytest.raises(NoRecipeError, match="table1 does not exist at scale tiny, only at paper and mini; add --scale"):
        tables_at(Scale.TINY, ["table4", "table1"])
    with pytest.raises(NoRecipeError, match="upstream/image-t-small does not exist at scale paper"):
        find_variant("upstream/image-t-small").at(Scale.PAPER)
    with pytest.raises(NoRecipeError, match="table1/i3d is a number that the paper reports for others"):
        find_variant("table1/i3d").at(Scale.PAPER)


def test_what_has_a_recipe_exists_at_mini() -> None:
    """But for TimeSformers that no table of the paper has."""
    for variant in (v for table in tables().values() for v in table.variants if v.recipe):
        assert Scale.MINI in variant.scales or variant.block == "TimeSformer, other sizes and data"


def make_table_of(*blocks: Block) -> Table:
    return Table(id="table0", caption="", question="", source="", blocks=blocks)


def make_table(*rows: Row) -> Table:
    return make_table_of(Block(baseline=SWIN_T_K400, isolates=("model.attention",), rows=(Row("joint"), *rows)))


def test_stray_change_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"table0/split at scale paper changes \['model.shift'\]"):
        make_table(Row("split", {"model.attention": Attention.SPLIT, "model.shift": Shift.NONE}))


def test_two_rows_of_the_same_recipe_are_an_error() -> None:
    with pytest.raises(ValueError, match="table0/b and table0/a are the same recipe"):
        make_table(Row("a", {"model.attention": Attention.SPLIT}), Row("b", {"model.attention": Attention.SPLIT}))


def test_baseline_is_the_first_row() -> None:
    with pytest.raises(ValueError, match="must be the baseline unchanged"):
        make_table_of(Block(baseline=SWIN_T_K400, rows=(Row("split", {"model.attention": Attention.SPLIT}),)))


def test_rows_without_a_baseline_have_recipes_and_no_changes() -> None:
    with pytest.raises(
        ValueError, match="table0/a: expected changes in a block with a baseline, a recipe in one without"
    ):
        make_table_of(Block(rows=(Row("a", {"model.attention": Attention.SPLIT}),)))
    with pytest.raises(ValueError, match="table0/a: expected changes"):
        make_table_of(Block(baseline=SWIN_T_K400, rows=(Row("a", recipe=SWIN_T_K400),)))


def test_a_name_is_a_row_of_one_block() -> None:
    with pytest.raises(ValueError, match="table0: expected a name of its own for every row, got a twice"):
        make_table_of(Block(rows=(Row("a"),)), Block(rows=(Row("a"),)))


def test_the_shared_baseline_is_one_experiment_named_by_its_first_table() -> None:
    shared = find_experiment(Scale.MINI, find_variant("table6/full"))
    assert shared.name == "table1/swin-t"
    assert [v.id for v in shared.variants] == [
        *("table1/swin-t", "table4/joint", "table5/window-8", "table6/full", "table8/inflate", "table9/duplicate"),
        *("deviations/swin-t", "baselines/joint"),
    ]
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
        assert isinstance(recipe.model, Swin3DConfig)
        assert recipe.data.clip.length // recipe.model.patch.time == 2 * recipe.model.window.time
    space_only = find_variant("baselines/space-only").at(Scale.MINI).model
    assert isinstance(space_only, Swin3DConfig)
    assert space_only.window == Extent(1, 3, 3)


def test_the_miniature_of_table_5_halves_time() -> None:
    for name in ("table5", "table5-patches"):
        for variant in find_table(name).variants:
            paper, mini = variant.at(Scale.PAPER), variant.at(Scale.MINI)
            assert isinstance(paper.model, Swin3DConfig)
            assert isinstance(mini.model, Swin3DConfig)
            assert (2 * mini.data.clip.length, 2 * mini.model.window.time) == (
                paper.data.clip.length,
                paper.model.window.time,
            )
            assert mini.model.patch == paper.model.patch


@pytest.mark.parametrize(
    ("name", "hint"), [("tabel4/split", "'table4/split'"), ("table4/spilt", "'table4/split'"), ("zzz", "known: ")]
)
def test_unknown_variant_offers_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown variant") as error:
        find_variant(name)
    assert hint in str(error.value)
