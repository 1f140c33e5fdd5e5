"""Real servers for tests: MLflow's, and PostgreSQL with a data folder of its own."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.patience import eventually
from tests.support.places import CLONE

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_another(folder: Path) -> list[str]:
    """In front of a command that refuses to run as root: runs it as the user postgres, whose ``folder`` then is."""
    if os.geteuid() != 0:
        return []
    subprocess.run(["chown", "-R", "postgres", folder], check=True)
    for parent in folder.parents:
        # pytest's folders are closed to others
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A throw-away PostgreSQL below ``folder``; gives the address for SQLAlchemy."""
    if not POSTGRES:
        pytest.fail("this test needs Debian's package postgresql")
    data, port = folder / "postgres", free_port()
    data.mkdir()
    other = as_another(data)
    [binaries] = POSTGRES
    subprocess.run(
        [*other, binaries / "initdb", "-D", data, "-U", "vswin", "--auth=trust", "--no-sync"],
        check=True,
        capture_output=True,
        cwd="/",
    )
    command = [*other, binaries / "postgres", "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1"]
    command += ["-c", f"unix_socket_directories={data}"]
    with (folder / "postgres.log").open("ab") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
    try:
        ready = [binaries / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
        eventually(
            "PostgreSQL is ready", lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0
        )
        create = [binaries / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "vswin", "mlflow"]
        subprocess.run(create, check=True)
        yield f"postgresql+psycopg2://vswin@127.0.0.1:{port}/mlflow"
    finally:
        # a fast shutdown, which does not wait for clients
        server.send_signal(signal.SIGINT)
        server.wait()


class MlflowServer:
    """``mlflow server`` on loopback, to be killed and started again at the same address."""

    def __init__(self, store: str, folder: Path) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
        self._command += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
        self._command += ["--host", "127.0.0.1", "--port", str(self.port)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "mlflow-server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        if wait:
            process = self._process
            eventually("the server answers", lambda: self.answers() or process.poll() is not None, seconds=600)
            assert process.poll() is None, (self._folder / "mlflow-server.log").read_text()

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def signal(self, number: signal.Signals) -> None:
        """To the server and all its workers."""
        assert self._process
        os.killpg(self._process.pid, number)

    def limit_files(self, size: int) -> None:
        """Let no file that the server writes grow beyond ``size`` bytes: how a full disk looks to a program."""
        assert self._process
        for pid in [self._process.pid, *(child.pid for child in psutil.Process(self._process.pid).children(True))]:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self._process
        self._process.wait()

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
            self.kill()


class ServerJob:
    """What ``slurm/mlflow_server.sbatch`` starts, as a process on this machine; stopped as ``scancel`` would."""

    def __init__(self, store: str, folder: Path, *, host: str) -> None:
        self.folder = folder / "tracking"
        self._host, self._port = host, free_port()
        self.uri = f"http://{host}:{self._port}"
        self._log = folder / "server-job.log"
        self._environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "VSWIN_TRACKING": str(self.folder),
            "VSWIN_TRACKING_HOST": host,
            "VSWIN_TRACKING_PORT": str(self._port),
            # as users write it
            "MLFLOW_BACKEND_STORE_URI": store.replace("+psycopg2", ""),
        }

    @property
    def password(self) -> str:
        """The owner's, for jobs."""
        return (self.folder / "owner-password").read_text().strip()

    def __enter__(self) -> ServerJob:
        script = CLONE / "slurm" / "mlflow_server.sbatch"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                ["bash", script], env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        said = f"MLFLOW_TRACKING_URI={self.uri}"
        eventually(
            "the server answers",
            lambda: said in self._log.read_text() or self._process.poll() is not None,
            seconds=600,
        )
        if self._process.poll() is not None:
            raise RuntimeError(self._log.read_text())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        assert self._process.wait(timeout=60) == 0, self._log.read_text()
