"""What MLflow is told of runs: everything, each thing once, whoever tells it and however often."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import folders
from experiments.job.body import _following
from experiments.job.system_metrics import SAMPLE_SECONDS, SystemMetrics
from experiments.launch.executors import slurm_parameters
from experiments.launch.profiles import Profile
from experiments.registry.catalogue import find_table, tables_at
from experiments.registry.recipe import Scale, flatten
from experiments.runs import journal
from experiments.runs.attempts import Ownership
from experiments.runs.journal import Journal, JournalError
from experiments.runs.run import Run
from experiments.tracking.card import _cut, card
from experiments.tracking.confusion import confusion, draw
from experiments.tracking.follow import Follower
from experiments.tracking.groups import color_of, group_of
from experiments.tracking.mirror import Mirror, saved_views
from experiments.tracking.told import Told, is_behind
from tests.support.made_up_runs import CLASSES, copy_of, experiment_of, extend, make_up_run
from tests.support.mlflow_points import client, journal_points, mlflow_points, mlflow_run
from tests.support.patience import eventually
from tests.support.places import CLONE

VARIANT = "table4/split"


@pytest.fixture(autouse=True)
def runs(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs folder with a store that has its tables and nothing in them."""
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "runs").mkdir()
    shutil.copy(empty_store, tmp_path / "runs" / "mlflow.db")
    return tmp_path / "runs"


def push(run: Run) -> None:
    Mirror().push(run)


def artifacts(run: Run) -> set[str]:
    found = mlflow_run(run)
    listed = client().list_artifacts(found.info.run_id)
    inside = [client().list_artifacts(found.info.run_id, item.path) for item in listed if item.is_dir]
    return {item.path for item in [*listed, *(item for items in inside for item in items)] if not item.is_dir}


def test_a_run_is_described_in_the_papers_words(runs: Path) -> None:
    run = make_up_run(VARIANT, seed=3)
    push(run)
    found = mlflow_run(run)
    assert found.info.run_name == "split, seed 3 (table4)"
    assert found.info.status == "FINISHED"
    tags = found.data.tags
    assert tags["table4"] == group_of("table4", [VARIANT], Scale.TINY)
    assert tags["mlflow.runColor"] == color_of("table4", tags["table4"])
    assert tags["table4.differs"] == "model.attention: joint -> split"
    assert (tags["commit"], tags["dirty"]) == ("0123456789abcdef", "yes")
    assert find_table("table4").question in tags["mlflow.note.content"]
    assert "the paper reports top-1 76.4, top-5 92.1, 83 GFLOPs, 42 M parameters" in tags["mlflow.note.content"]
    expected = {**flatten(experiment_of(VARIANT).recipe), "seed": 3}
    assert {
        name: value if isinstance(expected[name], str) else json.loads(value)
        for name, value in found.data.params.items()
    } == expected
    datasets = [(item.dataset.name, item.dataset.digest, item.tags[0].value) for item in found.inputs.dataset_inputs]
    name = experiment_of(VARIANT).recipe.data.dataset
    assert sorted(datasets) == [
        (f"{name}, test", f"{'test':0<36}", "test"),
        (f"{name}, train", f"{'train':0<36}", "training"),
        (f"{name}, val", f"{'val':0<36}", "validation"),
    ]
    [protocol] = experiment_of(VARIANT).protocols
    test = {f"tests/{protocol}.json", f"tests/{protocol}.npz", f"tests/confusion-2x1-{protocol}.png"}
    assert artifacts(run) == test | {
        "code.diff", "code.json", "datasets.json", "description.md", "environment.txt", "journal.jsonl", "recipe.json"
    }  # fmt: skip


def test_a_baseline_of_several_tables_has_a_tag_for_each(runs: Path) -> None:
    run = make_up_run("table4/joint")
    push(run)
    tags = mlflow_run(run).data.tags
    for variant in experiment_of("table4/joint").variants:
        assert tags[variant.table].endswith(variant.title)
    assert tags["table4.differs"] == "baseline"


@pytest.mark.parametrize("scale", Scale)
def test_everything_said_fits_into_mlflow(scale: Scale) -> None:
    from experiments.registry.catalogue import experiments

    for experiment in experiments(scale):
        said = card(Run(experiment, 0))
        assert said.tags["mlflow.note.content"] in (said.note, said.tags["mlflow.note.content"])
        assert all(len(value) <= 8000 for value in said.tags.values())
        assert all(len(value) <= 6000 for value in said.parameters.values())
        for variant in experiment.variants:
            assert variant.id in said.note
    for table in tables_at(scale):
        assert len(saved_views.tag(table, scale)[1]) <= 20000


def test_a_long_parameter_is_told_whole_in_pieces() -> None:
    from experiments.tracking.card import _parameters

    long = [*range(3000)]
    told = dict(_parameters({"short": 1, "long": long}))
    assert told.pop("short") == "1"
    assert list(told) == ["long/1", "long/2", "long/3"]
    assert json.loads("".join(told.values())) == long


@pytest.mark.parametrize("name", ["a b", "50 %", "50%20", "what?", "#1", "[x]", "é"])
def test_folders_may_have_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / name / "runs"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = make_up_run("table4/split")
    Mirror().round([run])
    assert mlflow_points(run) == journal_points(run)
    assert (tmp_path / name / "runs" / "mlflow.db").stat().st_size > 0
    shown = Path(client().download_artifacts(mlflow_run(run).info.run_id, "journal.jsonl", str(tmp_path)))
    assert shown.read_bytes() == run.directory.journal.read_bytes()
    # for an address with an escape MLflow makes an empty folder of that name beside it
    strays = {path.name for path in tmp_path.iterdir() if path.is_dir()} - {name, "runs"}
    assert strays == ({quote(name, safe=" ")} if set(name) & set("%?#") else set())


def test_telling_again_changes_nothing(runs: Path) -> None:
    run = make_up_run(VARIANT, steps=400)
    push(run)
    first = mlflow_run(run)
    assert mlflow_points(run) == journal_points(run)
    for _ in range(2):
        # as if nothing had ever been told
        run.directory.tracking.unlink()
        push(run)
    again = mlflow_run(run)
    assert again.info.run_id == first.info.run_id
    assert mlflow_points(run) == journal_points(run)
    assert len(again.inputs.dataset_inputs) == 3
    assert again.data.params == first.data.params


def test_a_mirror_killed_anywhere_leaves_nothing_twice_and_nothing_out(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    class Killed(BaseException):
        pass

    def die() -> None:
        nonlocal calls
        calls -= 1
        if calls == 0:
            raise Killed

    run = make_up_run(VARIANT, steps=350)
    for survived in range(1, 30):
        calls = survived
        try:
            Mirror(on_call=die).push(run)
        except Killed:
            continue
        break
    assert survived > 10
    assert not is_behind(run)
    assert mlflow_points(run) == journal_points(run)


def test_what_is_new_follows(runs: Path) -> None:
    run = make_up_run(VARIANT, done=False)
    push(run)
    assert mlflow_run(run).info.status == "SCHEDULED"
    extend(run, steps=7)
    assert is_behind(run)
    push(run)
    assert not is_behind(run)
    assert mlflow_points(run) == journal_points(run)


def test_two_machines_at_once_make_one_run(runs: Path, tmp_path: Path) -> None:
    run = make_up_run(VARIANT, steps=200)
    script = (
        "import sys; from tests.support.made_up_runs import *; from experiments.tracking.mirror import Mirror; "
        f"r = Run(experiment_of('{VARIANT}'), 0); m = Mirror(); "
        "m.experiment_id(Scale.TINY); print('ready', flush=True); sys.stdin.readline(); "
        "[m.round([r]) for _ in range(5)]"
    )
    processes = []
    for number in range(3):
        folder = copy_of(runs, tmp_path / f"machine-{number}")
        environment = {
            **os.environ,
            "VSWIN_RUNS": str(folder),
            "MLFLOW_TRACKING_URI": f"sqlite:///{runs}/mlflow.db",
            "PYTHONPATH": os.pathsep.join([str(CLONE), os.environ.get("PYTHONPATH", "")]),
        }
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", script],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert mlflow_points(run) == journal_points(run)


def test_a_training_done_over_is_another_run(runs: Path) -> None:
    run = make_up_run(VARIANT, steps=3)
    push(run)
    old = mlflow_run(run)
    # moved aside, as with --mode force
    run.directory.path.rename(run.directory.path.with_name("before"))
    run = make_up_run(VARIANT, steps=4)
    push(run)
    assert mlflow_points(run) == journal_points(run)
    aside = client().get_run(old.info.run_id)
    assert "table4" not in aside.data.tags
    assert aside.data.tags["superseded"] == run.signature


def test_a_training_done_over_stands_whatever_the_clocks_say(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = make_up_run(VARIANT)
    push(old)
    before = mlflow_run(old)
    old.directory.set_aside()
    now = time.time()
    with monkeypatch.context() as node:
        node.setattr(time, "time", lambda: now - 3600)
        run = make_up_run(VARIANT)
    push(run)
    assert mlflow_run(run).info.run_id != before.info.run_id
    assert mlflow_points(run) == journal_points(run)
    assert client().get_run(before.info.run_id).data.tags["superseded"] == run.signature


def test_a_training_done_over_is_told_of_before_its_first_step(runs: Path) -> None:
    old = make_up_run(VARIANT, steps=3)
    push(old)
    before = mlflow_run(old)
    old.directory.set_aside()
    run, mirror = make_up_run(VARIANT, steps=0, done=False), Mirror()
    mirror.push(run)
    # until then the one before stands in the tables
    assert client().get_run(before.info.run_id).data.tags["table4"] == group_of("table4", [VARIANT], Scale.TINY)
    extend(run, steps=4)
    mirror.push(run)
    assert mlflow_run(run).info.run_id != before.info.run_id
    assert mlflow_points(run) == journal_points(run)


def test_of_two_trainings_in_two_folders_the_later_one_stands(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{runs}/mlflow.db")
    for name in ("mine", "a colleague's", "mine", "a colleague's"):
        monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / name))
        run = Run(experiment_of(VARIANT), 0)
        if run.directory.path.exists():
            extend(run, steps=1)
        else:
            make_up_run(VARIANT)
        pushed = Mirror().round([run])
        if name == "mine" and (tmp_path / "a colleague's").exists():
            assert "began later" in pushed.failures["table4/split seed 0"]
        else:
            assert not pushed.failures
    assert mlflow_points(run) == journal_points(run)
    experiment = client().get_experiment_by_name("vswin-tiny")
    assert experiment is not None
    assert len(client().search_runs([experiment.experiment_id])) == 2


def test_lines_that_a_power_failure_took_are_not_in_mlflow(runs: Path) -> None:
    run = make_up_run(VARIANT, steps=9, done=False)
    push(run)
    lines = run.directory.journal.read_bytes().splitlines(keepends=True)
    run.directory.journal.write_bytes(b"".join(lines[:6]))
    # computed again, later, and further than before
    extend(run, steps=9)
    push(run)
    assert mlflow_points(run) == journal_points(run)


def test_a_journal_that_was_cleaned_up_stays_in_mlflow(runs: Path) -> None:
    run = make_up_run(VARIANT)
    push(run)
    before = mlflow_points(run)
    run.directory.journal.unlink()
    push(run)
    assert mlflow_points(run) == before


def test_a_torn_last_line_is_nothing_that_is_missing(runs: Path) -> None:
    run = make_up_run(VARIANT)
    with run.directory.journal.open("ab") as file:
        file.write(b'{"step": 6, "ti')
    push(run)
    assert not is_behind(run)
    assert mlflow_points(run) == journal_points(run)


def test_what_was_deleted_in_the_ui_comes_back(runs: Path) -> None:
    run = make_up_run(VARIANT)
    push(run)
    client().delete_run(mlflow_run(run).info.run_id)
    push(run)
    assert mlflow_points(run) == journal_points(run)
    client().delete_experiment(mlflow_run(run).info.experiment_id)
    push(run)
    assert mlflow_points(run) == journal_points(run)


def test_a_run_whose_process_has_failed_and_reports_it_is_failed(runs: Path) -> None:
    run = make_up_run(VARIANT, done=False)
    # of this process, which goes on
    owner = Ownership(run.directory)
    push(run)
    assert mlflow_run(run).info.status == "RUNNING"
    owner.stopped()
    push(run)
    assert mlflow_run(run).info.status == "KILLED"
    Ownership(run.directory)
    run.directory.error.write_text("ValueError: no")
    push(run)
    assert mlflow_run(run).info.status == "FAILED"


def test_a_user_without_a_name_is_no_hindrance(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    # as in a container that is started under a number which its system does not know
    source = (
        "import os, sys; from tests.support.made_up_runs import *; "
        "from experiments.tracking.mirror import _user; os.setuid(54321); print(_user())"
    )
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CLONE), *sys.path])}
    answer = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout == "54321\n"


def test_no_password_is_kept_or_shown(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # nobody answers there
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:a-secret@127.0.0.1:9")
    run = make_up_run(VARIANT)
    pushed = Mirror().round([run])
    assert "http://127.0.0.1:9" in str(pushed.failures)
    assert "a-secret" not in str(pushed.failures)
    # a job says what it could not tell
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    with _following([("tiny", VARIANT, run.signature, run.seed)]):
        pass
    said = capfd.readouterr().out
    assert "1 of 1 runs are not all there (MlflowException: API request to http://127.0.0.1:9/" in said
    assert "a-secret" not in said
    for path in runs.rglob("*"):
        assert path.is_dir() or b"a-secret" not in path.read_bytes(), path
    script = slurm_parameters(Profile(time="1", cpus=1), name="n", comment="", dependency="", code=tmp_path)
    assert "a-secret" not in str(script)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    script = slurm_parameters(Profile(time="1", cpus=1), name="n", comment="", dependency="", code=tmp_path)
    assert "export MLFLOW_TRACKING_URI=http://127.0.0.1:9" in script["setup"]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://ada:p@ss@host:5000/x", "http://host:5000/x"),
        ("postgresql://ada:secret@host/db", "postgresql://host/db"),
        ("postgresql://ada:sec/ret@host/db", "postgresql://host/db"),
        ("http://token@host:5000", "http://host:5000"),
        ("http://127.0.0.1:5000/?token=secret#/x", "http://127.0.0.1:5000/?token=..."),
        (
            "postgresql://host/db?user=ada&password=secret&sslmode=require",
            "postgresql://host/db?user=ada&password=...&sslmode=require",
        ),
        ("sqlite:////home/ada@home/mlflow.db", "sqlite:////home/ada@home/mlflow.db"),
        ("http://host:5000", "http://host:5000"),
    ],
)
def test_addresses_are_shown_without_credentials(address: str, shown: str) -> None:
    assert folders.without_credentials(f"to {address} or") == f"to {shown} or"


def test_what_slurm_tells_a_job_does_not_end_its_follower(runs: Path) -> None:
    run = make_up_run(VARIANT, done=False)
    with Follower(Scale.TINY) as follower:
        follower.add(run)
        eventually("the store has everything", lambda: not is_behind(run))
        assert follower._process
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
            os.killpg(follower._process.pid, number)
        extend(run, steps=3)
        assert follower.finish() == ""
    assert mlflow_points(run) == journal_points(run)


def test_a_follower_that_cannot_be_started_is_no_reason_not_to_train(runs: Path) -> None:
    run = make_up_run(VARIANT)
    (runs / "tiny" / "mlflow-follower.log").mkdir()
    with Follower(Scale.TINY) as follower:
        follower.add(run)
    assert "could not be started" in follower.finish()


def test_a_row_that_a_table_lost_is_not_shown_there(runs: Path) -> None:
    run = make_up_run(VARIANT)
    push(run)
    found = mlflow_run(run).info.run_id
    # as if the run had been a row of table 6, too
    for name in ("table6", "table6.differs", "my-note"):
        client().set_tag(found, name, "full")
    # the description changes with the code
    run.directory.code.write_text('{"name": "another", "dirty": false}')
    push(run)
    tags = mlflow_run(run).data.tags
    assert not tags.keys() & {"table6", "table6.differs"}
    assert (tags["table4"], tags["my-note"]) == (group_of("table4", [VARIANT], Scale.TINY), "full")


def test_a_long_tag_is_cut() -> None:
    for text in ("x" * 9000, "\n".join(["a line"] * 2000)):
        assert len(_cut(text)) <= 8000
        assert _cut(text).endswith("and more, in description.md")


@given(st.lists(st.text("{}ä, ", max_size=30000)), st.text("ab", max_size=40000))
@settings(max_examples=30)
def test_the_end_of_a_journal_is_after_its_last_whole_line(lines: list[str], torn: str) -> None:
    whole = "".join(f"{line}\n" for line in lines).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        path.write_bytes(whole + torn.encode())
        assert journal.end(path) == len(whole)


def test_a_run_left_running_by_a_kill_is_ended(runs: Path) -> None:
    run = make_up_run(VARIANT, done=False)
    push(run)
    client().update_run(mlflow_run(run).info.run_id, status="RUNNING")
    # an attempt whose process is gone
    source = (
        "from tests.support.made_up_runs import *; from experiments.runs.attempts import Ownership; "
        f"Ownership(Run(experiment_of('{VARIANT}'), 0).directory)"
    )
    subprocess.run([sys.executable, "-c", source], check=True, cwd=CLONE)
    pushed = Mirror().round([run])
    assert pushed.repaired == {"table4/split seed 0": "RUNNING -> KILLED"}
    assert mlflow_run(run).info.status == "KILLED"


def test_one_bad_run_does_not_keep_the_others_out(runs: Path) -> None:
    bad, good = make_up_run(VARIANT, seed=0), make_up_run(VARIANT, seed=1)
    bad.directory.datasets.write_text("not JSON")
    pushed = Mirror().round([bad, good])
    assert list(pushed.failures) == ["table4/split seed 0"]
    assert mlflow_points(good) == journal_points(good)


def test_a_note_that_is_damaged_is_made_anew(runs: Path) -> None:
    run = make_up_run(VARIANT)
    push(run)
    run.directory.tracking.write_text('{"uri": ')
    assert Told.read(run) is None
    push(run)
    assert mlflow_points(run) == journal_points(run)


def test_a_view_holds_the_tables_rows_grouped() -> None:
    table = find_table("table5-patches")
    key, value = saved_views.tag(table, Scale.MINI)
    assert key == "mlflow.sharedViewState.table5-patches"
    packed = json.loads(value)["state"].removeprefix("deflate;")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert state["searchFilter"] == "tags.`table5-patches` LIKE '%'"
    assert (state["orderByKey"], state["orderByAsc"]) == ("tags.`table5-patches`", True)
    assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "table5-patches"}]


def test_confusions_are_counted_and_drawn(tmp_path: Path) -> None:
    scores = np.array([[0.9, 0.1, 0], [0.2, 0.3, 0.5], [0.1, 0.1, 0.8], [np.nan, 0, 0]])
    counts = confusion(scores, np.array([0, 1, 2, 0]))
    assert counts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    draw(counts, classes=CLASSES, title="three").savefig(tmp_path / "few.png")
    many = np.diag(np.full(400, 50)) + 1
    draw(many, classes=[f"class {n}" for n in range(400)], title="four hundred").savefig(tmp_path / "many.png")
    assert (tmp_path / "few.png").stat().st_size > 1000


def test_the_machine_is_sampled_now_and_then() -> None:
    now = 100.0
    metrics = SystemMetrics(now=lambda: now)
    first = metrics.due()
    assert 0 <= first["system/cpu_utilization_percentage"] <= 100
    assert first["system/system_memory_usage_megabytes"] > 10
    assert metrics.due() == {}
    now += SAMPLE_SECONDS
    assert metrics.due().keys() == first.keys()


def test_how_busy_the_machine_is_need_not_be_the_same_after_a_resume(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        journal.write(1, {"train/loss": 1.0, "system/cpu_utilization_percentage": 10.0})
    with Journal(tmp_path / "journal") as journal:
        journal.write(1, {"train/loss": 1.0, "system/cpu_utilization_percentage": 99.0})
    with Journal(tmp_path / "journal") as journal, pytest.raises(JournalError):
        journal.write(1, {"train/loss": 2.0, "system/cpu_utilization_percentage": 10.0})
