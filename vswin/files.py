"""Files that appear whole: under their name stands what was there before, or all of what was written."""

from __future__ import annotations

import glob
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

# Writers of other machines cannot be seen. None takes so long for a file.
_ABANDONED_SECONDS = 86400.0


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which becomes ``path`` once the block ends, forced to disk; a block that raises leaves none.

    What a writer of ``path`` that was killed has left is removed. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    # host and process: several machines may write the same file of a shared disk
    partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _sweep(path: Path) -> None:
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        # no host in the names of earlier versions
        host, _, pid = partial.name.removeprefix(f".{path.name}.").removesuffix(".partial").rpartition(".")
        with suppress(OSError):
            if _is_abandoned(partial, host=host, pid=pid):
                partial.unlink()


def _is_abandoned(partial: Path, *, host: str, pid: str) -> bool:
    if host == socket.gethostname() and pid.isdecimal():
        return not Path(f"/proc/{pid}").exists()
    return time.time() - partial.stat().st_mtime > _ABANDONED_SECONDS
