"""The state of a run is seen as it is; a later attempt fences an earlier one off."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.files import DamagedError, NoLocksError, locked, write_json, write_text
from experiments.registry.catalogue import find_experiment, find_variant
from experiments.registry.recipe import Scale
from experiments.runs.attempts import AlreadyRunningError, Attempt, FencedError, Ownership, Process, Submission
from experiments.runs.directory import RunDirectory
from experiments.runs.run import Run, existing
from experiments.runs.state import RunState, state_of
from vswin.data.exclusive import only_one

PROTOCOL = "abcdef"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path))
    return RunDirectory(Scale.TINY, "0123456789", 0)


def gone() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def submit(run: RunDirectory, pid: int) -> None:
    Submission(profile="local", at=time.time(), log="", process=Process.of(pid)).note(run)


def die(run: RunDirectory) -> None:
    """Make it look as if the process that owns the run had ended."""
    write_json(run.attempt, {**json.loads(run.attempt.read_text()), "pid": gone()})


def test_life_of_a_run(run: RunDirectory) -> None:
    assert state_of(run, [PROTOCOL]) is RunState.NEW
    submit(run, os.getpid())
    assert state_of(run, [PROTOCOL]) is RunState.PENDING
    Ownership(run)
    assert state_of(run, [PROTOCOL]) is RunState.RUNNING
    die(run)
    submission = json.loads(run.submission.read_text())
    write_json(run.submission, {**submission, "process": {**submission["process"], "pid": gone()}})
    assert state_of(run, [PROTOCOL]) is RunState.INTERRUPTED
    write_text(run.error, "Traceback ...\nValueError: no\n")
    assert (state_of(run, [PROTOCOL]), run.last_error()) == (RunState.FAILED, "ValueError: no")
    write_text(run.result(PROTOCOL), "{}")
    assert state_of(run, [PROTOCOL]) is RunState.DONE


@pytest.mark.parametrize("changed", [{"ticks": 1}, {"boot": "another start of this machine"}])
def test_a_reused_process_number_is_not_the_same_process(changed: dict[str, object], run: RunDirectory) -> None:
    Ownership(run)
    assert state_of(run, [PROTOCOL]) is RunState.RUNNING
    write_json(run.attempt, {**json.loads(run.attempt.read_text()), **changed})
    assert state_of(run, [PROTOCOL]) is RunState.INTERRUPTED


def test_a_process_of_another_machine_is_judged_by_what_it_writes(run: RunDirectory) -> None:
    Ownership(run)
    write_json(run.attempt, {**json.loads(run.attempt.read_text()), "host": "elsewhere", "pid": gone()})
    assert state_of(run, [PROTOCOL]) is RunState.RUNNING
    long_ago = time.time() - 3600
    os.utime(run.attempt, (long_ago, long_ago))
    assert state_of(run, [PROTOCOL]) is RunState.INTERRUPTED
    run.journal.touch()
    assert state_of(run, [PROTOCOL]) is RunState.RUNNING


def test_a_test_of_hours_shows_other_machines_that_it_lives(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes no line of the journal before its end."""
    monkeypatch.setattr("experiments.runs.attempts._LIFE_SECONDS", 0)
    owner = Ownership(run)
    write_json(run.attempt, {**json.loads(run.attempt.read_text()), "host": "elsewhere", "pid": gone()})
    long_ago = time.time() - 3600
    os.utime(run.attempt, (long_ago, long_ago))
    assert state_of(run, [PROTOCOL]) is RunState.INTERRUPTED
    owner.show_life()
    assert state_of(run, [PROTOCOL]) is RunState.RUNNING


def test_two_attempts_at_once_are_refused(run: RunDirectory) -> None:
    Ownership(run)
    with pytest.raises(AlreadyRunningError, match=f"process {os.getpid()} of .* is working on"):
        Ownership(run)


def test_a_zombie_does_not_work(run: RunDirectory) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    # it has ended, and nobody has asked how: a zombie
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not Process.of(process.pid).alive
    process.wait()


def test_the_newest_attempt_owns_the_run(run: RunDirectory) -> None:
    first = Ownership(run)
    first.check()
    die(run)
    second = Ownership(run)
    assert (first.number, second.number) == (1, 2)
    second.check()
    with pytest.raises(FencedError, match="a later attempt owns"):
        first.check()


def test_the_last_error_is_the_whole_message(run: RunDirectory) -> None:
    first = "Traceback ...\n  File x\nKeyError: 1\n\nDuring handling ...\n"
    write_text(run.error, f"{first}Traceback ...\n  File y\nvswin.BrokenError: two of them:\n  a.mp4\nrun: check\n")
    assert run.last_error() == "vswin.BrokenError: two of them: a.mp4 run: check"
    write_text(run.error, "Traceback ...\nKeyboardInterrupt\n")
    assert run.last_error() == "KeyboardInterrupt"


def test_a_new_attempt_clears_the_error(run: RunDirectory) -> None:
    Ownership(run)
    write_text(run.error, "ValueError: no")
    die(run)
    Ownership(run)
    assert run.last_error() == ""


def test_lock_is_held_by_one(tmp_path: Path) -> None:
    waited = []
    with locked(tmp_path / "lock"):
        code = (
            "from pathlib import Path; from experiments.files import locked\n"
            f"with locked(Path({str(tmp_path / 'lock')!r}), on_wait=lambda: print('waiting', flush=True)): print('in')"
        )
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        waited.append(other.stdout.readline())
        assert other.poll() is None
    assert (waited, other.communicate()[0]) == (["waiting\n"], "in\n")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_named(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(file: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    for lock, folder in ((locked, "VSWIN_RUNS"), (only_one, "VSWIN_DATA")):
        with (
            pytest.raises(NoLocksError, match=rf"lock: this file system has no locks.*\${folder}"),
            lock(tmp_path / "lock"),
        ):
            pass


def test_a_copy_beside_a_run_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path))
    found = find_experiment(Scale.TINY, find_variant("table4/split"))
    folder = Run(found, 0).directory.path
    for name in ("seed-10", "seed-0", "seed-1.bak", "seed-01", "seed-", "seed-2 (1)"):
        folder.with_name(name).mkdir(parents=True)
    assert [run.seed for run in existing([found])] == [0, 10]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"number": 1}', b"\xff\xfe"])
def test_a_damaged_note_of_a_run_is_named(run: RunDirectory, content: bytes) -> None:
    for file, read in ((run.attempt, Attempt.of), (run.submission, Submission.of)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        with pytest.raises(DamagedError, match="it holds no result: delete it") as caught:
            read(run)
        assert caught.value.damage.file == file
        file.unlink()
