"""Messages are those that docs/troubleshooting.md quotes."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from experiments.cli.main import app
from experiments.job.body import run_one
from experiments.job.errors import NoGpuError
from experiments.registry.catalogue import find_variant
from experiments.registry.recipe import Scale
from experiments.runs.runtime import default_runtime
from tests.support.command_line import Vswin
from tests.support.made_up_runs import make_up_run
from tests.support.places import CLONE
from vswin.data.broken import BrokenVideos, ReadFailure, TooManyBrokenError
from vswin.training.memory import BatchTooLargeError, shortage_explained, shortage_in_test_explained

QUOTED = re.findall(r"(?m)^ {4}(\S.*)$", (CLONE / "docs" / "troubleshooting.md").read_text())


def quoted(fragment: str) -> re.Pattern[str]:
    """The one quoted message with ``fragment`` in it, as a pattern."""
    [line] = [line for line in QUOTED if fragment in line]
    # the terminal may have wrapped it
    words = (r"\s+".join(map(re.escape, re.split(r"(?<=\S)\s+(?=\S)", part))) for part in line.split("…"))
    return re.compile(r"[\s\S]*".join(words))


@pytest.mark.slow
def test_the_database_is_locked(vswin: Vswin, home: Path) -> None:
    vswin("run", "table4/joint", "--scale", "tiny")
    [told] = (home / "runs" / "tiny").glob("*/seed-0/tracking.json")
    told.unlink()
    with closing(sqlite3.connect(home / "runs" / "mlflow.db")) as database:
        database.execute("BEGIN EXCLUSIVE")
        answer = vswin("sync", "--scale", "tiny", code=1)
    assert quoted("database is locked").search(answer.stderr)
    vswin("sync", "--scale", "tiny")
    assert told.exists()


def test_the_database_is_damaged(empty_home: Path) -> None:
    database = empty_home / "runs" / "mlflow.db"
    database.parent.mkdir()
    database.write_text("no database, whatever its name says")
    make_up_run("table4/split")
    answer = CliRunner().invoke(app, ["sync", "--scale", "tiny"])
    assert quoted("mlflow.db").search(answer.output)
    assert "1 run is behind in MLflow: vswin sync" in CliRunner().invoke(app, ["status", "--scale", "tiny"]).output


@pytest.mark.usefixtures("empty_home")
def test_a_file_of_a_run_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    make_up_run("table4/split", done=False).directory.attempt.touch()
    monkeypatch.setenv("COLUMNS", "1000")
    answer = CliRunner().invoke(app, ["status", "table4", "--scale", "tiny"])
    assert "1 DAMAGED" in answer.output
    assert quoted("attempt.json").search(answer.output)


def test_videos_are_missing(vswin: Vswin, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "copy"
    shutil.copytree(tiny_data, data)
    monkeypatch.setenv("VSWIN_DATA", str(data))
    next((data / "moving-digits" / "tiny" / "val").iterdir()).unlink()
    assert quoted("cannot be opened").search(vswin("run", "table4/joint", "--scale", "tiny", code=1).stderr)
    shutil.rmtree(data / "moving-digits")
    assert quoted("nothing else that lists").search(vswin("run", "table4/joint", "--scale", "tiny", code=1).stderr)


def test_too_many_videos_are_broken() -> None:
    broken = BrokenVideos(draws_per_epoch=100, warn=lambda message: None)
    with pytest.raises(TooManyBrokenError, match=quoted("could not be read")):
        broken.see([ReadFailure(number, f"{number}.mp4: damaged") for number in range(2)], epoch=0)


def test_memory_is_short() -> None:
    with (
        pytest.raises(BatchTooLargeError, match=quoted("add up to the same gradient")),
        shortage_explained(micro_batch=16, rank_batch=64, effective_batch=64),
    ):
        torch.empty(2**60)
    with (
        pytest.raises(BatchTooLargeError, match=quoted("changes scores by rounding only")),
        shortage_in_test_explained(views_at_once=12),
    ):
        torch.empty(2**60)


@pytest.mark.usefixtures("home")
def test_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recipe = find_variant("table4/joint").at(Scale.PAPER)
    with pytest.raises(NoGpuError, match=quoted("needs a GPU")):
        run_one(Scale.PAPER, "table4/joint", recipe.signature, 0, runtime=default_runtime(Scale.PAPER))
