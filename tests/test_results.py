"""Records, statistics and tables: what is measured is shown, what is not is a dash, scales never mix."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from experiments import collect, record, tables
from experiments.journal import Journal
from experiments.recipe import Scale, to_dict
from experiments.record import Checkpoint, Kind, Provenance, Record, RecordError
from experiments.registry import Variant, find_table, find_variant
from experiments.runs import Ownership, RunDirectory, write_text
from experiments.statistics import Summary, summarise
from vswin.config import Precision
from vswin.training.evaluate import Predictions

PROVENANCE = Provenance(
    commit="0" * 40,
    dirty=False,
    finished="2021-06-24T00:00:00Z",
    python="3.11.7",
    torch="2.13.0",
    cuda=None,
    software="0" * 16,
    device="a processor",
    precision=Precision.FP32,
    processes=1,
    nodes=1,
    threads=1,
    dataset={"train": {"fingerprint": "1" * 64}, "val": {"fingerprint": "2" * 64}},
    attempts=1,
    steps=3,
    wall_seconds=1.0,
    cpu_seconds=1.0,
)


def make_record(variant: Variant, *, seed: int, top1: float, scale: Scale = Scale.MINI) -> Record:
    recipe = variant.at(scale)
    return Record(
        schema=record.SCHEMA,
        kind=Kind.TRAINED,
        scale=scale,
        signature=recipe.signature,
        protocol=recipe.protocol_signature,
        seed=seed,
        top1=top1,
        top5=99.0,
        class_accuracy=top1,
        videos=4,
        broken=0,
        params=1000,
        flops=10**6,
        recipe=to_dict(recipe),
        provenance=PROVENANCE,
    )


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("VSWIN_RESULTS", str(tmp_path / "results"))


def finished_run(variant: Variant, *, seed: int, top1: float, scale: Scale = Scale.MINI) -> RunDirectory:
    result = make_record(variant, seed=seed, top1=top1, scale=scale)
    run = RunDirectory(scale, result.signature, seed)
    Ownership(run)
    with Journal(run.journal) as journal:
        for step in (1, 2, 3):
            journal.write(step, {"train/loss": 1 / step})
        journal.write(4, {"test/2x1/top1": top1})
    scores = np.random.default_rng(seed).dirichlet(np.ones(6), size=4).astype(np.float32)
    target = run.result(result.protocol)
    target.parent.mkdir()
    np.savez_compressed(
        target.with_suffix(".npz"), scores=scores, labels=np.array([0, 1, 2, 3]), broken=np.zeros(4, dtype=bool)
    )
    write_text(target, record.dump(result))
    return run


def test_collecting_twice_writes_once(tmp_path: Path) -> None:
    runs = [finished_run(find_variant("table4/joint"), seed=seed, top1=80.0 + seed) for seed in range(2)]
    files = list(collect.collect(runs))
    stamps = [(path.stat().st_mtime_ns, path.read_bytes()) for path in files]
    assert [path.stat().st_mtime_ns for path in collect.collect(runs)] == [stamp for stamp, _ in stamps]
    assert [item.top1 for item in collect.load_records(Scale.MINI)] == [80.0, 81.0]
    assert sorted(path.suffix for path in files[0].parent.iterdir()) == [".json", ".json", ".npz", ".npz"]
    files[0].with_suffix(".npz").unlink()
    list(collect.collect(runs))
    assert files[0].with_suffix(".npz").exists()


def test_details_hold_the_five_best_classes_and_the_curve() -> None:
    run = finished_run(find_variant("table4/joint"), seed=0, top1=80.0)
    [path] = collect.collect([run])
    details = record.load_details(path)
    with np.load(run.results()[0].with_suffix(".npz")) as archive:
        best = archive["scores"].argmax(axis=1)
    assert details.classes.shape == details.scores.shape == (4, 5)
    np.testing.assert_array_equal(details.classes[:, 0], best)
    assert (np.diff(details.scores.astype(np.float32), axis=1) <= 0).all()
    assert list(details.curves) == ["train/loss"]
    np.testing.assert_array_equal(details.curves["train/loss"].steps, [1, 2, 3])
    np.testing.assert_allclose(details.curves["train/loss"].values, [1, 1 / 2, 1 / 3], rtol=1e-6)


def test_right_is_what_top1_counts(tmp_path: Path) -> None:
    """Also where scores tie, are no number, or the video could not be read."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (200, 5)).astype(np.float32)
    scores[:5] = np.nan
    scores[5:10, 2] = np.nan
    predictions = Predictions(
        videos=np.arange(200), scores=scores, labels=rng.integers(0, 5, 200), broken=rng.random(200) < 0.1
    )
    np.savez(tmp_path / "test.npz", **vars(predictions))
    details = collect.details(tmp_path / "test.npz", journal_of=None)
    assert 100 * details.right.mean() == predictions.top(1)
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
    stray = collect.records_folder(Scale.PAPER) / path.name
    write_text(stray, path.read_text())
    with pytest.raises(RecordError, match="a record of scale mini: it must not lie among those of paper"):
        collect.load_records(Scale.PAPER)
    other = RunDirectory(Scale.PAPER, run.signature, 0)
    other.path.parent.mkdir(parents=True)
    run.path.rename(other.path)
    with pytest.raises(RecordError, match="a record of scale mini among runs of scale paper"):
        list(collect.collect([other]))


def test_what_was_made_on_other_videos_or_of_other_weights_has_a_name_of_its_own() -> None:
    trained = make_record(find_variant("table4/joint"), seed=0, top1=80.0)
    others = {**PROVENANCE.dataset, "val": {"fingerprint": "3" * 64}}
    weights = [dataclasses.replace(PROVENANCE, checkpoint=Checkpoint(file="a.pth", sha256=d * 64)) for d in "ab"]
    published = [
        dataclasses.replace(trained, kind=Kind.PUBLISHED_WEIGHTS, seed=None, provenance=item) for item in weights
    ]
    every = [trained, *published]
    every += [
        dataclasses.replace(item, provenance=dataclasses.replace(item.provenance, dataset=others)) for item in every
    ]
    assert len({item.name for item in every}) == 6


def test_unfinished_runs_leave_no_records() -> None:
    run = finished_run(find_variant("table4/joint"), seed=0, top1=80.0)
    [result] = run.results()
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
    with pytest.raises(RecordError, match=r"record\.json"):
        record.load(path)


def test_record_round_trip(tmp_path: Path) -> None:
    original = make_record(find_variant("table4/split"), seed=3, top1=76.5)
    write_text(tmp_path / "record.json", record.dump(original))
    assert record.load(tmp_path / "record.json") == original


def test_summaries() -> None:
    assert summarise([]) is None
    assert summarise([80.0]) == Summary(1, 80.0, None)
    summary = summarise([1.0, 2.0, 4.0])
    assert summary is not None
    assert (summary.n, summary.mean) == (3, pytest.approx(7 / 3))
    assert summary.deviation == pytest.approx(((16 / 9 + 1 / 9 + 25 / 9) / 2) ** 0.5)


def table4_records() -> list[Record]:
    return [
        make_record(find_variant("table4/joint"), seed=0, top1=90.0),
        make_record(find_variant("table4/joint"), seed=1, top1=92.0),
        make_record(find_variant("table4/split"), seed=0, top1=50.0),
    ]


def test_cells_show_ours_beside_the_papers() -> None:
    frame = tables.cells(find_table("table4"), Scale.MINI, table4_records())
    assert frame["top-1, ours (mini)"].tolist() == ["91.0 ± 1.4", "50.0", "-"]
    assert frame["seeds"].tolist() == ["2", "1", "0"]
    assert frame["top-1, paper"].tolist() == ["78.8", "76.4", "78.5"]
    assert frame["GFLOPs, paper"].tolist() == ["88", "83", "95"]
    assert frame["param (M), paper"].tolist() == ["28.2", "42.0", "36.5"]


def test_a_shared_baseline_shows_in_every_table_that_has_it() -> None:
    frame = tables.cells(find_table("table6"), Scale.MINI, table4_records())
    assert frame["top-1, ours (mini)"].tolist() == ["91.0 ± 1.4", "-", "-"]
    assert "GFLOPs, paper" not in frame.columns


def test_what_the_paper_only_reports_has_dashes_in_our_columns() -> None:
    swin = make_record(find_variant("table1/swin-t"), seed=0, top1=78.0, scale=Scale.PAPER)
    frame = tables.cells(find_table("table1"), Scale.PAPER, [swin]).set_index("")
    assert frame.loc["I3D"].tolist() == ["others", "ImageNet-1K", "-", "-", "-", "-", "72.1", "90.3", "108", "25.0"]
    assert frame.loc["Swin-T", "top-1, ours (paper)"] == "78.0"
    assert frame.loc["ViT-B-VTN", "param (M), paper"] == "11.04"
    assert frame.loc["CorrNet-101", ["top-5, paper", "param (M), paper"]].tolist() == ["-", "-"]
    assert frame["views, paper"].tolist()[-2:] == ["4x3", "10x5"]


def test_two_protocols_of_one_run_stand_in_their_own_rows() -> None:
    first, second = (
        make_record(find_variant(f"table1/swin-l-384-{views}"), seed=0, top1=top1, scale=Scale.PAPER)
        for views, top1 in (("4x3", 84.0), ("10x5", 85.0))
    )
    assert first.signature == second.signature
    frame = tables.cells(find_table("table1"), Scale.PAPER, [first, second])
    assert frame["top-1, ours (paper)"].tolist()[-2:] == ["84.0", "85.0"]


def test_blocks_are_a_column_where_there_are_several() -> None:
    frame = tables.cells(find_table("table5"), Scale.MINI, table4_records())
    assert frame["block"].tolist() == ["temporally global"] * 3 + ["window size"] * 3
    assert frame["top-1, ours (mini)"].tolist() == ["-", "-", "-", "-", "91.0 ± 1.4", "-"]
    assert "block" not in tables.cells(find_table("table4"), Scale.MINI, []).columns


def test_a_table_shows_only_the_blocks_of_its_scale() -> None:
    assert set(tables.cells(find_table("deviations"), Scale.MINI, [])["block"]) == {"Swin-T, K400"}
    assert len(set(tables.cells(find_table("deviations"), Scale.PAPER, [])["block"])) == 4


def test_what_the_paper_contradicts_itself_in_is_printed_under_the_table() -> None:
    assert "82.6 / 95.7 in table 7" in tables.to_markdown(find_table("table1"), Scale.PAPER, [])
    assert "82.7 / 95.5 in table 1" in tables.to_html(find_table("table7"), Scale.PAPER, [])


def test_scales_and_protocols_never_share_a_column() -> None:
    [first, *_] = table4_records()
    other_protocol = dataclasses.replace(first, protocol="ffffff")
    paper = tables.cells(find_table("table4"), Scale.PAPER, [*table4_records(), other_protocol])
    assert paper["top-1, ours (paper)"].tolist() == paper["top-5, ours (paper)"].tolist() == ["-", "-", "-"]
    assert tables.measured(find_variant("table4/joint"), Scale.MINI, [other_protocol]) == []


def test_records_of_different_videos_are_never_averaged() -> None:
    first, second, _ = table4_records()
    other = dataclasses.replace(
        PROVENANCE, dataset={"train": {"fingerprint": "3" * 64}, "val": {"fingerprint": "2" * 64}}
    )
    with pytest.raises(RecordError, match="table4/joint were made on different videos"):
        tables.cells(find_table("table4"), Scale.MINI, [first, dataclasses.replace(second, provenance=other)])


def test_the_paper_columns_are_marked_as_another_scale() -> None:
    text = tables.to_markdown(find_table("table4"), Scale.MINI, table4_records())
    assert "another scale, not comparable number by number" in text
    assert "another scale" not in tables.to_markdown(find_table("table4"), Scale.PAPER, [])


def test_written_tables_are_stable(tmp_path: Path) -> None:
    chosen = [find_table("table4"), find_table("table6")]
    files = tables.write(chosen, Scale.MINI, table4_records())
    before = {path: path.read_bytes() for path in files}
    assert {path.suffix for path in files} == {".md", ".csv", ".html"}
    assert len(files) == 6
    tables.write(chosen, Scale.MINI, reversed(table4_records()))
    assert {path: path.read_bytes() for path in files} == before


def test_frames_for_plots() -> None:
    for seed, top1 in enumerate((90.0, 92.0)):
        list(collect.collect([finished_run(find_variant("table4/joint"), seed=seed, top1=top1)]))
    records = collect.load_records(Scale.MINI)
    chosen = [find_table("table4"), find_table("table6")]
    points = tables.seeds(chosen, Scale.MINI, records)
    assert points[["table", "row", "seed", "top1"]].to_numpy().tolist() == [
        ["table4", "joint", 0, 90.0],
        ["table4", "joint", 1, 92.0],
        ["table6", "w. 3D shifting", 0, 90.0],
        ["table6", "w. 3D shifting", 1, 92.0],
    ]
    loss = tables.curves(chosen, Scale.MINI, records, smooth=2)
    assert loss["loss"].tolist()[:3] == pytest.approx([1, 3 / 4, 5 / 12])
    assert len(loss) == 12
    assert tables.curves(chosen, Scale.PAPER, records, smooth=2).empty
