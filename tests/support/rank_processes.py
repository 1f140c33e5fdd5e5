"""Real processes for tests of training: each is forked from one that has torch imported, so that it starts at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import traceback
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch.distributed", "vswin.training.train", "vswin.data.loaders", "vswin.models"])


def started(target: Callable[..., Any], *arguments: Any, leaving: Path, **variables: str) -> BaseProcess:
    """A process that calls ``target``, with ``variables`` in its environment, and writes what came of it."""
    process = _CONTEXT.Process(target=_call, args=(target, arguments, leaving, variables))
    process.start()
    return process


def ranks(target: Callable[..., Any], *arguments: Any, size: int, folder: Path) -> list[BaseProcess]:
    """``size`` processes with the environment that torchrun gives; rank n leaves ``folder/n.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    return [
        started(
            target,
            *arguments,
            leaving=folder / f"{rank}.json",
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(size),
            **meeting,
        )
        for rank in range(size)
    ]


def ended(processes: list[BaseProcess], *, seconds: float = 120) -> None:
    """Wait for all to end; kills them and fails where they do not."""
    for process in processes:
        process.join(seconds)
    late = [process for process in processes if process.is_alive()]
    for process in late:
        process.kill()
        process.join()
    assert not late, f"{len(late)} of {len(processes)} processes did not end within {seconds} s"


def left(folder: Path) -> list[dict[str, Any]]:
    """What each rank left: ``{"value": ...}`` or ``{"error": kind, "message": ...}``."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def _call(target: Callable[..., Any], arguments: tuple[Any, ...], leaving: Path, variables: dict[str, str]) -> None:
    os.environ.update(variables)
    # The fork server is one for all. A loader with workers may have started it, which keeps stop signals from it.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # it would pass on how it was started itself; loaders start their workers as anywhere else
    multiprocessing.set_start_method("fork", force=True)
    try:
        content = {"value": target(*arguments)}
    except Exception as error:
        traceback.print_exc()
        content = {"error": type(error).__name__, "message": str(error)}
    leaving.write_text(json.dumps(content))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
