"""Many pieces of work in several processes, of which one may crash or hang without ending the rest."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from multiprocessing.synchronize import Semaphore
from typing import TypeVar

from pebble import ProcessExpired, ProcessPool

Item = TypeVar("Item")
Result = TypeVar("Result")

# Pieces that wait for a free process. More would only take memory.
_AHEAD = 4
# How long a process may take to start before nobody waits for it any more.
_START_SECONDS = 30.0


@dataclass(frozen=True)
class Lost:
    """A piece of work that ended with its process; ``why`` goes on from "the process"."""

    why: str


def outcomes(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int, seconds: float
) -> Generator[tuple[Item, Result | Lost], None, None]:
    """``work`` on every item, in ``workers`` processes; gives item and result as they come, in any order.

    An item whose process dies, or that takes longer than ``seconds``, comes with Lost; others go on. What ``work``
    raises is raised here. No process is left when the iteration ends; close it where it is left early.
    """
    # Fresh processes: a copy of one that runs threads, as torch does, may hang.
    context = get_context("spawn")
    started = context.Semaphore(0)
    pool = ProcessPool(max_workers=workers, context=context, initializer=_release, initargs=[started])
    remaining = iter(items)
    active: dict[Future[Result], Item] = {}
    begun = False
    try:
        while True:
            for item in islice(remaining, workers * _AHEAD - len(active)):
                active[pool.schedule(work, args=[item], timeout=seconds)] = item
                begun = True
            if not active:
                break
            for future in wait(active, return_when=FIRST_COMPLETED).done:
                item = active.pop(future)
                outcome = _result(future, seconds=seconds)
                yield item, outcome
        # Few items are done before the last process has started, and it would complain if the pool went meanwhile.
        for _ in range(workers if begun else 0):
            started.acquire(timeout=_START_SECONDS)
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


def _release(started: Semaphore) -> None:
    started.release()


def _result(future: Future[Result], *, seconds: float) -> Result | Lost:
    try:
        return future.result()
    # What pebble raises for work that took too long.
    except TimeoutError:
        return Lost(f"did not end within {seconds:g} s")
    except ProcessExpired as error:
        return Lost(f"died ({_cause(error.exitcode)})")


def _cause(code: int) -> str:
    return signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
