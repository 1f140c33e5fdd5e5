"""Where a launch can run: the tables of ``slurm/profiles.toml``."""

from __future__ import annotations

import tomllib
from pathlib import Path

_FILE = Path(__file__).resolve().parent.parent / "slurm" / "profiles.toml"


def profiles() -> list[str]:
    """The names of all profiles."""
    return list(tomllib.loads(_FILE.read_text()))
