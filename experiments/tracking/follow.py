"""A process that keeps MLflow up to date with runs under way.

A process, so that a training or a launcher never waits for a tracker, shares no interpreter with it and forks no
thread of it. Whatever the store does (away, slow, hanging, full), this process tries again, ever more rarely.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO

from .. import folders
from ..registry.catalogue import experiments
from ..registry.recipe import Scale
from ..runs.run import Run
from ..runs.state import RunState
from .told import is_behind

_CLONE = folders.CLONE
_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 30.0
# At the end: how often, and how long apart, before what is missing is left to `vswin sync`.
_LAST_TRIES = 3
_LAST_PAUSE_SECONDS = 1.0
# A follower that does not stir for so long is in a call that does not return.
_SILENT_SECONDS = 40.0
_NICE = 5
# Stores that many nodes may write to at once.
_SERVERS = ("http", "postgresql", "mysql", "mssql")
# What Slurm tells every process of a job; whoever follows is ended by the end of its orders.
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def is_allowed() -> bool:
    """True where this process may write to the store: several nodes must not share one SQLite file."""
    return "SLURM_JOB_ID" not in os.environ or folders.tracking_uri().startswith(_SERVERS)


class Follower:
    """Starts the process; ``add`` tells it of runs, ``finish`` has it send the rest and says what is missing.

    Use as a context manager: left by an exception, it finishes as well.
    """

    def __init__(self, scale: Scale) -> None:
        self._runs: set[Run] = set()
        self._failure = "" if is_allowed() else "jobs do not write to SQLite"
        self._heard_at = time.monotonic()
        self._process: subprocess.Popen[str] | None = None
        self._report: str | None = None
        if self._failure:
            return
        try:
            self._start(scale)
        except OSError as error:
            # a full disk, no memory: no reason not to train
            self._failure = f"its process could not be started: {error}"

    def _start(self, scale: Scale) -> None:
        path = os.pathsep.join([str(_CLONE), *filter(None, [os.environ.get("PYTHONPATH")])])
        log = folders.runs() / scale / "mlflow-follower.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            # -P: a folder called experiments in the current directory is not ours. A session of its own: Ctrl-C is
            # for the launcher, which then has it finish.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "experiments.tracking.follow", scale],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
            )
        Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def add(self, run: Run) -> None:
        """Follow ``run``; again, if it goes on after it ended."""
        self._runs.add(run)
        if self._process and self._process.stdin:
            try:
                print(json.dumps([run.experiment.name, run.seed]), file=self._process.stdin, flush=True)
            except OSError:
                self._failure = "its process died; see mlflow-follower.log"

    def finish(self) -> str:
        """Have the rest sent, as long as anything moves; says in words what then is still missing, empty if nothing."""
        if self._report is None:
            if self._process:
                self._wait(self._process)
            missing = sum(map(is_behind, self._runs))
            reason = self._failure or "its process died; see mlflow-follower.log"
            self._report = f"{missing} of {len(self._runs)} runs are not all there ({reason})" if missing else ""
        return self._report

    def _wait(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin
        # the process may be dead already
        with contextlib.suppress(OSError):
            process.stdin.close()
        self._heard_at = time.monotonic()
        while process.poll() is None and time.monotonic() - self._heard_at < _SILENT_SECONDS:
            time.sleep(0.05)
        if process.poll() is None:
            self._failure = f"no answer within {_SILENT_SECONDS:.0f} s"
            process.kill()
        process.wait()

    def _listen(self) -> None:
        assert self._process
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                self._heard_at = time.monotonic()
                if line.strip():
                    self._failure = json.loads(line)


def main(scale: Scale, orders: IO[str], answers: IO[str]) -> None:
    """Follow the runs named in ``orders``, a JSON line each, until it ends; then send the rest.

    ``answers`` gets a line after every call that the store answered: empty, or in JSON why something failed.
    """
    from .mirror import Mirror

    os.nice(_NICE)
    by_name = {experiment.name: experiment for experiment in experiments(scale)}
    told: SimpleQueue[tuple[str, int] | None] = SimpleQueue()

    def listen() -> None:
        for line in orders:
            name, seed = json.loads(line)
            told.put((name, seed))
        told.put(None)

    def say(failure: str | None = None) -> None:
        # whoever started this may be gone
        with contextlib.suppress(OSError):
            print("" if failure is None else json.dumps(failure), file=answers, flush=True)

    Thread(target=listen, daemon=True).start()
    mirror = Mirror(on_call=say)
    # in the order of their orders
    followed: dict[Run, None] = {}
    ended: set[Run] = set()
    pause = _PAUSE_SECONDS
    last_tries: int | None = None
    while True:
        for order in _orders(told, seconds=pause if last_tries is None else _LAST_PAUSE_SECONDS):
            if order is None:
                last_tries = _LAST_TRIES
                continue
            run = Run(by_name[order[0]], order[1])
            followed[run] = None
            ended.discard(run)
        due = [run for run in followed if run not in ended or is_behind(run)]
        pushed = mirror.round(due)
        say(next(iter(pushed.failures.values()), ""))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS) if pushed.failures else _PAUSE_SECONDS
        ended |= {run for run in due if run.state() is RunState.DONE}
        if last_tries is not None:
            last_tries -= 1
            if not pushed.failures or not last_tries:
                return


def _orders(told: SimpleQueue[tuple[str, int] | None], *, seconds: float) -> Iterable[tuple[str, int] | None]:
    """The orders of the next ``seconds``; at once where the last of all, None, is among them."""
    orders: list[tuple[str, int] | None] = []
    deadline = time.monotonic() + seconds
    while None not in orders:
        try:
            orders.append(told.get(timeout=max(0.0, deadline - time.monotonic())))
        except Empty:
            break
    return orders


if __name__ == "__main__":
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    # whatever else anybody prints goes to the log
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        main(Scale(sys.argv[1]), sys.stdin, out)
