"""``status``, ``logs`` and ``cancel`` on real runs of this machine."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.cli.main import app
from experiments.launch import logs
from experiments.launch.plan import Action
from experiments.registry.catalogue import experiments, find_experiment, find_table, find_variant
from experiments.registry.recipe import Scale
from experiments.runs.directory import RunDirectory
from experiments.words import in_words
from tests.support.command_line import vswin_command
from tests.support.patience import eventually


def here(*arguments: str, code: int = 0) -> str:
    """The command line in this process."""
    answer = CliRunner().invoke(app, list(arguments))
    assert answer.exit_code == code, answer.output
    return answer.stdout


def run_of(name: str, seed: int = 0) -> RunDirectory:
    return RunDirectory(Scale.TINY, find_variant(name).at(Scale.TINY).signature, seed)


def status_of(name: str, *, seeds: int = 1) -> list[dict[str, object]]:
    shown = json.loads(here("status", name.partition("/")[0], "--scale", "tiny", "--seeds", str(seeds), "--json"))
    return [item for item in shown if name in item["variants"]]


@pytest.fixture(scope="module")
def operated(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Table 6 at scale tiny: one run done, one failed, one stopped on its way."""
    folder = tmp_path_factory.mktemp("operated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VSWIN_DATA", str(tiny_data))
        patch.setenv("VSWIN_RUNS", str(folder / "runs"))
        patch.setenv("VSWIN_RESULTS", str(folder / "results"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("COLUMNS", "80")
        # what stands where the record of a run should be makes it fail, after training, by its own error
        broken = run_of("table6/spatial")
        protocol = find_variant("table6/spatial").at(Scale.TINY).protocol_signature
        broken.result(protocol).with_suffix(".npz").mkdir(parents=True)
        command = vswin_command("launch", "table6", "--scale", "tiny", "--seeds", "1", "--jobs", "2")
        launch = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert launch.returncode == 1, launch.stdout
        yield folder


def test_status_joins_what_is_known(operated: Path) -> None:
    [done] = status_of("table6/full")
    assert (done["action"], done["share"], done["steps"]) == ("DONE", 1.0, 31)
    assert list(done["top1"]) == ["2x1"]  # type: ignore[call-overload]
    [failed] = status_of("table6/spatial")
    assert failed["action"] == Action.FAILED
    assert "IsADirectoryError" in str(failed["error"])
    [new] = status_of("table4/split")
    assert (new["action"], new["step"], new["steps"], new["updated"]) == ("SUBMIT", 0, None, None)


def test_status_is_readable_in_80_columns(operated: Path) -> None:
    for arguments in ([], ["--runs"], ["--watch"]):
        lines = here("status", "--scale", "tiny", "--seeds", "5", *arguments).splitlines()
        table = lines[: next(i for i, line in enumerate(lines) if line.startswith("✗"))]
        assert max(map(len, table)) <= 80
        assert not any("…" in line for line in table)
        assert "✗ 1 FAILED" in lines[1]
    # what was never started is counted, and shown on request
    text = here("status", "table4", "table6", "--scale", "tiny", "--seeds", "2")
    assert "table4/joint" in text
    assert "table4/split" not in text
    assert "7 never started (--all)" in text.splitlines()[1]
    assert "table4/split" in here("status", "table4", "table6", "--scale", "tiny", "--seeds", "2", "--all")
    text = here("status", "table6", "--scale", "tiny", "--seeds", "1")
    # with the run that they all start from
    assert "3 of 4 runs done" in text
    # not on a terminal: what is done and what is not must differ without colours
    assert "━━━━━━━━━━ 100%" in text
    [why] = [line for line in " ".join(text.split()).split("✗") if "IsADirectoryError" in line]
    assert "vswin logs table6/spatial --seed 0" in why


def test_logs_begin_with_the_exception(operated: Path) -> None:
    lines = here("logs", "table6/spatial", "--scale", "tiny", "--lines", "3").splitlines()
    assert lines[0].startswith("table6/spatial seed 0 is FAILED")
    assert lines[1].startswith("IsADirectoryError")
    assert any("Traceback" in line for line in lines[2:6])
    text = here("logs", "table6/full", "--scale", "tiny", "--follow")
    assert "DONE" in text.splitlines()[0]
    assert "_log.out" in text
    here("logs", "table6/none", "--scale", "tiny", "--seed", "7", code=1)
    here("logs", "table4/split", "--scale", "tiny", code=1)


def test_a_log_is_followed_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log.out"
    looks = iter(range(10))

    def is_over() -> bool:
        look = next(looks)
        with path.open("a") as file:
            file.write(f"line {look}\n")
        if look == 3:
            path.write_text("begun anew\n")
        return look == 5

    assert logs.tail(path, lines=3) == ("", 0)
    assert "".join(logs.follow(path, offset=0, is_over=is_over)) == (
        "line 0\nline 1\nline 2\nbegun anew\nline 4\nline 5\n"
    )
    assert logs.tail(path, lines=1)[0] == "line 5\n"
    assert logs.tail(path, lines=0)[0] == ""


def test_cancel_ends_what_works_and_says_so(operated: Path) -> None:
    text = here("cancel", "table6", "--scale", "tiny")
    assert "nothing to cancel" in text
    run = run_of("table4/split")
    command = vswin_command("run", "table4/split", "--scale", "tiny")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        eventually("it trains", lambda: run.last_step() > 0, every=0.05)
        # so small a run is over in a second
        process.send_signal(signal.SIGSTOP)
        [working] = status_of("table4/split")
        assert working["action"] == "RUNNING"
        assert "nothing to cancel" in here("cancel", "table6", "--scale", "tiny")
        would = here("cancel", "table4/split", "--scale", "tiny", "--dry-run")
        assert f"process {process.pid} would be told to save and end" in would
        assert process.poll() is None
        [ended] = json.loads(here("cancel", "table4", "--scale", "tiny", "--json"))
        assert (ended["means"], ended["target"], ended["error"]) == ("SIGTERM", str(process.pid), None)
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=60)
    [stopped] = status_of("table4/split")
    assert stopped["action"] == "RESUME"
    # what was computed is saved: the checkpoint is of the last step in the journal
    assert run.last_step() == max(int(path.stem.removeprefix("step-")) for path in run.checkpoints.iterdir())
    for arguments in (["cancel"], ["cancel", "table4", "--all"]):
        here(*arguments, "--scale", "tiny", code=2)


def test_cancelling_everything_ends_the_launch_too(operated: Path) -> None:
    command = vswin_command("launch", "table5", "--scale", "tiny", "--seeds", "2", "--jobs", "1")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as launch:
        first = find_experiment(Scale.TINY, find_variant("table5/global-16"))
        run = RunDirectory(Scale.TINY, first.recipe.signature, 0)
        eventually("the first run trains", lambda: run.last_step() > 0, every=0.05)
        assert "--all ends it, too" in " ".join(here("cancel", "table5", "--scale", "tiny", "--dry-run").split())
        here("cancel", "--all", "--scale", "tiny")
        text, _ = launch.communicate(timeout=60)
    assert "unfinished runs are saved" in text
    begun = [
        item.name for item in experiments(Scale.TINY, [find_table("table5")]) if not run_is_new(item.recipe.signature)
    ]
    assert len(begun) <= 2
    assert not any(step["action"] in ("RUNNING", "PENDING") for step in status_of("table5/global-16", seeds=2))


def run_is_new(signature: str) -> bool:
    return not RunDirectory(Scale.TINY, signature, 0).attempt.exists()


def test_lengths_of_time_have_two_units() -> None:
    assert [in_words(seconds) for seconds in (0, 59.4, 60, 3599, 3600, 100_000, 200_000)] == [
        *("0 s", "59 s", "1:00 min", "59:59 min", "1:00 h", "27:46 h", "2.3 days"),
    ]
