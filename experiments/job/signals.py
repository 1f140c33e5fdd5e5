"""Stop signals, remembered until the step under way is finished.

submitit's own handler saves, requeues and exits on the spot, in the middle of whatever step is running. So a handler
is put in front of it that only takes a note; the replaced one is called when the state is safely on disk.

Slurm says that a job should stop with the signal it was asked to send (USR2), before its time limit and, on some
clusters, when it preempts. Others preempt with SIGTERM, as does ``scancel``: which of the two it is, Slurm knows.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ..runs import slurm

_SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)
_AWAIT_SECONDS = 60.0


class Stop:
    """A stop signal that has come, if any."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._requeue: Callable[[int, FrameType | None], object] | None = None

    @property
    def requested(self) -> bool:
        """True once a signal has come."""
        return self._number is not None

    @property
    def number(self) -> int | None:
        """The signal that has come."""
        return self._number

    def hand_over(self) -> None:
        """Let submitit requeue the job, where it is to go on by itself; it does not return then.

        Call it when everything is saved. It returns where nobody will start the job again: without submitit, after
        Ctrl-C or ``scancel``, or where the cluster does not let jobs be requeued.
        """
        if self._requeue is None or not self._is_to_go_on():
            return
        try:
            self._requeue(signal.SIGUSR2, None)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"could not be requeued, launch again to go on: {error}", flush=True)

    def _is_to_go_on(self) -> bool:
        if self._number == signal.SIGTERM and _under_submitit_on_slurm():
            return slurm.own_job_goes_on()
        return self._number == signal.SIGUSR2

    def await_end(self) -> None:
        """Wait until Slurm ends this process: srun would kill the first one, which saves and requeues, if this went."""
        if not _under_submitit_on_slurm():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        time.sleep(_AWAIT_SECONDS)

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """The signal handler."""
        self._number = number


def _under_submitit_on_slurm() -> bool:
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Take notes of stop signals while the context lasts; the handlers before it are put back afterwards."""
    stop = Stop()
    replaced = {number: signal.signal(number, stop.note) for number in _SIGNALS}
    before = replaced[signal.SIGUSR2]
    if callable(before):
        stop._requeue = before
    try:
        yield stop
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
