"""Files that appear whole (under their name stands what was there before, or all of what was written), and locks."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import ExplainedError

# Writers of other machines cannot be seen. None takes so long for a file.
_ABANDONED_SECONDS = 86400.0


class NoLocksError(ExplainedError, RuntimeError):
    """The file system cannot keep two processes apart."""


@contextmanager
def exclusive(lock: Path, *, folder: str, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the file ``lock``; where another process holds it, call ``on_wait`` once and wait. A killed one holds none.

    ``folder`` is the variable that says where it lies. Raises NoLocksError where the file system has no locks.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                raise
            raise NoLocksError(
                f"{lock}: this file system has no locks, as a Lustre that is mounted without flock; set ${folder} to a "
                "folder on another"
            ) from error
        yield


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
