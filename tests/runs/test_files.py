"""Files appear whole or not at all, and what dead writers left is swept."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vswin.files import whole_file


def write(path: Path, content: bytes = b"whole") -> None:
    with whole_file(path) as file:
        file.write(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def gone() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write(path, b"first")
    with pytest.raises(TypeError), whole_file(path) as file:
        file.write("half")  # type: ignore[arg-type]
    assert path.read_bytes() == b"first"
    assert names(path.parent) == ["file"]


def test_what_dead_writers_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    host, dead, alive = socket.gethostname(), gone(), os.getppid()
    kept = [
        f".file.{host}.{alive}.partial",
        ".file.a.node.17.partial",
        f".other.{host}.{dead}.partial",
        ".file.17.partial",
    ]
    swept = [f".file.{host}.{dead}.partial", ".file.a.node.18.partial", ".file.18.partial"]
    for name in (*kept, *swept):
        (tmp_path / name).write_bytes(b"half")
    long_ago = time.time() - 2 * 86400
    for name in swept[1:]:
        os.utime(tmp_path / name, (long_ago, long_ago))
    write(tmp_path / "file")
    assert names(tmp_path) == sorted([*kept, "file"])


def test_writers_of_two_machines_do_not_share_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with whole_file(tmp_path / "file") as here:
        here.write(b"here")
        monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
        write(tmp_path / "file", b"there")
        assert (tmp_path / "file").read_bytes() == b"there"
    assert (tmp_path / "file").read_bytes() == b"here"
