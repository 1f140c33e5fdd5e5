"""Launching, killing and launching again, with real processes, real submitit and a real MLflow store."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from experiments.registry.catalogue import experiments, find_table, find_variant
from experiments.registry.recipe import Scale
from experiments.results.record import Record, load
from experiments.runs import journal
from experiments.runs.directory import RunDirectory
from experiments.runs.runtime import Runtime
from experiments.runs.state import RunState, state_of
from tests.support.command_line import Vswin, vswin_command
from tests.support.patience import eventually

VARIANT = "table4/joint"


def run_of(variant: str, seed: int = 0) -> RunDirectory:
    return RunDirectory(Scale.TINY, find_variant(variant).at(Scale.TINY).signature, seed)


def computed(run: RunDirectory) -> list[tuple[int, dict[str, float]]]:
    """What a run's journal says was computed, without what measures the machine."""
    return [
        (
            entry.step,
            {name: value for name, value in entry.metrics.items() if name.startswith(("train/", "val/", "test/"))},
        )
        for entry, _ in journal.read(run.journal)
    ]


def newest_checkpoint(run: RunDirectory) -> int:
    return max(int(path.stem.removeprefix("step-")) for path in run.checkpoints.iterdir())


def record_of(run: RunDirectory) -> Record:
    [path] = run.results()
    return load(path)


def state(run: RunDirectory) -> RunState:
    return state_of(run, [find_variant(VARIANT).at(Scale.TINY).protocol_signature])


def predictions(run: RunDirectory) -> np.ndarray:
    [path] = run.results()
    with np.load(path.with_suffix(".npz")) as archive:
        return archive["scores"]


def steps(run: RunDirectory) -> int:
    return run.journal.read_bytes().count(b"\n") if run.journal.exists() else 0


def mlflow_points(run: RunDirectory) -> dict[str, list[tuple[int, float]]]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{os.environ['VSWIN_RUNS']}/mlflow.db")
    experiment = client.get_experiment_by_name("vswin-tiny")
    assert experiment is not None
    [found] = client.search_runs(
        [experiment.experiment_id], f"tags.signature = '{run.signature}' AND tags.seed = '{run.seed}'"
    )
    return {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(found.info.run_id, name)]
        for name in found.data.metrics
    }


def journal_points(run: RunDirectory) -> dict[str, list[tuple[int, float]]]:
    points: dict[str, list[tuple[int, float]]] = {}
    for entry, _ in journal.read(run.journal):
        for name, value in entry.metrics.items():
            points.setdefault(name, []).append((entry.step, value))
    return points


@pytest.fixture(scope="module")
def undisturbed(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an undisturbed run of VARIANT, seed 0."""
    folder = tmp_path_factory.mktemp("undisturbed")
    environment = {**os.environ, "VSWIN_DATA": str(tiny_data), "VSWIN_RUNS": str(folder)}
    subprocess.run(vswin_command("run", VARIANT, "--scale", "tiny"), check=True, capture_output=True, env=environment)
    run = run_of(VARIANT)
    return folder / run.scale / run.signature / "seed-0"


def assert_equal_to_the_bit(run: RunDirectory, undisturbed: Path, tmp_path: Path) -> None:
    copy = run_of(VARIANT, seed=99)
    shutil.copytree(undisturbed, copy.path)
    assert computed(run) == computed(copy)
    np.testing.assert_array_equal(predictions(run), predictions(copy))


def test_launch_collects_every_run_once_and_tells_mlflow_everything(vswin: Vswin) -> None:
    first = vswin("launch", "table4", "--scale", "tiny", "--seeds", "1")
    assert len(re.findall("^finished ", first.stdout, re.M)) == 3
    for experiment in experiments(Scale.TINY, [find_table("table4")]):
        run = RunDirectory(Scale.TINY, experiment.recipe.signature, 0)
        assert state(run) is RunState.DONE
        recipe = experiment.recipe.optim
        assert [step for step, _ in computed(run)] == list(range(1, record_of(run).provenance.steps + 2))
        assert record_of(run).provenance.steps % recipe.epochs == 0
        assert mlflow_points(run) == journal_points(run)
    second = vswin("launch", "table4", "--scale", "tiny", "--seeds", "1")
    assert "nothing to do: all 4 runs are done" in second.stdout
    missing = vswin("launch", "table4", "--scale", "tiny", "--seeds", "2", "--mode", "read-only", code=1)
    assert "3 SUBMIT" in missing.stdout
    plan = json.loads(vswin("status", "table4", "--scale", "tiny", "--seeds", "2", "--json").stdout)
    assert [(step["seed"], step["action"]) for step in plan] == [(0, "DONE")] * 4 + [(1, "SUBMIT")] * 3


def test_killed_run_ends_as_if_nothing_had_happened(vswin: Vswin, undisturbed: Path, tmp_path: Path) -> None:
    run = run_of(VARIANT)
    for at in (3, 11):
        process = subprocess.Popen(vswin_command("run", VARIANT, "--scale", "tiny"), stdout=subprocess.DEVNULL)
        eventually(f"{at} steps are taken", lambda at=at: steps(run) >= at, every=0.002)  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert state(run) is RunState.INTERRUPTED
        assert "RESUME" in vswin("status", "table4", "--scale", "tiny", "--seeds", "1").stdout
    vswin("run", VARIANT, "--scale", "tiny")
    assert record_of(run).provenance.attempts == 3
    assert_equal_to_the_bit(run, undisturbed, tmp_path)
    assert mlflow_points(run) == journal_points(run)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_signal_saves_at_the_step_and_is_resumed(
    number: signal.Signals, vswin: Vswin, undisturbed: Path, tmp_path: Path
) -> None:
    run = run_of(VARIANT)
    process = subprocess.Popen(
        vswin_command("run", VARIANT, "--scale", "tiny"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    eventually("it trains", lambda: steps(run) >= 5, every=0.002)
    process.send_signal(number)
    _, message = process.communicate()
    assert process.returncode == 1
    assert re.search(r"stopped at step \d+ of \d+; saved", message)
    assert newest_checkpoint(run) == run.last_step()
    vswin("run", VARIANT, "--scale", "tiny")
    assert_equal_to_the_bit(run, undisturbed, tmp_path)


@pytest.mark.slow
def test_preempted_job_is_requeued_and_finishes_on_its_own(vswin: Vswin, undisturbed: Path, tmp_path: Path) -> None:
    run = run_of(VARIANT)
    launcher = subprocess.Popen(
        vswin_command("launch", "table4", "--scale", "tiny", "--seeds", "1", "--jobs", "1"), stdout=subprocess.DEVNULL
    )
    eventually("it trains", lambda: steps(run) >= 5, every=0.002)
    os.kill(json.loads(run.attempt.read_text())["pid"], signal.SIGUSR2)
    assert launcher.wait() == 0
    assert record_of(run).provenance.attempts == 2
    assert_equal_to_the_bit(run, undisturbed, tmp_path)
    assert mlflow_points(run) == journal_points(run)


@pytest.mark.slow
def test_jobs_survive_their_launcher_and_the_next_one_waits_for_them(vswin: Vswin) -> None:
    run = run_of(VARIANT)
    launcher = subprocess.Popen(
        vswin_command("launch", "table4", "--scale", "tiny", "--seeds", "1", "--jobs", "1"), stdout=subprocess.DEVNULL
    )
    eventually("it runs", lambda: state(run) is RunState.RUNNING, every=0.002)
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    vswin("launch", "table4", "--scale", "tiny", "--seeds", "1")
    assert record_of(run).provenance.attempts == 1
    assert mlflow_points(run) == journal_points(run)


@pytest.mark.slow
def test_two_launches_at_once_do_every_run_once(vswin: Vswin) -> None:
    command = vswin_command("launch", "table6", "--scale", "tiny", "--seeds", "1")
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("waiting for another launch" in answer for answer in answers) == 1
    assert sum("nothing to do" in answer for answer in answers) == 1
    for experiment in experiments(Scale.TINY, [find_table("table6")]):
        assert record_of(RunDirectory(Scale.TINY, experiment.recipe.signature, 0)).provenance.attempts == 1


@pytest.mark.slow
def test_failed_run_says_why_and_is_tried_again(
    vswin: Vswin, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    monkeypatch.setenv("VSWIN_DATA", str(data))
    victim = next((data / "moving-digits" / "tiny" / "train").iterdir())
    whole = victim.read_bytes()
    victim.write_bytes(b"not a video")
    answer = vswin("launch", "table6", "--scale", "tiny", "--seeds", "1", code=1)
    assert "TooManyBrokenError" in answer.stdout
    assert "0 finished, 3 did not" in answer.stdout
    # after the image model that all start from
    [_, first, *_] = json.loads(vswin("status", "table6", "--scale", "tiny", "--json").stdout)
    assert first["action"] == "FAILED"
    # what failed by its own error is left alone, unless it is asked for
    answer = vswin("launch", "table6", "--scale", "tiny", "--seeds", "1", code=1)
    assert "--mode retry retries it" in " ".join(answer.stdout.split())
    assert f"the first: {victim}: cannot be decoded" in first["error"]
    victim.write_bytes(whole)
    # these are other videos than the failed attempts began with, and they say so
    answer = vswin("launch", "table6", "--scale", "tiny", "--seeds", "1", "--mode", "retry", code=1)
    assert "OtherDataError" in answer.stdout
    shutil.rmtree(Path(os.environ["VSWIN_RUNS"]) / "tiny")
    vswin("launch", "table6", "--scale", "tiny", "--seeds", "1")
    assert state(run_of("table6/full")) is RunState.DONE


def test_a_job_refuses_another_recipe_than_was_launched(home: Path) -> None:
    from experiments.job.body import run_one
    from experiments.job.errors import SignatureError

    with pytest.raises(SignatureError, match="but ffffffffff was launched: the code changed in between"):
        run_one(Scale.TINY, VARIANT, "ffffffffff", 0, runtime=Runtime())
    assert state(RunDirectory(Scale.TINY, "ffffffffff", 0)) is not RunState.DONE


@pytest.mark.slow
def test_tracking_that_is_away_stops_nothing(vswin: Vswin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{blocked}/mlflow.db")
    answer = vswin("launch", "table6", "--scale", "tiny", "--seeds", "1")
    assert "nothing is lost: vswin sync" in answer.stdout
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    vswin("sync", "--scale", "tiny")
    run = run_of("table6/none")
    assert mlflow_points(run) == journal_points(run)


@pytest.mark.slow
def test_a_server_that_is_away_holds_nothing_up(vswin: Vswin, monkeypatch: pytest.MonkeyPatch) -> None:
    # nothing listens on the discard port
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    answer = vswin("launch", "table6", "--scale", "tiny", "--seeds", "1")
    assert "3 finished, 0 did not" in answer.stdout
    assert "nothing is lost: vswin sync" in answer.stdout
    assert "nothing is lost" in vswin("sync", "--scale", "tiny", code=1).stderr


@pytest.mark.slow
def test_a_store_that_was_deleted_is_filled_again(vswin: Vswin) -> None:
    vswin("run", VARIANT, "--scale", "tiny")
    (Path(os.environ["VSWIN_RUNS"]) / "mlflow.db").unlink()
    vswin("sync", "--scale", "tiny")
    assert mlflow_points(run_of(VARIANT)) == journal_points(run_of(VARIANT))
    # and telling it everything once more changes nothing
    run_of(VARIANT).tracking.unlink()
    vswin("sync", "--scale", "tiny")
    assert mlflow_points(run_of(VARIANT)) == journal_points(run_of(VARIANT))


@pytest.mark.slow
def test_ctrl_c_saves_every_run_under_way(vswin: Vswin, undisturbed: Path, tmp_path: Path) -> None:
    run = run_of(VARIANT)
    launcher = subprocess.Popen(
        vswin_command("launch", "table4", "--scale", "tiny", "--seeds", "1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    eventually("it trains", lambda: steps(run) >= 3, every=0.002)
    os.killpg(launcher.pid, signal.SIGINT)
    _, message = launcher.communicate()
    assert (launcher.returncode, "Traceback" in message) == (1, False)
    assert "the same command resumes them" in message
    assert newest_checkpoint(run) == run.last_step()
    vswin("launch", "table4", "--scale", "tiny", "--seeds", "1")
    assert_equal_to_the_bit(run, undisturbed, tmp_path)


def test_a_second_attempt_beside_a_running_one_is_refused(vswin: Vswin) -> None:
    first = subprocess.Popen(vswin_command("run", VARIANT, "--scale", "tiny"), stdout=subprocess.DEVNULL)
    run = run_of(VARIANT)
    eventually("it runs", lambda: state(run) is RunState.RUNNING, every=0.002)
    # so that it is still at it when the second one comes
    first.send_signal(signal.SIGSTOP)
    assert "a process is working on it" in vswin("run", VARIANT, "--scale", "tiny", code=1).stderr
    first.send_signal(signal.SIGCONT)
    assert first.wait() == 0
    assert [step for step, _ in computed(run)] == list(range(1, record_of(run).provenance.steps + 2))


@pytest.mark.slow
def test_other_videos_are_refused_on_resume(vswin: Vswin) -> None:
    run = run_of(VARIANT)
    process = subprocess.Popen(vswin_command("run", VARIANT, "--scale", "tiny"), stdout=subprocess.DEVNULL)
    eventually("it trains", lambda: steps(run) >= 1, every=0.002)
    process.kill()
    process.wait()
    run.data.write_text('{"train": "others"}')
    assert (
        "the videos are not those that this run began with" in vswin("run", VARIANT, "--scale", "tiny", code=1).stderr
    )


@pytest.mark.slow
def test_without_git_a_run_says_unknown(vswin: Vswin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    vswin("run", VARIANT, "--scale", "tiny")
    assert record_of(run_of(VARIANT)).provenance.commit == "unknown"
    assert "git" in vswin("doctor").stdout
