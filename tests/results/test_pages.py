"""Records, statistics and tables: what is measured is shown, what is not is a dash, scales never mix."""

import dataclasses
import io
import json
from collections.abc import Iterable
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests
from typer.testing import CliRunner

from experiments import folders
from experiments.cli.main import app
from experiments.figures import ablations as plots
from experiments.files import DamagedError, write_text
from experiments.registry.catalogue import find_experiment, find_table, find_variant, tables_at
from experiments.registry.recipe import Scale
from experiments.results import checklist, collect, record
from experiments.results import pages as tables
from experiments.results.comparison import Results, compare, control_of, ordering
from experiments.results.record import Checkpoint, Record, RecordError, RecordKind
from experiments.results.verify import verify
from experiments.runs.run import Run
from tests.support.finished_runs import PROVENANCE, finished_run, make_record
from vswin.training.evaluate import Predictions


@pytest.fixture(autouse=True)
def _folders(home: Path) -> None:
    """Folders of its own for every test."""


def test_collecting_twice_writes_once(tmp_path: Path) -> None:
    runs = [finished_run(find_variant("table4/joint"), seed=seed, top1=80.0 + seed) for seed in range(2)]
    files = list(collect.collect(runs))
    stamps = [(path.stat().st_mtime_ns, path.read_bytes()) for path in files]
    assert [path.stat().st_mtime_ns for path in collect.collect(runs)] == [stamp for stamp, _ in stamps]
    assert [item.top1 for item in verify(Scale.MINI).records] == [80.0, 81.0]
    assert sorted(path.suffix for path in files[0].parent.iterdir()) == [".json", ".json", ".npz", ".npz"]
    files[0].with_suffix(".npz").unlink()
    list(collect.collect(runs))
    assert files[0].with_suffix(".npz").exists()


def test_details_hold_the_five_best_classes_and_the_curve() -> None:
    run = finished_run(find_variant("table4/joint"), seed=0, top1=80.0)
    [path] = collect.collect([run])
    details = record.load_details(path)
    with np.load(run.directory.results()[0].with_suffix(".npz")) as archive:
        best = archive["scores"].argmax(axis=1)
    assert details.classes.shape == details.scores.shape == (200, 5)
    np.testing.assert_array_equal(details.classes[:, 0], best)
    assert (np.diff(details.scores.astype(np.float32), axis=1) <= 0).all()
    assert list(details.curves) == ["train/loss"]
    np.testing.assert_array_equal(details.curves["train/loss"].steps, [1, 2, 3])
    np.testing.assert_allclose(details.curves["train/loss"].values, [1, 1 / 2, 1 / 3], rtol=1e-6)


def test_right_is_what_top1_counts(tmp_path: Path) -> None:
    """Also where scores tie, are no number, or the video could not be read."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (200, 9)).astype(np.float32)
    scores[:5] = np.nan
    scores[5:10, 2] = np.nan
    predictions = Predictions(
        videos=np.arange(200), scores=scores, labels=rng.integers(0, 9, 200), broken=rng.random(200) < 0.1
    )
    np.savez(tmp_path / "test.npz", **vars(predictions))
    details = collect.details(tmp_path / "test.npz", journal_of=None)
    assert 100 * details.right.mean() == predictions.top(1)
    assert 100 * details.among_five.mean() == predictions.top(5)
    assert 0 < details.right.sum() < (details.classes[:, 0] == details.labels).sum()


def test_details_round_trip(tmp_path: Path) -> None:
    [path] = collect.collect([finished_run(find_variant("table4/joint"), seed=0, top1=80.0)])
    assert record.pack(record.load_details(path)) == path.with_suffix(".npz").read_bytes()


def test_tiny_runs_leave_no_records() -> None:
    run = finished_run(find_variant("table4/joint"), seed=0, top1=80.0, scale=Scale.TINY)
    with pytest.raises(ValueError, match="leave no records"):
        list(collect.collect([run]))


def test_a_record_of_another_scale_is_refused_wherever_it_lies() -> None:
    run = finished_run(find_variant("table4/joint"), seed=0, top1=80.0)
    [path] = collect.collect([run])
    stray = folders.records(Scale.PAPER) / path.name
    write_text(stray, path.read_text())
    [damage, *_] = verify(Scale.PAPER).damages
    assert damage.file == stray
    assert "a record of scale mini among those of paper" in damage.what
    other = Run(find_experiment(Scale.PAPER, find_variant("table4/joint")), 0)
    other.directory.path.parent.mkdir(parents=True)
    run.directory.path.rename(other.directory.path)
    with pytest.raises(RecordError, match="a record of scale mini among runs of scale paper"):
        list(collect.collect([other]))


def test_what_was_made_on_other_videos_or_of_other_weights_has_a_name_of_its_own() -> None:
    trained = make_record(find_variant("table4/joint"), seed=0, top1=80.0)
    others = {**PROVENANCE.dataset, "val": {"fingerprint": "3" * 64}}
    weights = [dataclasses.replace(PROVENANCE, checkpoint=Checkpoint(file="a.pth", sha256=d * 64)) for d in "ab"]
    published = [
        dataclasses.replace(trained, kind=RecordKind.PUBLISHED_WEIGHTS, seed=None, provenance=item) for item in weights
    ]
    every = [trained, *published]
    every += [
        dataclasses.replace(item, provenance=dataclasses.replace(item.provenance, dataset=others)) for item in every
    ]
    assert len({item.name for item in every}) == 6


def test_unfinished_runs_leave_no_records() -> None:
    run = finished_run(find_variant("table4/joint"), seed=0, top1=80.0)
    [result] = run.directory.results()
    result.unlink()
    assert list(collect.collect([run])) == []


@pytest.mark.parametrize(
    "spoil",
    [
        {"top1": "80"},
        {"schema": 99},
        {"unexpected": 1},
        {"scale": "huge"},
    ],
)
def test_what_is_not_a_record_is_refused_by_name(spoil: dict[str, object], tmp_path: Path) -> None:
    content = json.loads(record.dump(make_record(find_variant("table4/joint"), seed=0, top1=80.0)))
    path = tmp_path / "record.json"
    path.write_text(json.dumps({**content, **spoil}))
    with pytest.raises(DamagedError, match=r"record\.json"):
        record.load(path)


def test_record_round_trip(tmp_path: Path) -> None:
    original = make_record(find_variant("table4/split"), seed=3, top1=76.5)
    write_text(tmp_path / "record.json", record.dump(original))
    assert record.load(tmp_path / "record.json") == original


def results_of(records: Iterable[Record], scale: Scale = Scale.MINI) -> Results:
    """Results in which every video is right as often as a record's top-1 says, the first ones always."""

    def right(record: Record, k: int) -> NDArray[np.bool_]:
        share = record.top1 if k == 1 else record.top5
        return np.arange(1000) < 10 * share

    return Results(scale, tuple(records), right)


def cells(table: str, records: Iterable[Record], scale: Scale = Scale.MINI) -> pd.DataFrame:
    return tables.page(find_table(table), results_of(records, scale)).cells


def table4_records() -> list[Record]:
    return [
        make_record(find_variant("table4/joint"), seed=0, top1=90.0),
        make_record(find_variant("table4/joint"), seed=1, top1=92.0),
        make_record(find_variant("table4/split"), seed=0, top1=50.0),
    ]


def test_cells_show_ours_beside_the_papers() -> None:
    frame = cells("table4", table4_records())
    # t with one degree of freedom would be 91.0 ± 12.7
    assert frame["top-1, ours (mini)"].tolist() == ["91.0 (70.8 to 97.7)", "50.0", "-"]
    assert frame["seeds"].tolist() == ["2", "1", "0"]
    assert frame["difference"].tolist() == ["baseline", "-41.0", "-"]
    assert frame["verdict"].tolist() == ["-", "underpowered (needs 2 or more seeds)", "not run"]
    assert frame["top-1, paper"].tolist() == ["78.8", "76.4", "78.5"]
    assert frame["GFLOPs, paper"].tolist() == ["88", "83", "95"]
    assert frame["param (M), paper"].tolist() == ["28.2", "42.0", "36.5"]


def test_rows_that_learnt_nothing_get_no_other_verdict_and_are_named() -> None:
    """A row that guesses, or that is as good without a sense of time, also differs from its baseline."""
    top1 = {"table4/joint": 80.0, "table4/split": 40.0, "table4/factorized": 8.0, "baselines/space-only": 40.0}
    records = [
        make_record(find_variant(name), seed=seed, top1=value + seed / 10)
        for name, value in top1.items()
        for seed in range(5)
    ]
    page = tables.page(find_table("table4"), results_of(records))
    assert page.cells["verdict"].tolist() == ["-", "did not learn", "did not learn"]
    [guessing, control] = [note for note in page.notes if note.startswith("Did not learn: not shown to be better than")]
    assert "guessing, at 95 %: factorized." in guessing
    assert "the control without attention in time (space-only in table baselines, same" in control
    assert "at 95 %: split." in control
    effects = tables.named_effects(results_of(records))
    assert effects["row"].tolist() == ["split", "factorized"]
    assert effects["verdict"].tolist() == ["did not learn", "did not learn"]
    [order] = [note for note in page.notes if note.startswith("Order of the rows")]
    assert "0 agree, 0 disagree, 0 undecided, 0 which the paper cannot tell, 3 with a row that did not learn" in order
    # one seed has no interval, so nothing is said of it
    assert not [
        note for note in tables.page(find_table("table4"), results_of(records[5:6])).notes if "Did not learn" in note
    ]


def test_nothing_is_concluded_against_a_baseline_that_learnt_nothing() -> None:
    top1 = {"table5/global-16": 40.0, "table5/global-8": 70.0, "baselines/space-only": 40.0}
    records = [
        make_record(find_variant(name), seed=seed, top1=value + seed / 10)
        for name, value in top1.items()
        for seed in range(5)
    ]
    effects = tables.named_effects(results_of(records)).set_index(["table", "row"])
    assert effects.loc[("[table5](tables/table5.md)", "global-8"), "verdict"] == "did not learn (its baseline)"
    # the baseline has no difference, and says so itself
    page = tables.page(find_table("table5"), results_of(records))
    verdicts = page.numbers.set_index("id")[["verdict", "did_not_learn"]]
    assert verdicts.loc["table5/global-16"].tolist() == ["did not learn", "row"]
    assert verdicts.loc["table5/global-8"].tolist() == ["did not learn", "baseline"]
    assert "a row did not learn if it, or its baseline, was not" in checklist._verdicts(results_of(records)).lower()


@pytest.mark.parametrize(
    ("row", "control"),
    [
        ("table4/split", "baselines/space-only"),
        ("table1/timesformer-l", "baselines/space-only"),
        ("table5/global-8", "baselines/space-only-frames-16"),
        ("table5/global-4", "baselines/space-only-frames-8"),
        ("table5-patches/global-8", "baselines/space-only-patch-4"),
        ("table5-patches/global-4", "baselines/space-only-patch-8"),
        ("table3/swin-b", "baselines/space-only-ssv2"),
        ("table3/timesformer-hr", "baselines/space-only-ssv2"),
        ("table2/swin-b", None),
        ("upstream/image-t-small", None),
    ],
)
@pytest.mark.parametrize("scale", [Scale.PAPER, Scale.MINI])
def test_a_row_has_the_control_of_its_data_and_tokens(row: str, control: str | None, scale: Scale) -> None:
    variant = find_variant(row)
    if scale not in variant.scales:
        return
    found = control_of(variant.at(scale), scale)
    assert (found and found.id) == control


def test_rows_of_one_measurement_count_once() -> None:
    """Ten clips of a video that is as long as one show what four show."""
    names = ("table1/swin-t", "table1/swin-l-384-4x3", "table1/swin-l-384-10x5")
    records = [make_record(find_variant(name), seed=seed, top1=70.0 + seed / 10) for name in names for seed in range(2)]
    page = tables.page(find_table("table1"), results_of(records))
    assert any(note.endswith("the same frames: swin-l-384-10x5 as swin-l-384-4x3.") for note in page.notes)
    pairs = [(pair.first.name, pair.second.name) for pair in ordering(find_table("table1"), results_of(records))]
    assert pairs == [("swin-t", "swin-l-384-4x3")]


def test_a_shared_baseline_shows_in_every_table_that_has_it() -> None:
    frame = cells("table6", table4_records())
    assert frame["top-1, ours (mini)"].tolist() == ["91.0 (70.8 to 97.7)", "-", "-"]
    assert "GFLOPs, paper" not in frame.columns


def test_what_the_paper_only_reports_has_dashes_in_our_columns() -> None:
    swin = make_record(find_variant("table1/swin-t"), seed=0, top1=78.0, scale=Scale.PAPER)
    frame = cells("table1", [swin], Scale.PAPER).set_index("")
    ours = ["top-1, ours (paper)", "top-5, ours (paper)", "seeds", "verdict"]
    assert frame.loc["I3D", ours].tolist() == ["-"] * 4
    assert frame.loc["I3D", "top-1, paper":].tolist() == ["72.1", "90.3", "108", "25.0"]
    assert frame.loc["Swin-T", ours].tolist() == ["78.0", "99.0", "1", "underpowered (needs 2 or more seeds)"]
    assert frame.loc["Swin-S", "verdict"] == "not run"
    assert frame.loc["ViT-B-VTN", "param (M), paper"] == "11.04"
    assert frame.loc["CorrNet-101", ["top-5, paper", "param (M), paper"]].tolist() == ["-", "-"]
    assert frame["views, paper"].tolist()[-2:] == ["4x3", "10x5"]


def test_three_columns_where_they_exist() -> None:
    variant = find_variant("table1/swin-t")
    trained = [
        dataclasses.replace(
            make_record(variant, seed=seed, top1=78.5 + seed / 10, scale=Scale.PAPER), top5=99.0 + seed / 10
        )
        for seed in range(5)
    ]
    checkpoint = dataclasses.replace(PROVENANCE, checkpoint=Checkpoint(file="a.pth", sha256="a" * 64))
    # all of the paper's list, whose length it gives: nothing is left to chance
    published = dataclasses.replace(
        trained[0], kind=RecordKind.PUBLISHED_WEIGHTS, seed=None, top1=78.84, videos=20_000, provenance=checkpoint
    )

    def right(record: Record, k: int) -> NDArray[np.bool_]:
        return np.arange(20_000) < 200 * (record.top1 if k == 1 else record.top5)

    page = tables.page(find_table("table1"), Results(Scale.PAPER, (*trained, published), right))
    row = page.cells.set_index("").loc["Swin-T"]
    assert row["top-1, ours (paper)"] == "78.7 ± 0.2"
    assert row["verdict"] == "reproduced"
    # 99.2 is not the 93.6 that is printed
    assert row["verdict, top-5"] == "not reproduced"
    assert row[["top-1, published weights", "verdict, published weights"]].tolist() == ["78.8", "reproduced"]
    assert row["top-1, paper"] == "78.8"
    assert any("swin-t (Swin-T), published weights" in run and "(a.pth)" in run for run in page.runs)


def test_two_protocols_of_one_run_stand_in_their_own_rows() -> None:
    first, second = (
        make_record(find_variant(f"table1/swin-l-384-{views}"), seed=0, top1=top1, scale=Scale.PAPER)
        for views, top1 in (("4x3", 84.0), ("10x5", 85.0))
    )
    assert first.signature == second.signature
    assert cells("table1", [first, second], Scale.PAPER)["top-1, ours (paper)"].tolist()[-2:] == ["84.0", "85.0"]


def test_blocks_are_a_column_where_there_are_several() -> None:
    frame = cells("table5", table4_records())
    assert frame["block"].tolist() == ["temporally global"] * 3 + ["window size"] * 3
    assert frame["top-1, ours (mini)"].tolist() == ["-", "-", "-", "-", "91.0 (70.8 to 97.7)", "-"]
    assert "block" not in cells("table4", []).columns


def test_a_table_shows_only_what_its_scale_has() -> None:
    for table in tables_at(Scale.MINI):
        shown = tables.page(table, results_of([])).numbers["id"].tolist()
        assert shown == [variant.id for variant in table.at(Scale.MINI)]
    shown = tables.page(find_table("table1"), results_of([], Scale.PAPER)).numbers["id"].tolist()
    assert shown == [variant.id for variant in find_table("table1").variants]


def test_what_the_paper_contradicts_itself_in_is_printed_under_the_table() -> None:
    page = tables.page(find_table("table1"), results_of([], Scale.PAPER))
    for render in tables.FORMATS.values():
        if render is tables.to_csv:
            continue
        assert "82.6 / 95.7" in render(page)
        assert "clips of 32 frames, 2 apart; 4x3 views" in render(page)


def test_cells_name_their_runs_and_protocol() -> None:
    [first, second, _] = table4_records()
    dirty = dataclasses.replace(second, provenance=dataclasses.replace(PROVENANCE, dirty=True))
    page = tables.page(find_table("table4"), results_of([first, dirty]))
    [run] = page.runs
    stem = first.name.removesuffix("-seed0")
    assert run == f"joint: `{stem}`, seeds 0, 1, commit {'0' * 10} and {'0' * 10} with uncommitted changes"
    assert any("val.txt, 4 videos, fingerprint 2222222222" in note for note in page.notes)
    assert f"- {run}" in tables.to_markdown(page)


def test_scales_and_protocols_never_share_a_column() -> None:
    [first, *_] = table4_records()
    other_protocol = dataclasses.replace(first, protocol="ffffff")
    paper = cells("table4", [*table4_records(), other_protocol], Scale.PAPER)
    assert paper["top-1, ours (paper)"].tolist() == paper["top-5, ours (paper)"].tolist() == ["-", "-", "-"]
    mini = results_of([other_protocol])
    assert mini.trained(find_variant("table4/joint")) == []
    assert mini.strangers([find_table("table4")]) == [other_protocol]


def test_records_of_different_videos_are_never_averaged_or_compared() -> None:
    first, second, split = table4_records()
    other = dataclasses.replace(
        PROVENANCE, dataset={"train": {"fingerprint": "3" * 64}, "val": {"fingerprint": "4" * 64}}
    )
    with pytest.raises(RecordError, match="table4/joint were made on different videos"):
        cells("table4", [first, dataclasses.replace(second, provenance=other)])
    with pytest.raises(RecordError, match="were tested on different videos"):
        cells("table4", [first, dataclasses.replace(split, provenance=other)])
    # a control on other videos says nothing, and is no error of this table
    controls = [
        dataclasses.replace(make_record(find_variant("baselines/space-only"), seed=seed, top1=99.0), provenance=other)
        for seed in range(2)
    ]
    page = tables.page(find_table("table4"), results_of([first, second, *controls]))
    assert not [note for note in page.notes if "control" in note]


def test_rows_and_pairs_of_a_table_are_one_family_and_do_not_contradict_each_other() -> None:
    top1 = {"full": [80, 81, 83], "spatial": [79, 80.5, 81], "none": [76.5, 78, 78.4]}
    records = [
        make_record(find_variant(f"table6/{name}"), seed=seed, top1=value)
        for name, values in top1.items()
        for seed, value in enumerate(values)
    ]
    results, table = results_of(records), find_table("table6")
    rows = {row.variant.name: row for row in compare(table, results)}
    pairs = {(pair.first.name, pair.second.name): pair.judgement for pair in ordering(table, results)}
    assert set(pairs) == {("full", "spatial"), ("full", "none"), ("spatial", "none")}
    for name in ("spatial", "none"):
        assert rows[name].verdict == pairs["full", name]
    ps = [
        results.difference(results.trained(find_variant(f"table6/{b}")), results.trained(find_variant(f"table6/{a}")))
        for a, b in pairs
    ]
    raw = [found.p for found in ps if found and found.p]
    expected = dict(zip(pairs, multipletests(raw, method="holm")[1], strict=True))
    assert rows["none"].p == pytest.approx(expected["full", "none"])
    assert rows["spatial"].p == pytest.approx(expected["full", "spatial"])


def test_rows_with_other_seeds_are_compared() -> None:
    records = [
        *(make_record(find_variant("table4/joint"), seed=seed, top1=90.0 + seed) for seed in (0, 1, 2)),
        *(make_record(find_variant("table4/split"), seed=seed, top1=50.0 + seed) for seed in (7, 8)),
    ]
    row = compare(find_table("table4"), results_of(records))[1]
    assert row.difference is not None
    assert row.difference.mean == pytest.approx(57.5 - 91)
    assert str(row.verdict) == "agrees"


def test_differences_have_verdicts_at_scale_paper_too() -> None:
    top1 = {"joint": 78.8, "split": 76.4, "factorized": 78.0}
    records = [
        make_record(find_variant(f"table4/{name}"), seed=seed, top1=value + seed / 10, scale=Scale.PAPER)
        for name, value in top1.items()
        for seed in range(3)
    ]
    frame = cells("table4", records, Scale.PAPER).set_index("")
    assert frame["verdict, difference"].tolist() == ["-", "agrees", "the paper cannot tell"]
    assert [
        row.verdict.verdict for row in compare(find_table("table4"), results_of(records, Scale.PAPER)) if row.verdict
    ]
    # the printed number is judged beside it, on its own
    assert set(frame["verdict"]) <= {"reproduced", "not reproduced"} | {c for c in frame["verdict"] if "needs" in c}
    assert cells("table4", [], Scale.PAPER).get("verdict, difference") is None


def test_equal_seeds_are_named_and_have_no_interval() -> None:
    records = [make_record(find_variant("table4/joint"), seed=seed, top1=90.0) for seed in range(2)]
    assert cells("table4", records)["top-1, ours (mini)"].tolist()[0] == "90.0 (2 equal seeds)"


def test_the_paper_columns_are_marked_as_another_scale() -> None:
    text = tables.to_markdown(tables.page(find_table("table4"), results_of(table4_records())))
    assert "another scale, not comparable number by number" in text
    assert "another scale" not in tables.to_markdown(tables.page(find_table("table4"), results_of([], Scale.PAPER)))


def test_written_tables_are_stable_and_checked() -> None:
    def call(*arguments: str, code: int = 0) -> str:
        answer = CliRunner().invoke(app, ["tables", *arguments])
        assert answer.exit_code == code, answer.output
        return answer.stderr

    for seed in range(2):
        list(collect.collect([finished_run(find_variant("table4/joint"), seed=seed, top1=75.0)]))
    assert "table4.md" in call("--check", code=1)
    call()
    folder = folders.results() / "mini" / "tables"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {path.suffix for path in folder.iterdir()} == {".md", ".csv", ".html", ".tex"}
    assert len(before) == 5 * len(tables_at(Scale.MINI)) + 1
    call()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert call("--check") == ""
    (folder / "table6.tex").write_text("edited by hand")
    (folder / "old.md").write_text("of a table that is gone")
    said = call("--check", code=1)
    assert "table6.tex" in said
    assert "old.md" in said
    assert "table4" not in said
    assert "there are no tables of them" in call("--scale", "tiny", code=2)


def test_csv_is_for_programs() -> None:
    frame = pd.read_csv(io.StringIO(tables.to_csv(tables.page(find_table("table4"), results_of(table4_records())))))
    joint = frame.set_index("id").loc["table4/joint"]
    assert (joint["seeds"], joint["top1"], joint["paper_top1"]) == (2, 91.0, 78.8)
    assert joint[["top1_low", "top1_high"]].tolist() == pytest.approx([70.8157, 97.6816], abs=1e-4)
    assert joint["runs"].split() == [record.name for record in table4_records()[:2]]
    assert frame["verdict_needs_seeds"].tolist()[1:] == pytest.approx([2, float("nan")], nan_ok=True)


def test_frames_for_plots() -> None:
    for seed, top1 in enumerate((90.0, 92.0)):
        list(collect.collect([finished_run(find_variant("table4/joint"), seed=seed, top1=top1)]))
    records = Results.load(Scale.MINI)
    chosen = [find_table("table4"), find_table("table6")]
    points = plots.seeds(chosen, records)
    assert points[["table", "row", "seed", "top1"]].to_numpy().tolist() == [
        ["table4", "joint", 0, 90.0],
        ["table4", "joint", 1, 92.0],
        ["table6", "w. 3D shifting", 0, 90.0],
        ["table6", "w. 3D shifting", 1, 92.0],
    ]
    loss = plots.curves(chosen, records, metric="train/loss", smooth=2)
    assert loss["value"].tolist()[:3] == pytest.approx([1, 3 / 4, 5 / 12])
    assert len(loss) == 12
    assert plots.curves(chosen, Results.load(Scale.PAPER), metric="train/loss", smooth=2).empty


def test_a_curve_shows_the_steps_that_its_journal_lost() -> None:
    variant = find_variant("table4/joint")
    run = finished_run(variant, seed=0, top1=90.0)
    [target] = collect.collect([run])
    assert isinstance(target, Path)
    whole = target.read_bytes()
    assert "missing_steps" not in json.loads(whole)["provenance"]
    journal = run.directory.journal
    first, _, *rest = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([first, *rest]))
    # a record from before is better
    list(collect.collect([run]))
    assert target.read_bytes() == whole
    target.unlink()
    list(collect.collect([run]))
    assert json.loads(target.read_text())["provenance"]["missing_steps"] == [[2, 2]]
    results = Results.load(Scale.MINI)
    [remark] = verify(Scale.MINI).remarks
    assert remark.endswith("-seed0: its curves lack steps 2 to 2, which its journal lost; no accuracy depends on them")
    frame = plots.curves([find_table("table4")], results, metric="train/loss")
    assert frame["step"][frame["value"].isna()].tolist() == [2, 2]
    other = frame.dropna().assign(row="another")
    figure = plots.draw_curves(pd.concat([frame, other], ignore_index=True), label="loss")
    broken, whole_line = (line.get_data() for line in figure.axes[0].get_lines()[:2])
    assert [list(values) for values in broken] == [[1, 2, 3], [1.0, ANY, pytest.approx(1 / 3)]]
    assert np.isnan(broken[1][1])
    assert list(whole_line[0]) == [1, 3]


def test_confusions_count_every_video_once() -> None:
    for seed in range(2):
        list(collect.collect([finished_run(find_variant("table4/joint"), seed=seed, top1=90.0)]))
    variant, results = find_variant("table4/joint"), Results.load(Scale.MINI)
    found = plots.confusion(variant, results)
    assert found is not None
    shares, seeds = found
    assert seeds == 2
    # four videos of the first four classes, none of the other two
    assert shares.sum(axis=1).tolist() == pytest.approx([100] * 4 + [0] * 2)
    details = [record.load_details(folders.records(Scale.MINI) / f"{item.name}.json") for item in results.records]
    right = 100 * np.mean([item.classes[item.labels == 0, 0] == 0 for item in details])
    assert shares.iloc[0, 0] == pytest.approx(right)
    assert plots.confusion(find_variant("table4/split"), results) is None


def test_costs_have_every_training_once() -> None:
    results = results_of(table4_records())
    frame = plots.costs([find_table("table4"), find_table("table6")], results)
    assert frame["row"].tolist() == ["table4: joint", "table4: split"]
    assert frame["gflops"].tolist() == [0.001, 0.001]


def test_effects_stand_beside_the_papers() -> None:
    frame = plots.effects([find_table("table4")], results_of(table4_records()))
    assert frame[["row", "difference", "verdict"]].to_numpy().tolist() == [["split", -41.0, "underpowered"]]
    assert frame["paper"].tolist() == pytest.approx([-2.4])
    assert frame["half"].isna().all()


def test_small_weights_of_the_shown_model_are_kept() -> None:
    run = finished_run(find_variant(collect.SHOWN), seed=0, top1=90.0)
    assert list(collect.collect_weights(Scale.MINI)) == []
    run.directory.weights.write_bytes(b"weights")
    [kept] = collect.collect_weights(Scale.MINI)
    assert kept == collect.shown_weights(Scale.MINI)
    stamp = kept.stat().st_mtime_ns
    assert [path.stat().st_mtime_ns for path in collect.collect_weights(Scale.MINI)] == [stamp]
    run.directory.weights.write_bytes(bytes(2**20 + 1))
    assert list(collect.collect_weights(Scale.MINI)) == []
    assert kept.read_bytes() == b"weights"
