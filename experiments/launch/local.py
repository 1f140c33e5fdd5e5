"""Launches on this machine, through submitit.

The launcher is the queue: submitit's local executor starts whatever it is given at once, so this
process submits as many jobs as there are places and waits for one to end before it submits the next.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from threading import Event
from types import FrameType

from .. import folders
from ..runs.attempts import Process, Submission, attempts_at
from ..runs.runtime import Runtime
from ..runs.state import RunState
from .executors import LocalJob, Work, local_executor
from .plan import Action, Ended, Step
from .profiles import LOCAL

_POLL_SECONDS = 0.2


def places(runtime: Runtime) -> int:
    """The number of jobs that this machine runs at once: one per GPU, or one per core."""
    return runtime.runs_at_once(gpus=len(_gpus()) if runtime.on_gpu else 0)


def _gpus() -> list[str]:
    """The GPUs that this process may use, by the names of CUDA_VISIBLE_DEVICES."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


@contextmanager
def _handled(
    number: signal.Signals, handler: Callable[[int, FrameType | None], object] | signal.Handlers
) -> Iterator[None]:
    """``handler`` in place of what handles ``number`` otherwise."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def launch_local(
    steps: list[Step],
    *,
    jobs: int,
    runtime: Runtime,
    on_start: Callable[[Step], None],
    on_poll: Callable[[list[Step]], None],
) -> Generator[Ended]:
    """Run ``steps`` on this machine, at most ``jobs`` at once, yielding each as it ends.

    Steps that processes of an earlier launcher still work on take a place, too, and are waited for. ``on_poll`` is
    given the steps under way a few times a second. Closing the generator early makes its jobs save and end.

    A step that waits for upstream runs starts when they are done. Where one of them has failed, or is not among
    ``steps``, it ends without having started.
    """
    # submitit names files by process number, which the system uses again: a folder of its own for every launch
    folder = folders.runs() / steps[0].run.scale / "jobs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    executor = local_executor(folder)
    gpus = _gpus() if runtime.on_gpu else []
    jobs = min(jobs, len(gpus)) if gpus else jobs
    waiting = [step for step in steps if step.action.needs_work or step.action is Action.BLOCKED]
    undone = {run for step in waiting for run in step.waits_for}
    own: dict[Step, LocalJob] = {}
    on_gpu: dict[Step, str] = {}
    active = [step for step in steps if step.action in (Action.RUNNING, Action.PENDING)]
    for step in active:
        submission = Submission.of(step.run.directory)
        if submission and submission.gpu in gpus:
            on_gpu[step] = submission.gpu
            gpus.remove(submission.gpu)
        on_start(step)
    # a handler of its own: where a shell started the launcher in the background, Ctrl-C is ignored by default
    interrupted = Event()
    try:
        with _handled(signal.SIGINT, lambda *_: interrupted.set()):
            while waiting or active:
                coming = {step.run for step in (*waiting, *active)}
                for step in list(waiting):
                    if lost := [run for run in step.waits_for if run in undone and run not in coming]:
                        waiting.remove(step)
                        yield Ended(step, step.run.state(), None, blocked=lost[0])
                while len(active) < jobs and (ready := [each for each in waiting if not undone & {*each.waits_for}]):
                    step = ready[0]
                    waiting.remove(step)
                    if gpus:
                        on_gpu[step] = gpus.pop()
                    attempts = attempts_at(step.run.directory)
                    # Ctrl-C goes to everything below the launcher at once. submitit's controller would die of it and
                    # kill its job a second later; so it ignores it, and the job finishes its step and saves.
                    with _handled(signal.SIGINT, signal.SIG_IGN):
                        own[step] = executor.submit(Work(), [step.run.order], asdict(runtime), gpu=on_gpu.get(step))
                    Submission(
                        profile=LOCAL,
                        at=time.time(),
                        log=str(own[step].paths.stdout),
                        process=Process.of(int(own[step].job_id)),
                        attempts=attempts,
                        gpu=on_gpu.get(step),
                    ).note(step.run.directory)
                    active.append(step)
                    on_start(step)
                time.sleep(_POLL_SECONDS)
                if interrupted.is_set():
                    raise KeyboardInterrupt
                on_poll(active)
                for step in list(active):
                    ours = own.get(step)
                    ended = ours.done() if ours else step.run.state() not in (RunState.RUNNING, RunState.PENDING)
                    if ended:
                        active.remove(step)
                        if step in on_gpu:
                            gpus.append(on_gpu.pop(step))
                        end = Ended(step, step.run.state(), ours.paths.stdout if ours else None)
                        if end.state is RunState.DONE:
                            undone.discard(step.run)
                        yield end
    finally:
        # nothing is left but after Ctrl-C or an error of this process
        _stop([own[step] for step in active if step in own])


def _stop(jobs: list[LocalJob]) -> None:
    """Have ``jobs`` save and end, and wait for them; asked again and again, since one may not listen yet."""
    while jobs := [job for job in jobs if not job.done()]:
        for job in jobs:
            os.kill(int(job.job_id), signal.SIGTERM)
        time.sleep(_POLL_SECONDS)
