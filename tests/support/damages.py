"""Everything that happens to files: what a full disk, a kill, a copy or a hand leaves."""

from __future__ import annotations

import os
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
    content[places[path.suffix] if path.suffix in places else digits[0]] ^= 1
    path.write_bytes(content)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nowhere")


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size - 1) + b"\n")


DAMAGES: tuple[Damaging, ...] = (missing, empty, half, flipped, folder, dangling, garbage)
