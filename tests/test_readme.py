"""The README says what is so: its commands exist and parse, its generated blocks are current."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.core
import typer.main

from experiments.cli import app
from experiments.regenerate import generated
from experiments.tables import stale, unwanted

CLONE = Path(__file__).resolve().parent.parent
README = (CLONE / "README.md").read_text()
BLOCKS = re.findall(r"(?m)(?:^(?: {4}).*\n)+", README)
COMMANDS = [line.strip() for block in BLOCKS for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", README)


def commands(program: str) -> list[str]:
    return sorted({line.split("  #")[0].strip() for line in COMMANDS if line.startswith(f"{program} ")})


@pytest.mark.parametrize("line", commands("vswin"))
def test_vswin_commands_parse(line: str) -> None:
    arguments = shlex.split(line)[1:]
    command = typer.main.get_command(app)
    context = command.make_context("vswin", arguments)
    while isinstance(command, typer.core.TyperGroup):
        name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, arguments, parent=context)


@pytest.mark.parametrize("line", commands("make"))
def test_make_targets_exist(line: str) -> None:
    subprocess.run(["make", "--dry-run", *shlex.split(line)[1:]], cwd=CLONE, check=True, capture_output=True)


def test_there_are_commands_to_test() -> None:
    assert len(commands("vswin")) >= 8
    assert {"make demo", "make test", "make slow"} <= set(commands("make"))


@pytest.mark.parametrize("code", re.findall(r"(?s)```python\n(.*?)```", README))
def test_python_in_the_readme_runs(code: str) -> None:
    exec(code, {})


def test_linked_files_exist() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith(("http", "#")) or (CLONE / target).exists(), target


def test_the_speed_in_the_readme_was_measured() -> None:
    shown = [line for line in README.splitlines() if re.match(r"\| (inference|training step), ", line)]
    measured = "".join(path.read_text() for path in (CLONE / "results" / "bench").glob("*.md"))
    assert len(shown) >= 4
    assert all(line in measured for line in shown)


def test_everything_generated_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables, checklist and the README's blocks say what the committed records say: otherwise make results."""
    monkeypatch.setenv("VSWIN_RESULTS", str(CLONE / "results"))
    files = generated()
    assert CLONE / "README.md" in files
    assert stale(files) == []
    assert unwanted({path: text for path, text in files.items() if path.parent.name == "tables"}) == []
    assert README.count("<!-- generated: mini table4 -->") == 1
