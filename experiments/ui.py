"""Starts MLflow's own web server on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from rich.console import Console

from . import folders, saved_views
from .recipe import Scale
from .registry import Table
from .tracking import Mirror

_HOST = "127.0.0.1"
# of a server that works: one that ends is noticed at once
_START_SECONDS = 300


def serve(console: Console, *, scale: Scale, table: Table | None, port: int) -> None:
    """Run the server in the foreground until Ctrl-C, the address printed once it answers."""
    uri = folders.tracking_uri()
    experiment = Mirror(uri).experiment_id(scale)
    if uri.startswith("http"):
        # a server is running already: point to it
        _print_addresses(console, folders.tracking_address().rstrip("/"), experiment=experiment, table=table)
        return
    port = _free_port(port)
    command = [sys.executable, "-m", "mlflow", "server", "--host", _HOST]
    command += ["--port", str(port), "--workers", "1"]
    log = folders.runs() / "mlflow-server.log"
    # ended by either signal the server goes along; a shell starts what runs in the background with Ctrl-C ignored
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    # job execution serves language models only, with processes of its own
    environment = {
        **os.environ,
        # not as an argument, which everybody on this machine sees: there may be a password in it
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    console.print("starting the MLflow UI")
    with log.open("ab") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environment) as server:
        try:
            _wait_until_healthy(server, port)
            console.print("MLflow UI, on this machine only; Ctrl-C stops it:")
            _print_addresses(console, f"http://{_HOST}:{port}", experiment=experiment, table=table)
            server.wait()
        except KeyboardInterrupt:
            pass
        finally:
            server.terminate()


def _print_addresses(console: Console, root: str, *, experiment: str, table: Table | None) -> None:
    console.print(saved_views.address(root, experiment=experiment, table=table), soft_wrap=True)
    if table is not None:
        console.print("the same runs one by one, not grouped:")
        console.print(saved_views.filtered_address(root, experiment=experiment, table=table), soft_wrap=True)


def _free_port(first: int) -> int:
    for port in range(first, first + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port between {first} and {first + 99}")


def _wait_until_healthy(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the MLflow server ended with code {server.returncode}; see mlflow-server.log")
        try:
            with urllib.request.urlopen(f"http://{_HOST}:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise RuntimeError(f"the MLflow server did not answer within {_START_SECONDS} s; see mlflow-server.log")
