"""The command line answers wrong use with one sentence and exit code 2, and scripts with JSON."""

import json
import re
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest
from command_line import Vswin, vswin_command

from experiments.cli import app
from experiments.registry import tables


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["show", "tabel4/split"], "did you mean 'table4/split'"),
        (["run", "table4/spilt"], "did you mean 'table4/split'"),
        (["launch", "table44"], "did you mean 'table4'"),
        (["status", "tabel6"], "did you mean 'table6'"),
        (["tables", "x"], "known: table4, table6"),
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


def test_dry_run_starts_nothing_and_needs_no_data(vswin: Vswin, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWIN_DATA", str(home / "nowhere"))
    plan = json.loads(vswin("launch", "table4", "table6", "--seeds", "2", "--dry-run", "--json").stdout)
    assert len(plan) == 10
    assert {step["action"] for step in plan} == {"SUBMIT"}
    assert plan[0]["variants"] == ["table4/joint", "table6/full", "baselines/joint"]
    assert list(home.iterdir()) == []


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


def test_missing_image_weights_are_named(vswin: Vswin) -> None:
    answer = vswin("launch", "table4", "--scale", "paper", code=1)
    assert "swin_tiny_patch4_window7_224.pth" in answer.stderr


def test_json_is_for_scripts(vswin: Vswin) -> None:
    assert list(json.loads(vswin("list", "--json").stdout)) == list(tables())
    shown = json.loads(vswin("show", "table6/none", "--scale", "paper", "--json").stdout)
    assert shown["paper"]["top1"] == 78.1
    assert (shown["cost"]["params"], round(shown["cost"]["flops"] / 1e9)) == (28_158_070, 88)
    assert sum(section["flops"] for section in shown["cost"]["sections"]) == shown["cost"]["flops"]
    assert shown["difference"] == {"model.shift": {"baseline": "full", "here": "none"}}
    found = {item["name"]: item["detail"] for item in json.loads(vswin("doctor", "--json").stdout)}
    assert {"torch", "CUDA", "PyAV", "Slurm", "MLflow", "disk"} <= set(found)
    assert found["data sets"] == "moving-digits/tiny"


def test_show_names_the_tables_that_share_a_run(vswin: Vswin) -> None:
    text = vswin("show", "table6/full").stdout
    assert "same run as" in text
    assert "table4/joint" in text
    assert "nothing: it is the baseline" in text


def test_every_command_has_help() -> None:
    from typer.testing import CliRunner

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
            root, page = address.split("/#/")
            assert page == "experiments/1/runs?searchFilter=tags.table6%20LIKE%20%27%25%27"
            assert root.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(f"{root}/health") as answer:
                assert answer.status == 200
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(timeout=30) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{root}/health")
