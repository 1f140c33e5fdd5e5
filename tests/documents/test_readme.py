"""README and docs say what is so: their commands exist and parse, their generated blocks are current."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer.core
import typer.main

from experiments.cli.main import app
from experiments.launch.profiles import find_profile
from experiments.results.pages import stale, unwanted
from experiments.tools.regenerate import generated
from tests.support.command_line import Vswin
from tests.support.places import CLONE

DOCS = CLONE / "docs"
# In the order in which somebody would read them; troubleshooting quotes messages, not commands.
PAGES = {
    path: path.read_text()
    for path in (CLONE / "README.md", *(DOCS / f"{name}.md" for name in ("your-own-videos", "cluster", "miniature")))
}
README = PAGES[CLONE / "README.md"]
TEXTS = [README, *(path.read_text() for path in sorted(DOCS.glob("*.md")))]
BLOCKS = [block for text in PAGES.values() for block in re.findall(r"(?m)(?:^(?: {4}).*\n)+", text)]
LINES = [line.strip() for block in BLOCKS for line in block.splitlines()]
COMMANDS = LINES + [spoken for text in TEXTS for spoken in re.findall(r"`([^`\n]+)`", text)]
PUBLISHED = "swin_tiny_patch244_window877_kinetics400_1k.pth"
# Lines of blocks that another test runs as they stand, or at another size.
ELSEWHERE = {
    "vswin data split my-clips": "documents/test_own_videos.py::test_the_whole_way_from_clips_to_predictions",
    "vswin data check my-clips": "documents/test_own_videos.py::test_the_whole_way_from_clips_to_predictions",
    "vswin tables mine --scale paper": "documents/test_own_videos.py::test_the_whole_way_from_clips_to_predictions",
    "vswin predict new.mp4 --checkpoint runs/paper/SIGNATURE/seed-0": (
        "documents/test_own_videos.py::test_the_whole_way_from_clips_to_predictions"
    ),
    f"vswin predict clips/ --checkpoint data/weights/{PUBLISHED} --labels names.txt": (
        "cli/test_predict.py::test_the_best_five_of_a_published_file_are_those_computed_by_hand"
    ),
    f"vswin features clips/ --checkpoint data/weights/{PUBLISHED} --out features.npz": (
        "cli/test_predict.py::test_features_are_what_the_head_sees"
    ),
}
# Commands that train take another scale here; what they do is the same code.
AT_TINY = ("run", "launch", "sync")


def commands(program: str) -> list[str]:
    return sorted({line.split("  #")[0].strip() for line in COMMANDS if line.startswith(f"{program} ")})


@pytest.mark.parametrize("line", commands("vswin"))
def test_vswin_commands_parse(line: str) -> None:
    arguments = shlex.split(line)[1:]
    command = typer.main.get_command(app)
    context = command.make_context("vswin", arguments)
    while isinstance(command, typer.core.TyperGroup):
        name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
        if not arguments and line not in LINES and not isinstance(command, typer.core.TyperGroup):
            # a command that is only spoken of
            return
        context = command.make_context(name, arguments, parent=context)


def to_run() -> list[str]:
    """The ``vswin`` lines of blocks that are not marked with what they need and that no other test runs."""
    plain = [line for line in LINES if line.startswith("vswin ") and "# needs " not in line]
    return [line.split("  #")[0].strip() for line in plain if line.split("  #")[0].strip() not in ELSEWHERE]


@pytest.mark.slow
def test_commands_that_need_nothing_run(vswin: Vswin, home: Path) -> None:
    """In the order of the pages, in one place, as somebody who follows them."""
    lines = to_run()
    assert len(lines) >= 10
    for line in lines:
        _, command, *arguments = shlex.split(line)
        if command in AT_TINY and "--scale" not in arguments:
            arguments += ["--scale", "tiny"]
        vswin(command, *arguments)
    assert list((home / "results" / "mini" / "tables").glob("*.tex"))


def test_what_is_run_elsewhere_is_in_the_readme_and_there() -> None:
    for line, test in ELSEWHERE.items():
        assert any(shown.split("  #")[0].strip() == line for shown in LINES), line
        file, _, name = test.partition("::")
        assert f"def {name}(" in (CLONE / "tests" / file).read_text()


def test_the_profile_of_the_cluster_page_is_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [text] = re.findall(r"(?s)```toml\n(.*?)```", (DOCS / "cluster.md").read_text())
    (home / "profiles.toml").write_text(text)
    monkeypatch.setenv("VSWIN_PROFILES", str(home / "profiles.toml"))
    profile = find_profile("gpu")
    assert profile is not None
    assert (profile.gpus, profile.parallel) == (8, 4)


@pytest.mark.parametrize("line", commands("make"))
def test_make_targets_exist(line: str) -> None:
    subprocess.run(["make", "--dry-run", *shlex.split(line)[1:]], cwd=CLONE, check=True, capture_output=True)


def test_there_are_commands_to_test() -> None:
    assert len(commands("vswin")) >= 8
    assert {"make demo", "make test", "make slow"} <= set(commands("make"))


@pytest.mark.parametrize("code", [code for text in TEXTS for code in re.findall(r"(?s)```python\n(.*?)```", text)])
def test_python_in_the_pages_runs(code: str) -> None:
    exec(code, {})


def test_the_speed_that_is_shown_was_measured() -> None:
    shown = [
        line
        for line in (DOCS / "speed.md").read_text().splitlines()
        if re.match(r"\| (inference|training step), ", line)
    ]
    measured = "".join(path.read_text() for path in (CLONE / "results" / "bench").glob("*.md"))
    assert len(shown) >= 4
    assert all(line in measured for line in shown)


def test_everything_generated_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables, checklist and the blocks of pages say what the committed records say: otherwise make results."""
    monkeypatch.setenv("VSWIN_RESULTS", str(CLONE / "results"))
    files = generated()
    assert {CLONE / "README.md", DOCS / "miniature.md"} <= files.keys()
    assert stale(files) == []
    assert unwanted({path: text for path, text in files.items() if path.parent.name == "tables"}) == []
    assert README.count("<!-- generated: mini table4 -->") == 1
