"""Worker processes outlive stop signals, never their parent, and are named when they die or hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.support.loading import CONFIG
from vswin.data.annotations import VideoList
from vswin.data.batch import TrainBatch
from vswin.data.broken import ReadFailure
from vswin.data.datasets import TrainClips
from vswin.data.encoding import write_video
from vswin.data.loaders import train_loader
from vswin.data.pipeline import WorkerError
from vswin.data.sampler import Draw, TrainBatches


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for number in range(6):
        write_video(folder / f"{number}.mp4", rng.integers(0, 256, (10, 32, 40, 3), dtype=np.uint8), frame_rate=8)
    (folder / "train.txt").write_text("".join(f"{number}.mp4 0\n" for number in range(6)))
    return folder / "train.txt"


@pytest.fixture
def program(listed: Path) -> Iterator[subprocess.Popen[str]]:
    """``loading.py`` in a process group of its own, once it has delivered ten batches."""
    command = [sys.executable, "-m", "tests.support.loading", str(listed)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for _ in range(10):
            assert process.stdout.readline() == "batch\n"
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_workers_outlive_a_stop_signal_to_the_process_group(
    program: subprocess.Popen[str], number: signal.Signals
) -> None:
    os.killpg(program.pid, number)
    out, err = program.communicate(timeout=120)
    assert out.splitlines()[-1] == "finished", err
    assert program.returncode == 0
    assert "Traceback" not in err


def test_workers_end_with_a_killed_parent(program: subprocess.Popen[str]) -> None:
    children = psutil.Process(program.pid).children(recursive=True)
    # The fork server, its resource tracker and two workers.
    assert len(children) >= 3
    program.kill()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


def test_no_worker_is_left_when_a_loop_ends_early(listed: Path) -> None:
    clips = TrainClips(VideoList.read(listed), config=CONFIG, seed=0)
    before = set(psutil.Process().children(recursive=True))
    batches = iter(
        train_loader(clips, batches=TrainBatches(num_videos=6, batch_size=2, epochs=1000, seed=0), workers=2)
    )
    _ = next(batches)
    workers = [child for child in psutil.Process().children(recursive=True) if child not in before]
    del batches
    deadline = time.monotonic() + 30
    while any(_is_worker(child) for child in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [child for child in workers if _is_worker(child)]


def _is_worker(process: psutil.Process) -> bool:
    """Whether it is alive and has the fork server for its parent; the server itself stays for the next workers."""
    try:
        return process.ppid() != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Fatal(TrainClips):
    """Ends its process at the third video, as the system does for want of memory."""

    def read(self, draw: Draw) -> tuple[TrainBatch, tuple[ReadFailure, ...]]:
        if draw.video == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(draw)


class Endless(TrainClips):
    """Hangs at the third video."""

    def read(self, draw: Draw) -> tuple[TrainBatch, tuple[ReadFailure, ...]]:
        while draw.video == 3:
            time.sleep(1)
        return super().read(draw)


class Wrong(TrainClips):
    """Has a mistake in its code."""

    def read(self, draw: Draw) -> tuple[TrainBatch, tuple[ReadFailure, ...]]:
        raise RuntimeError("a mistake")


@pytest.mark.parametrize("kind", [Fatal, Endless])
def test_a_worker_that_dies_or_hangs_is_named_with_its_batch(listed: Path, kind: type[TrainClips]) -> None:
    videos = VideoList.read(listed)
    batches = TrainBatches(num_videos=6, batch_size=2, epochs=1, seed=0)
    position = next(number for number, keys in enumerate(batches) if 3 in [draw.video for draw in keys])
    loader = train_loader(kind(videos, config=CONFIG, seed=0), batches=batches, workers=1, patience=3.0)
    got = []
    with pytest.raises(WorkerError) as error:
        got += [batch.videos.tolist() for batch in loader]
    text = str(error.value)
    number = int(text.split("while batch ")[1].split()[0])
    assert number <= position
    assert f"{videos.path(list(batches)[number][0].video)}" in text
    assert "exited unexpectedly" in text


def test_a_mistake_in_a_worker_is_shown_as_it_is(listed: Path) -> None:
    clips = Wrong(VideoList.read(listed), config=CONFIG, seed=0)
    batches = TrainBatches(num_videos=6, batch_size=2, epochs=1, seed=0)
    with pytest.raises(RuntimeError, match="a mistake") as error:
        list(train_loader(clips, batches=batches, workers=1))
    assert not isinstance(error.value, WorkerError)
