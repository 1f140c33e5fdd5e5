"""MLflow's web server behind the gate; as a command, the server of a cluster (``slurm/mlflow_server.sbatch``).

``python -m experiments.tracking.server FOLDER [--host NAME] [--port NUMBER]``, with the database's address in
``$MLFLOW_BACKEND_STORE_URI``: a command line would show a password to everybody on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx
import uvicorn

from vswin.errors import ExplainedError

from .artifacts import Artifacts
from .gate import Gate
from .keys import Keyring, secrets_in

LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")
# of a server that works: one that ends is noticed at once
_START_SECONDS = 300
_STOP_SECONDS = 20
_CALL_SECONDS = 600
_CLUSTER_WORKERS = 2


class ServerError(ExplainedError, RuntimeError):
    """MLflow does not answer, or no port is free; the message says where to look."""


@dataclass(frozen=True)
class Server:
    """MLflow on the database ``store``, open to who has one of ``keys``, at addresses with one of ``names``.

    Files of runs lie below ``artifacts``; what MLflow says goes to ``log``.
    """

    store: str
    keys: Keyring
    artifacts: Path
    log: Path
    names: Collection[str] = LOCAL_NAMES
    workers: int = 1

    def run(self, listener: socket.socket, on_ready: Callable[[], None]) -> None:
        """Answer at ``listener`` until Ctrl-C or SIGTERM, which raise KeyboardInterrupt.

        Raises ServerError if MLflow ends.
        """
        # a shell starts what runs in the background with Ctrl-C ignored
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        self.artifacts.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._mlflow(listener) as (process, path):
            # nothing is kept open between calls: MLflow might close it just when it is used again
            calls = httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(uds=str(path), limits=httpx.Limits(max_keepalive_connections=0)),
                base_url="http://localhost",
                headers={"Accept-Encoding": "identity"},
                timeout=_CALL_SECONDS,
            )
            gate = Gate(calls, keys=self.keys, artifacts=Artifacts(self.artifacts), hosts=self.names)
            # no log of addresses: there is a token in the first one
            config = uvicorn.Config(
                gate, lifespan="off", access_log=False, log_config=None, timeout_graceful_shutdown=5
            )
            server = uvicorn.Server(config)

            def stop_after_mlflow() -> None:
                process.wait()
                server.should_exit = True

            threading.Thread(target=stop_after_mlflow, daemon=True).start()
            on_ready()
            server.run(sockets=[listener])
            raise ServerError(f"MLflow ended with code {process.returncode}; see {self.log}")

    @contextlib.contextmanager
    def _mlflow(self, taken: socket.socket) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """MLflow's own server, on a socket in a folder that nobody else may enter.

        It is told the address of ``taken`` as well, which it cannot have: an MLflow that forgot about the socket would
        end, and not stand there without a gate.
        """
        host, port = taken.getsockname()[:2]
        with tempfile.TemporaryDirectory(prefix="vswin-") as folder:
            path = Path(folder) / "mlflow"
            command = [sys.executable, "-m", "mlflow", "server", "--uvicorn-opts", f"--uds {shlex.quote(str(path))}"]
            command += ["--host", host, "--port", str(port), "--workers", str(self.workers)]
            # files are the gate's
            command += ["--no-serve-artifacts", "--default-artifact-root", "mlflow-artifacts:/"]
            environment = {
                **os.environ,
                "MLFLOW_BACKEND_STORE_URI": self.store,
                "MLFLOW_DISABLE_TELEMETRY": "true",
                # job execution serves language models only, with processes of its own
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            }
            with _own_file(self.log) as output:
                process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
            try:
                self._wait_until_healthy(process, path)
                yield process, path
            finally:
                _end(process)

    def _wait_until_healthy(self, process: subprocess.Popen[bytes], path: Path) -> None:
        deadline = time.monotonic() + _START_SECONDS
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as calls:
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    raise ServerError(f"MLflow ended with code {process.returncode}; see {self.log}")
                with contextlib.suppress(httpx.TransportError):
                    if calls.get("http://localhost/health", timeout=2).is_success:
                        return
                time.sleep(0.3)
        raise ServerError(f"MLflow did not answer within {_START_SECONDS} s; see {self.log}")


def listen(host: str, port: int) -> socket.socket:
    """Take the address ``host``:``port``. Raises OSError if somebody has it."""
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    # connections inherit it; otherwise every answer's second piece waits 40 ms for the first one's acknowledgement
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _own_file(path: Path) -> BinaryIO:
    """Open a file to append to, which nobody else may read from now on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "ab")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> None:
    """Serve a cluster's jobs and those who look at them."""
    parser = argparse.ArgumentParser(prog="python -m experiments.tracking.server")
    parser.add_argument("folder", type=Path, help="secrets and artifacts; nobody else may enter it")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen: a name of this machine")
    parser.add_argument("--port", type=int, default=5000)
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    os.umask(0o077)
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(
        store=os.environ["MLFLOW_BACKEND_STORE_URI"],
        keys=Keyring(secrets_in(folder)),
        artifacts=folder / "artifacts",
        log=folder / "mlflow-server.log",
        names={*LOCAL_NAMES, arguments.host, socket.gethostname(), socket.getfqdn()},
        workers=_CLUSTER_WORKERS,
    )

    def say_where() -> None:
        print(f"MLFLOW_TRACKING_URI=http://{arguments.host}:{arguments.port}")
        print(f"for jobs: name owner, password in {folder / 'owner-password'}", flush=True)

    with listen(arguments.host, arguments.port) as listener, contextlib.suppress(KeyboardInterrupt):
        server.run(listener, say_where)


if __name__ == "__main__":
    main()
