"""Everything that happens to files: what a full disk, a kill, a copy or a hand leaves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

Damaging = Callable[[Path], None]


def missing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    """One bit, in the first number of a text or in the middle of an archive."""
    content = bytearray(path.read_bytes())
    digits = [place for place, byte in enumerate(content) if chr(byte).isdigit()]
    places = {".npz": len(content) // 3, ".safetensors": 2 * len(content) // 3}
    content[places[path.suffix] if path.suffix in places else (digits or [len(content) // 2])[0]] ^= 1
    path.write_bytes(content)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nowhere")


def looping(path: Path) -> None:
    """A link to itself: as a file that may not be read, also for root."""
    path.unlink()
    path.symlink_to(path)


def unreadable(path: Path) -> None:
    path.chmod(0)


def copied(path: Path) -> None:
    """A copy beside it, as a file manager names them."""
    shutil.copy(path, path.with_name(f"{path.stem} (1){path.suffix}"))


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size - 1) + b"\n")


DAMAGES: tuple[Damaging, ...] = (missing, empty, half, flipped, folder, dangling, garbage)
