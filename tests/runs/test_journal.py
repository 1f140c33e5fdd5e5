"""The journal loses nothing and holds every step once."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments.files import DamagedError
from experiments.runs.journal import Journal, JournalError, last, missing_steps, read


def entries(path: Path) -> list[tuple[int, dict[str, float]]]:
    return [(entry.step, dict(entry.metrics)) for entry, _ in read(path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def test_follows_from_an_offset(path: Path) -> None:
    with Journal(path) as journal:
        journal.write(1, {"train/loss": 2.0})
        [(first, offset)] = read(path)
        assert (first.step, first.metrics) == (1, {"train/loss": 2.0})
        assert list(read(path, offset=offset)) == []
        journal.write(2, {"train/loss": 1.0})
        assert [entry.step for entry, _ in read(path, offset=offset)] == [2]


def test_torn_last_line_is_cut_and_written_again(path: Path) -> None:
    journal = Journal(path)
    journal.write(1, {"train/loss": 2.0})
    journal.write(2, {"train/loss": 1.0})
    journal.close()
    whole = path.read_bytes()
    for length in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:length])
        assert [step for step, _ in entries(path)] == [1]
        again = Journal(path)
        again.write(2, {"train/loss": 1.0})
        again.close()
        assert [step for step, _ in entries(path)] == [1, 2]


def test_recomputed_step_is_compared_and_not_written_twice(path: Path) -> None:
    first = Journal(path)
    for step in (1, 2, 3):
        first.write(step, {"train/loss": 1 / step, "speed/clips_per_second": 10.0})
    first.close()
    second = Journal(path)
    # speed measures the machine and may differ
    second.write(2, {"train/loss": 1 / 2, "speed/clips_per_second": 99.0})
    with pytest.raises(JournalError, match="step 3 was computed again after a resume and train/loss differs"):
        second.write(3, {"train/loss": 0.3334, "speed/clips_per_second": 10.0})
    second.write(4, {"train/loss": 1 / 4})
    second.close()
    assert [step for step, _ in entries(path)] == [1, 2, 3, 4]


def test_what_another_machine_computes_again_is_not_compared(path: Path) -> None:
    with Journal(path) as first:
        first.write(1, {"train/loss": 2.0})
    with Journal(path, compared_after=1) as second:
        second.write(1, {"train/loss": 2.0000001})
        second.write(2, {"train/loss": 1.0})
    assert entries(path) == [(1, {"train/loss": 2.0}), (2, {"train/loss": 1.0})]
    with Journal(path, compared_after=1) as third:
        third.write(1, {"train/loss": 2.0000001})
        with pytest.raises(JournalError, match="step 2"):
            third.write(2, {"train/loss": 1.0000001})


def test_a_device_that_rounds_otherwise_each_time_is_no_error(path: Path) -> None:
    with Journal(path) as first:
        for step in (1, 2, 3):
            first.write(step, {"train/loss": 1 / step})
    told: list[str] = []
    with Journal(path, on_difference=told.append) as second:
        second.write(2, {"train/loss": 0.5000001})
        # what follows from it differs as well, and is not told again
        second.write(3, {"train/loss": 0.3333334})
        second.write(4, {"train/loss": 0.25})
    assert len(told) == 1
    assert (
        "step 2 was computed again after a resume and train/loss differs: the journal has 0.5, now 0.5000001" in told[0]
    )
    assert entries(path) == [(step, {"train/loss": 1 / step}) for step in (1, 2, 3, 4)]


def test_an_owner_that_lost_its_run_writes_nothing(path: Path) -> None:
    def fenced() -> None:
        raise RuntimeError("fenced")

    with Journal(path, check_owner=fenced) as journal, pytest.raises(RuntimeError, match="fenced"):
        journal.write(1, {"train/loss": 2.0})
    assert path.read_bytes() == b""


def flipped(line: bytes) -> Iterator[bytes]:
    """``line`` with each bit flipped in turn, but for those that make two lines of it."""
    for place in range(len(line)):
        for bit in range(8):
            content = bytearray(line)
            content[place] ^= 1 << bit
            if b"\n" not in content:
                yield bytes(content)


def test_any_flipped_bit_is_named(path: Path) -> None:
    with Journal(path) as journal:
        for step in (1, 2, 3):
            journal.write(step, {"train/loss": 1 / step})
    first, second, third = path.read_bytes().splitlines(keepends=True)
    for line in flipped(second[:-1]):
        path.write_bytes(first + line + b"\n" + third)
        with pytest.raises(DamagedError, match=r"journal\.jsonl: .*cut the file before that line"):
            list(read(path))


def test_lines_of_earlier_versions_are_read(path: Path) -> None:
    path.write_text('{"step":1,"time":2.5,"metrics":{"train/loss":1.0}}\n')
    with Journal(path) as journal:
        journal.write(2, {"train/loss": 0.5})
    assert entries(path) == [(1, {"train/loss": 1.0}), (2, {"train/loss": 0.5})]


@pytest.mark.parametrize(("left", "lost"), [(3, (4, 30)), (0, (1, 30)), (30, None)])
def test_steps_that_a_checkpoint_is_ahead_are_marked(path: Path, left: int, lost: tuple[int, int] | None) -> None:
    with Journal(path) as journal:
        for step in range(1, 31):
            journal.write(step, {"train/loss": 1 / step})
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:left]))
    assert missing_steps(path, last=30) == ((lost,) if lost else ())
    told: list[str] = []
    with Journal(path, warn=told.append) as journal:
        journal.write(31, {"train/loss": 1 / 31})
        journal.write(32, {"train/loss": 1 / 32})
    *_, thirty_first, thirty_second = [entry for entry, _ in read(path)]
    assert (thirty_first.missing, thirty_second.missing) == (lost, None)
    assert len(told) == (lost is not None)
    if lost:
        assert f"steps {lost[0]} to {lost[1]} are missing in {path}" in told[0]
    assert missing_steps(path, last=31) == ((lost,) if lost else ())


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("something else\n")
    other.rename(path)


@pytest.mark.parametrize("damage", [Path.unlink, replaced], ids=["deleted", "replaced"])
def test_a_journal_in_use_is_restored(path: Path, damage: Callable[[Path], None]) -> None:
    with Journal(path) as journal:
        journal.write(1, {"train/loss": 2.0})
    told: list[str] = []
    with Journal(path, warn=told.append) as journal:
        journal.write(2, {"train/loss": 1.0})
        damage(path)
        journal.sync()
        assert [step for step, _ in entries(path)] == [1, 2]
        journal.write(3, {"train/loss": 0.5})
        damage(path)
    assert [step for step, _ in entries(path)] == [1, 2, 3]
    assert len(told) == 2
    assert "while it was in use; it is restored" in told[0]


def test_a_run_that_was_moved_aside_is_not_made_anew(path: Path) -> None:
    def owner() -> None:
        if not path.exists():
            raise RuntimeError("fenced")

    journal = Journal(path, check_owner=owner)
    journal.write(1, {"train/loss": 2.0})
    path.rename(path.with_name("aside"))
    for use in (journal.sync, journal.close):
        with pytest.raises(RuntimeError, match="fenced"):
            use()
    assert not path.exists()


@pytest.mark.parametrize("size", [0, 50])
def test_a_journal_that_is_cut_while_in_use_is_an_error(path: Path, size: int) -> None:
    journal = Journal(path)
    journal.write(1, {"train/loss": 2.0})
    journal.write(2, {"train/loss": 1.0})
    os.truncate(path, size)
    journal.write(3, {"train/loss": 0.5})
    for use in (journal.sync, journal.close):
        with pytest.raises(JournalError, match="it was cut, or written to, while it was in use; start this run again"):
            use()


def test_reading_a_journal_that_is_not_there(path: Path) -> None:
    assert entries(path) == []


def test_the_last_entry_is_found_without_reading_all(path: Path) -> None:
    assert last(path) is None
    path.write_bytes(b'{"step":1,')
    assert last(path) is None
    path.unlink()
    with Journal(path) as many:
        for step in range(1, 2001):
            many.write(step, {"train/loss": 1 / step})
    for torn in (b"", b'{"step":2001,"ti'):
        with path.open("ab") as file:
            file.write(torn)
        newest = last(path)
        assert newest is not None
        assert (newest.step, newest.metrics) == (2000, {"train/loss": 1 / 2000})
    # a line longer than the piece that is read first
    with path.open("wb") as file:
        file.write(b'{"step":1,"time":2.0,"metrics":{"' + 100_000 * b"x" + b'":3.0}}\n')
    assert last(path) is not None


@pytest.mark.parametrize("line", [b"garbage\n", b"{}\n", b"[1]\n", b'{"step": 3}\n', b"\xff\n"])
def test_a_line_that_is_no_entry_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.write(1, {"train/loss": 1.0})
    with path.open("ab") as file:
        file.write(line)
    for use in (lambda: list(read(path)), lambda: last(path), lambda: Journal(path)):
        with pytest.raises(DamagedError, match=r"journal\.jsonl: .*cut the file before that line"):
            use()
