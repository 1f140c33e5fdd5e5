"""Records prove themselves: whatever is done to a file, no number changes without a word."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.cli.main import app
from experiments.launch.plan import Action, plan_now
from experiments.registry.catalogue import find_experiment, find_table, find_variant
from experiments.registry.recipe import Scale
from experiments.results.comparison import Results, compare
from experiments.results.record import dump, load
from experiments.results.recorded import SCHEMA
from experiments.results.verify import verify
from experiments.tools.bind_records import bind
from tests.support.damages import DAMAGES, empty, flipped, half, missing
from tests.support.places import CLONE

ROWS = ("table4/joint", "table4/split")


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Committed records of two rows of table 4, with digests, in a folder of their own."""
    monkeypatch.setenv("VSWIN_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / "runs"))
    folder = tmp_path / "results" / "mini" / "runs"
    folder.mkdir(parents=True)
    for row in ROWS:
        for path in (CLONE / "results" / "mini" / "runs").glob(f"{find_variant(row).at(Scale.MINI).signature}-*"):
            shutil.copy(path, folder)
    bind(Scale.MINI)
    assert len(verify(Scale.MINI).records) == 10
    return folder


def files_of(folder: Path, row: str) -> list[Path]:
    """JSON files of ``row``, by seed."""
    return sorted(folder.glob(f"{find_variant(row).at(Scale.MINI).signature}-*.json"))


def foreign(path: Path) -> None:
    other = next(file for file in files_of(path.parent, ROWS[1]) if file.stem != path.stem)
    shutil.copy(other.with_suffix(path.suffix), path)


def another_seed(path: Path) -> None:
    other = next(file for file in files_of(path.parent, ROWS[0]) if file.stem != path.stem)
    shutil.copy(other.with_suffix(path.suffix), path)


@pytest.mark.parametrize("suffix", [".json", ".npz"])
@pytest.mark.parametrize("damage", [*DAMAGES, foreign, another_seed], ids=lambda f: f.__name__)
def test_a_damaged_file_is_named_and_its_record_left_out(
    records: Path, damage: Callable[[Path], None], suffix: str
) -> None:
    row = files_of(records, ROWS[0])
    damaged = row[2].with_suffix(suffix)
    before = {record.seed: record.top1 for record in Results.load(Scale.MINI).trained(find_variant(ROWS[0]))}
    damage(damaged)
    results = Results.load(Scale.MINI)
    kept = {record.seed: record.top1 for record in results.trained(find_variant(ROWS[0]))}
    assert kept == {seed: top1 for seed, top1 in before.items() if seed != 2}
    if damage is not missing or suffix == ".npz":
        assert any(found.file.stem == damaged.stem for found in results.damages)
    else:
        # its arrays are left alone in the folder
        assert [found.file for found in results.damages] == [damaged.with_suffix(".npz")]
    for command in (["verify"], ["tables", "table4"], ["tables", "table4", "--check"], ["verify", "--json"]):
        answer = CliRunner().invoke(app, command)
        assert answer.exit_code == 1
        assert isinstance(answer.exception, SystemExit)
        assert damaged.stem in answer.output


def test_a_copy_is_no_further_seed(records: Path) -> None:
    [first, *_] = files_of(records, ROWS[0])
    before = [row.top1 for row in compare(find_table("table4"), Results.load(Scale.MINI))]
    copy = first.with_name(f"{first.stem} (1).json")
    shutil.copy(first, copy)
    shutil.copy(first.with_suffix(".npz"), copy.with_suffix(".npz"))
    results = Results.load(Scale.MINI)
    assert [row.top1 for row in compare(find_table("table4"), results)] == before
    assert [found.file for found in results.damages] == [copy]


@pytest.mark.parametrize("number", [250, -1, float("nan"), float("inf"), 71.0])
def test_an_edited_accuracy_is_noticed_with_and_without_digests(records: Path, number: float) -> None:
    path = files_of(records, ROWS[0])[0]
    record = load(path)
    # as somebody would who knows of the digest: it is computed anew
    path.write_text(dump(replace(record, top1=number)))
    assert [found.file for found in verify(Scale.MINI).damages] == [path]
    path.write_text(dump(replace(record, schema=3, details=None, top1=number)))
    assert [found.file for found in verify(Scale.MINI).damages] == [path]


@pytest.mark.parametrize("field", ["flops", "params", "provenance"])
def test_any_edit_is_noticed_by_the_digest(records: Path, field: str) -> None:
    path = files_of(records, ROWS[0])[0]
    content = json.loads(path.read_text())
    if field == "provenance":
        content[field]["torch"] = "2.14.0"
    else:
        content[field] += 1
    path.write_text(json.dumps(content))
    [damage] = verify(Scale.MINI).damages
    assert damage.file == path
    assert "changed after it was written" in damage.what


def test_another_recipe_under_a_signature_is_noticed(records: Path) -> None:
    path = files_of(records, ROWS[0])[0]
    record = load(path)
    recipe = {**record.recipe, "optim": {**record.recipe["optim"], "lr": 1.0}}
    path.write_text(dump(replace(record, recipe=recipe)))
    [damage] = verify(Scale.MINI).damages
    assert "that of its recipe is" in damage.what


def test_seeds_from_different_weights_are_not_averaged(records: Path) -> None:
    path = files_of(records, ROWS[0])[3]
    record = load(path)
    assert record.provenance.started_from is not None
    other = replace(record.provenance.started_from, sha256="0" * 64)
    path.write_text(dump(replace(record, provenance=replace(record.provenance, started_from=other))))
    results = Results.load(Scale.MINI)
    assert results.trained(find_variant(ROWS[0])) == []
    assert len(results.trained(find_variant(ROWS[1]))) == 5
    [damage] = results.damages
    assert "started from different weights" in damage.what
    assert record.name in damage.what


def start_from(path: Path, *, sha256: str | None = None, tensors: str | None) -> None:
    """As if the run had started from other weights, or from a file that was identified in another way."""
    record = load(path)
    before = record.provenance.started_from
    assert before is not None
    started = replace(before, sha256=sha256 or before.sha256, tensors=tensors)
    path.write_text(dump(replace(record, provenance=replace(record.provenance, started_from=started))))


def test_equal_weights_are_equal_whatever_file_they_lie_in(records: Path) -> None:
    first, second, third, *_ = files_of(records, ROWS[0])
    # the same file as those of earlier versions, and the same tensors in two other files
    start_from(first, tensors="a" * 64)
    start_from(second, sha256="2" * 64, tensors="a" * 64)
    start_from(third, sha256="3" * 64, tensors="a" * 64)
    assert verify(Scale.MINI).damages == ()
    start_from(third, sha256="3" * 64, tensors="b" * 64)
    [damage] = verify(Scale.MINI).damages
    assert "started from different weights" in damage.what
    assert load(third).name in damage.what


def test_digests_of_different_kinds_are_not_compared(records: Path) -> None:
    path = files_of(records, ROWS[0])[3]
    start_from(path, sha256="0" * 64, tensors="a" * 64)
    [damage] = verify(Scale.MINI).damages
    assert "started from weights that cannot be compared (some records have a digest of the file only)" in damage.what
    assert load(path).name in damage.what


def test_seeds_of_other_software_are_remarked(records: Path) -> None:
    path = files_of(records, ROWS[0])[3]
    record = load(path)
    path.write_text(dump(replace(record, provenance=replace(record.provenance, torch="2.14.0+cpu"))))
    verified = verify(Scale.MINI)
    assert len(verified.records) == 10
    [remark] = verified.remarks
    assert "differ in torch: 2.13.0+cpu, 2.14.0+cpu" in remark


@pytest.mark.parametrize("suffix", [".json", ".npz"])
@pytest.mark.parametrize("damage", [empty, half, flipped, missing], ids=lambda f: f.__name__)
def test_a_launch_makes_a_damaged_record_again(records: Path, damage: Callable[[Path], None], suffix: str) -> None:
    experiment = find_experiment(Scale.MINI, find_variant(ROWS[0]))
    done = plan_now([experiment], seeds=range(5))
    assert {step.action for step in done if step.run.experiment == experiment} == {Action.DONE}
    damage(files_of(records, ROWS[0])[2].with_suffix(suffix))
    actions = {
        step.run.seed: step.action
        for step in plan_now([experiment], seeds=range(5))
        if step.run.experiment == experiment
    }
    assert {seed for seed, action in actions.items() if action is Action.DONE} == {0, 1, 3, 4}


def test_records_of_schema_3_are_read_and_can_be_bound(records: Path) -> None:
    paths = files_of(records, ROWS[0])
    for path in paths:
        path.write_text(dump(replace(load(path), schema=3, details=None)))
    assert verify(Scale.MINI).unbound == 5
    assert bind(Scale.MINI) == 5
    assert verify(Scale.MINI).unbound == 0
    assert {load(path).schema for path in paths} == {SCHEMA}


def test_what_is_committed_proves_itself() -> None:
    for scale in (Scale.MINI, Scale.PAPER):
        assert verify(scale, results=CLONE / "results").damages == ()
