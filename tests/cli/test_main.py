"""The command line answers wrong use with one sentence and exit code 2, and scripts with JSON."""

import importlib.metadata
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.cli.main import app
from experiments.registry.catalogue import experiments, find_variant, tables, tables_at
from experiments.registry.recipe import Scale
from tests.support.command_line import Vswin, vswin_command
from tests.support.places import CLONE


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["show", "tabel4/split"], "did you mean 'table4/split'"),
        (["run", "table4/spilt"], "did you mean 'table4/split'"),
        (["launch", "table44"], "did you mean 'table4'"),
        (["status", "tabel6"], "did you mean 'table6'"),
        (["tables", "x"], "known: table1, table2"),
        (["launch", "upstream", "--scale", "paper"], "upstream does not exist at scale paper, only at mini and tiny"),
        (
            ["status", "table4", "table1", "--scale", "tiny"],
            "table1 does not exist at scale tiny, only at paper and mini",
        ),
        (["run", "upstream/image-t-small", "--seed", "1"], "has one run, of seed 0, shared by all that starts from it"),
        (["show", "baselines/timesformer-k600", "--scale", "mini"], "timesformer-k600 does not exist at scale mini"),
        (["run", "table1/i3d", "--scale", "paper"], "table1/i3d is a number that the paper reports for others"),
        (["ui", "tabel6"], "did you mean 'table6'"),
        (["launch", "table4", "--on", "locale"], "did you mean 'local'"),
        (["launch", "table4", "--scale", "mimi"], "'paper', 'mini'"),
        (["data", "generate", "moving-digits/tine"], "did you mean 'moving-digits/tiny'"),
        (["launch", "table4", "--seeds", "0"], "Invalid value for '--seeds'"),
        (["launch"], "Missing argument"),
        (["collect", "--scale", "tiny"], "runs at scale tiny leave no records"),
        (["lunch"], "No such command 'lunch'"),
    ],
)
def test_wrong_use_is_exit_code_2_and_names_what_was_meant(arguments: list[str], hint: str, vswin: Vswin) -> None:
    answer = vswin(*arguments, code=2)
    assert hint in re.sub(r"[\s│]+", " ", answer.stderr)
    assert answer.stdout == ""


def test_run_of_what_is_only_recorded_shows_the_record(vswin: Vswin, home: Path) -> None:
    committed = CLONE / "results" / "mini" / "runs"
    split = find_variant("table4/split").at(Scale.MINI)
    [record] = committed.glob(f"{split.signature}-{split.protocol_signature}-*-seed0.json")
    shutil.copytree(committed, home / "results" / "mini" / "runs")
    answer = vswin("run", "table4/split")
    assert f"table4/split seed 0: top-1 {json.loads(record.read_text())['top1']:.1f}," in answer.stdout
    assert "VSWIN_RESULTS=again" in answer.stdout
    assert not (home / "runs" / "mini" / split.signature).exists()


def test_dry_run_starts_nothing_and_needs_no_data(vswin: Vswin, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWIN_DATA", str(home / "nowhere"))
    before = sorted(home.rglob("*"))
    # what is missing makes it fail, as it would a launch
    plan = json.loads(vswin("launch", "table4", "table6", "--seeds", "2", "--dry-run", "--json", code=1).stdout)
    assert [step["action"] for step in plan] == ["SUBMIT", *["BLOCKED"] * 10]
    assert plan[0]["variants"] == ["upstream/image-t-small"]
    assert plan[1]["variants"] == [
        *("table1/swin-t", "table4/joint", "table5/window-8", "table6/full", "table8/inflate", "table9/duplicate"),
        *("deviations/swin-t", "baselines/joint"),
    ]
    assert sorted(home.rglob("*")) == before


def test_missing_and_damaged_data_say_which_file_and_what_to_do(
    vswin: Vswin, home: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = home / "data"
    monkeypatch.setenv("VSWIN_DATA", str(data))
    answer = vswin("launch", "table4", "--scale", "tiny", code=1)
    assert f"{data}/moving-digits/tiny/train.txt" in answer.stderr
    assert "vswin data generate" in answer.stderr

    shutil.copytree(tiny_data, data)
    victim = next((data / "moving-digits" / "tiny" / "train").iterdir())
    victim.unlink()
    answer = vswin("run", "table4/joint", "--scale", "tiny", code=1)
    assert str(victim) in answer.stderr
    assert "vswin data generate" in answer.stderr
    # what it says helps
    vswin("data", "generate", "moving-digits/tiny")
    assert victim.exists()

    # videos of another version would fit, and mean something else
    manifest = data / "moving-digits" / "tiny" / "manifest.json"
    made = json.loads(manifest.read_text())
    made["task"]["style"]["noise"] = 0.2
    manifest.write_text(json.dumps(made))
    answer = vswin("launch", "table4", "--scale", "tiny", code=1)
    assert "made by another version of this code" in answer.stderr
    assert "vswin data generate moving-digits/tiny" in " ".join(answer.stderr.split())
    vswin("data", "generate", "moving-digits/tiny")
    assert json.loads(manifest.read_text())["task"]["style"]["noise"] == 0.1


def test_missing_image_weights_are_named(vswin: Vswin) -> None:
    answer = vswin("launch", "table4", "--scale", "paper", code=1)
    assert "weights/swin_tiny_patch4_window7_224.pth" in answer.stderr
    address = "https://github.com/SwinTransformer/storage/releases/download/v1.0.4"
    answer = vswin("launch", "table3", "--scale", "paper", code=1)
    assert "jx_vit_base_p16_224-80ecf9dd.pth" in answer.stderr
    answer = vswin("run", "table3/swin-b", "--scale", "paper", code=1)
    assert f"put {address}/swin_base_patch244_window1677_kinetics400_22k.pth there" in answer.stderr


def test_json_is_for_scripts(vswin: Vswin) -> None:
    assert list(json.loads(vswin("list", "--json").stdout)) == list(tables())
    shown = json.loads(vswin("show", "table6/none", "--scale", "paper", "--json").stdout)
    assert shown["paper"]["top1"] == 78.1
    assert (shown["cost"]["params"], round(shown["cost"]["flops"] / 1e9)) == (28_158_070, 88)
    assert sum(section["flops"] for section in shown["cost"]["sections"]) == shown["cost"]["flops"]
    assert shown["difference"] == {"model.shift": {"baseline": "full", "here": "none"}}
    found = {item["name"]: item["detail"] for item in json.loads(vswin("doctor", "--json").stdout)}
    assert {"torch", "CUDA", "PyAV", "Slurm", "MLflow", "disk"} <= set(found)
    assert found["data sets"].split(", ")[0] == "moving-digits/tiny"


def test_every_kind_of_row_can_be_shown(home: Path) -> None:
    """In one process; that every recipe builds and what it costs is tested in models/test_cost.py."""
    chosen = [variant for table in tables().values() for variant in table.variants if variant.recipe is None]
    chosen += [find_variant(name) for name in ("table1/swin-t", "deviations/ssv2", "baselines/timesformer")]
    for variant in chosen:
        answer = CliRunner().invoke(app, ["show", variant.id, "--json"])
        assert answer.exit_code == 0, variant.id
        content = json.loads(answer.stdout)
        assert ("signature" in content) is (variant.recipe is not None)
        assert (content["paper"] is None) is (variant.paper is None)


def test_a_reported_row_says_that_there_is_nothing_to_run(vswin: Vswin) -> None:
    text = vswin("show", "table1/i3d").stdout
    assert "top-1 72.1, top-5 90.3, 108 GFLOPs, 25.0 M, pre-trained on ImageNet-1K" in " ".join(text.split())
    assert "reported only" in text


def test_show_takes_the_scale_that_there_is(vswin: Vswin) -> None:
    assert json.loads(vswin("show", "baselines/timesformer-k600", "--json").stdout)["scale"] == "paper"
    assert json.loads(vswin("show", "table4/split", "--json").stdout)["scale"] == "mini"


def test_json_of_one_command_leaves_the_next_its_output(home: Path) -> None:
    assert json.loads(CliRunner().invoke(app, ["launch", "table4", "--dry-run", "--json"]).stdout)
    assert "table4/split" in CliRunner().invoke(app, ["show", "table4/split"]).stdout


def test_json_of_a_check_leaves_the_next_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWIN_DATA", str(tmp_path / "data"))
    videos = tmp_path / "data" / "clips" / "one"
    videos.mkdir(parents=True)
    (videos / "a.mp4").write_bytes(b"no video")
    (videos.parent / "train.txt").write_text("one/a.mp4 0\n")
    (videos.parent / "val.txt").write_text("one/a.mp4 0\n")
    (videos.parent / "classes.txt").write_text("one\n")
    checked = CliRunner().invoke(app, ["data", "check", "clips", "--json"])
    assert json.loads(checked.stdout)["counts"], checked.output
    assert "nothing is wrong" not in checked.stdout
    assert "$VSWIN_DATA is" in CliRunner().invoke(app, ["data", "layout"]).stdout


def test_the_list_fits_a_terminal(vswin: Vswin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = vswin("list").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    # a line for a row at most, for a title, and two for a table: nothing is folded
    every = tables().values()
    titles = sum(bool(block.title) for table in every for block in table.blocks)
    assert len(lines) <= sum(len(table.variants) for table in every) + titles + 2 * len(every)
    shown = " ".join(lines)
    for variant in (variant for table in tables().values() for variant in table.variants):
        assert (variant.id if variant.recipe else variant.name) in shown


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_all_tables_are_rendered_and_fit_a_terminal(
    vswin: Vswin, scale: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = vswin("tables", "--scale", scale).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("\u2026" in line for line in lines)
    written = {path.name for path in (home / "results" / scale / "tables").iterdir()}
    endings = (".md", ".csv", ".html", ".tex", "-column.tex")
    assert written == {f"{table.id}{end}" for table in tables_at(Scale(scale)) for end in endings} | {"all.csv"}


def test_planning_the_whole_paper_needs_neither_data_nor_weights(vswin: Vswin) -> None:
    names = [table.id for table in tables_at(Scale.PAPER)]
    answer = vswin("launch", *names, "--scale", "paper", "--seeds", "5", "--dry-run", "--json", code=1)
    plan = json.loads(answer.stdout)
    assert len(plan) == 5 * len(experiments(Scale.PAPER))
    assert plan[1]["variants"] == [
        *("table1/swin-t", "table4/joint", "table5/window-8", "table6/full", "table8/inflate"),
        *("table9/duplicate", "deviations/swin-t", "baselines/joint"),
    ]


def test_show_names_the_tables_that_share_a_run(vswin: Vswin) -> None:
    text = vswin("show", "table6/full").stdout
    assert "same run as" in text
    assert "table4/joint" in text
    assert "nothing: it is the baseline" in text


def test_every_command_has_help() -> None:
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    for name in [*names, "data"]:
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0
    assert {"list", "show", "run", "launch", "status", "collect", "sync", "tables", "ui", "doctor"} <= set(names)


@pytest.mark.slow
def test_ui_serves_a_table_on_loopback_and_stops(vswin: Vswin, home: Path) -> None:
    command = vswin_command("ui", "table6", "--scale", "tiny")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=home) as server:
        assert server.stdout is not None
        try:
            _, _, address = (server.stdout.readline().strip() for _ in range(3))
            opened, page = address.split("#/")
            root, token = opened.split("/?token=")
            assert len(token) == 32
            assert page == "experiments/1/runs?workflowType=machine_learning&viewStateShareKey=table6"
            assert root.startswith("http://127.0.0.1:")
            request = urllib.request.Request(f"{root}/health", headers={"Authorization": f"Bearer {token}"})
            with urllib.request.urlopen(request) as answer:
                assert answer.status == 200
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(timeout=30) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{root}/health")


def test_help_tells_the_journeys_in_the_order_of_use() -> None:
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80", "TERM": "dumb"}).stdout
    panels = ["Explore", "Run", "Look after", "Results", "Your own videos", "Data"]
    places = [text.index(f" {panel} ─") for panel in panels]
    assert places == sorted(places)
    for first, second in itertools.pairwise(
        ("doctor", "list", "check", "launch", "status", "collect", "predict", "data")
    ):
        assert text.index(f"│ {first} ") < text.index(f"│ {second} ")
    assert max(map(len, text.splitlines())) <= 80


def test_version_is_that_of_the_package() -> None:
    answer = CliRunner().invoke(app, ["--version"])
    assert (answer.exit_code, answer.stdout) == (0, f"vswin {importlib.metadata.version('vswin')}\n")


@pytest.mark.parametrize("command", ["show", "check", "launch", "run", "status", "logs", "tables", "sync", "ui"])
def test_the_scale_of_tests_is_not_offered(command: str) -> None:
    answer = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "120", "TERM": "dumb"})
    assert "paper|mini" in answer.stdout
    assert "tiny" not in answer.stdout


def test_doctor_has_a_line_per_finding_and_what_slurm_said_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sinfo = tmp_path / "sinfo"
    sinfo.write_text("#!/bin/sh\necho 'sinfo: error: no host' >&2\necho 'sinfo: fatal: lost' >&2\nexit 1\n")
    sinfo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    heading, *lines = CliRunner().invoke(app, ["doctor"]).stdout.splitlines()
    assert heading.strip() == "needed for"
    assert len(lines) == len(json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout))
    assert all(line.startswith(("ok ", "missing ")) and len(line) <= 80 for line in lines)
    assert not any("no host" in line for line in lines)
    assert "sinfo: error: no host\nsinfo: fatal: lost" in CliRunner().invoke(app, ["doctor", "--verbose"]).stdout
