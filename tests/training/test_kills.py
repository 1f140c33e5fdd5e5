"""A training that is killed at any moment ends as one that was left alone: weights, metrics, random numbers."""

from __future__ import annotations

import json
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests.support.killed_training import OPTIM, history, train_once
from tests.support.rank_processes import ended, started

# 24 videos
STEPS = OPTIM.epochs * 24 // OPTIM.batch_size


def start(folder: Path, data: Path, *, seed: int, places: dict[str, int] | None = None) -> BaseProcess:
    folder.mkdir(exist_ok=True)
    return started(train_once, folder, data, seed, places or {}, leaving=folder / "answer.json")


def answer(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "answer.json").read_text())
    return content.get("value", content)


def progress(folder: Path) -> int:
    """Bytes of journal."""
    journal = folder / "journal.jsonl"
    return journal.stat().st_size if journal.exists() else 0


def workers_of(process: BaseProcess) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in children.read_text().split()] if children.exists() else []


def kill_at_random(folder: Path, data: Path, *, seed: int, moments: random.Random, orphans: list[int]) -> bool:
    """Start an attempt and kill it a random while after its first new step; False if it finished before.

    Its loader workers join ``orphans``.
    """
    before = progress(folder)
    process = start(folder, data, seed=seed)
    deadline = time.monotonic() + 120
    while progress(folder) == before and process.is_alive():
        assert time.monotonic() < deadline, "no step within two minutes"
        time.sleep(0.002)
    time.sleep(moments.uniform(0, 0.15))
    workers = workers_of(process)
    process.kill()
    process.join()
    orphans.extend(workers)
    return process.exitcode == -signal.SIGKILL


def expect_end_of(orphans: list[int]) -> None:
    """Loader workers see within seconds that nobody reads them any more."""
    deadline = time.monotonic() + 60
    while left := [pid for pid in orphans if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"loader workers {left} outlived their trainings"
        time.sleep(0.05)


def undisturbed(tmp_path: Path, data: Path, *, seed: int) -> tuple[dict[str, Any], dict[int, dict[str, float]]]:
    folder = tmp_path / f"whole-{seed}"
    ended([start(folder, data, seed=seed)])
    assert answer(folder)["step"] == STEPS, answer(folder)
    return answer(folder), history(folder)


def finish(folder: Path, data: Path, *, seed: int) -> tuple[dict[str, Any], dict[int, dict[str, float]]]:
    ended([start(folder, data, seed=seed)])
    return answer(folder), history(folder)


def test_killed_at_step_boundaries(tmp_path: Path, tiny_data: Path) -> None:
    whole = undisturbed(tmp_path, tiny_data, seed=1)
    folder = tmp_path / "killed"
    places = [{"log": 1}, {"save": 6}, {"batch": 9}, {"log": 12}, {"save": 18}]
    for place in places:
        process = start(folder, tiny_data, seed=1, places=place)
        ended([process])
        assert process.exitcode == -signal.SIGKILL, f"{place}: {answer(folder)}"
    assert finish(folder, tiny_data, seed=1) == whole


def test_killed_at_random_moments(tmp_path: Path, tiny_data: Path) -> None:
    whole = undisturbed(tmp_path, tiny_data, seed=2)
    folder = tmp_path / "killed"
    moments = random.Random(2)
    orphans: list[int] = []
    kills = sum(kill_at_random(folder, tiny_data, seed=2, moments=moments, orphans=orphans) for _ in range(3))
    assert kills > 0
    assert finish(folder, tiny_data, seed=2) == whole
    assert orphans
    expect_end_of(orphans)


def test_stopped_by_a_signal(tmp_path: Path, tiny_data: Path) -> None:
    whole = undisturbed(tmp_path, tiny_data, seed=3)
    folder = tmp_path / "stopped"
    for step in (1, 8, STEPS - 1):
        process = start(folder, tiny_data, seed=3, places={"await stop": step})
        while not (folder / "awaiting").exists() and process.is_alive():
            time.sleep(0.005)
        process.terminate()
        ended([process])
        # the step under way was finished and saved: none is computed again
        assert answer(folder) | {"end": "stopped", "step": step} == answer(folder)
        assert len(history(folder)) == step
        (folder / "awaiting").unlink()
    assert finish(folder, tiny_data, seed=3) == whole


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thirty_kills(tmp_path: Path, tiny_data: Path) -> None:
    """At random moments and at every kind of boundary, in turn, over several trainings until thirty have fallen."""
    moments = random.Random(0)
    orphans: list[int] = []
    kills = 0
    for seed in range(10, 40):
        whole = undisturbed(tmp_path, tiny_data, seed=seed)
        folder = tmp_path / f"killed-{seed}"
        before = -1
        while progress(folder) != before or not folder.exists():
            before = progress(folder)
            if moments.random() < 0.7:
                killed = kill_at_random(folder, tiny_data, seed=seed, moments=moments, orphans=orphans)
            else:
                place = {moments.choice(("log", "save", "batch")): moments.randrange(1, STEPS)}
                process = start(folder, tiny_data, seed=seed, places=place)
                ended([process])
                killed = process.exitcode == -signal.SIGKILL
            kills += killed
            if not killed:
                break
        assert finish(folder, tiny_data, seed=seed) == whole, f"after {kills} kills"
        if kills >= 30:
            break
    print(f"{kills} kills, {len(orphans)} loader workers orphaned")
    assert kills >= 30
    expect_end_of(orphans)
