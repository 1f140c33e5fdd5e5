"""A piece of work that crashes or hangs costs itself only, and no process is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from vswin.data.upkeep.parallel import Lost, outcomes


def square(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 5:
        time.sleep(600)
    if number == 7:
        os._exit(3)
    return number * number


def test_others_go_on_when_a_process_dies_or_hangs() -> None:
    found = dict(outcomes(square, range(20), workers=2, seconds=2))
    assert found.pop(3) == Lost("died (SIGSEGV)")
    assert found.pop(5) == Lost("did not end within 2 s")
    assert found.pop(7) == Lost("died (exit code 3)")
    assert found == {number: number * number for number in range(20) if number not in (3, 5, 7)}
    assert multiprocessing.active_children() == []


def test_a_process_that_is_late_does_not_complain(capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        assert list(outcomes(abs, [-1], workers=6, seconds=60)) == [(-1, 1)]
    assert multiprocessing.active_children() == []
    assert capfd.readouterr().err == ""


def test_what_work_raises_is_raised() -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list(outcomes(os.listdir, ["/nowhere"], workers=1, seconds=60))
    assert multiprocessing.active_children() == []


def touch_and_wait(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(0 if path.name == "0" else 600)


def test_leaving_early_ends_what_is_under_way(tmp_path: Path) -> None:
    with closing(outcomes(touch_and_wait, [tmp_path / "0", tmp_path / "1"], workers=2, seconds=600)) as found:
        next(found)
    assert multiprocessing.active_children() == []
    for path in tmp_path.iterdir():
        assert not Path(f"/proc/{path.read_text()}").exists()
