"""Stop signals, remembered until the step under way is finished.

submitit's own handler saves, requeues and exits on the spot, in the middle of whatever step is running. So a handler
is put in front of it that only takes a note; the replaced one is called when the state is safely on disk.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether a stop was asked for."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._requeue: Callable[[int, FrameType | None], object] | None = None

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._number is not None

    def hand_over(self) -> None:
        """Let submitit requeue the job, if the signal was one it asks that with; it does not return then."""
        if self._number == signal.SIGUSR2 and self._requeue is not None:
            self._requeue(self._number, None)

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        self._number = number


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
