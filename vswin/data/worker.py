"""A worker process: it outlives the signals that ask its parent to stop, and never its parent."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait

# What Ctrl-C, Slurm and submitit send to every process of a job. The parent finishes its step and needs its workers.
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def start(number: int) -> None:
    """Prepare worker ``number``; for the ``worker_init_fn`` of a DataLoader."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes started inside never get stop signals, nor do theirs: what is blocked is inherited.

    To ignore the signals in the workers is not enough. The fork server and the process that tracks its resources would
    die of them, and workers have a moment before they can ignore anything. In the calling thread, signals wait until
    the context is left. Python has one fork server per process: whatever else a program starts through it has these
    signals blocked too, and can unblock them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        # It starts with the first process, and lets Ctrl-C and SIGTERM through again when it does.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Show where this process hangs, and end it, unless the context is left within ``seconds``."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _end_with_parent() -> None:
    # torch looks at the parent's id, but a worker's parent is the fork server, which waits for its workers in turn:
    # a killed run would leave both behind.
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
