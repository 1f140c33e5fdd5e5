"""One process at a time."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from ..files import exclusive


def only_one(lock: Path) -> AbstractContextManager[None]:
    """Waits until no other process is inside; a killed one is not inside any more. Makes the folder of ``lock``.

    Raises NoLocksError where the file system of ``$VSWIN_DATA`` has no locks.
    """
    return exclusive(lock, folder="VSWIN_DATA")
