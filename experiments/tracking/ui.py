"""MLflow's own pages for one user: started on loopback behind the gate, or those of a server that runs already."""

from __future__ import annotations

import contextlib
import secrets
import socket

from rich.console import Console

from .. import folders
from ..registry.recipe import Scale
from ..registry.table import Table
from . import saved_views
from .keys import Keyring, view_token
from .mirror import Mirror
from .server import Server, ServerError, listen

_HOST = "127.0.0.1"
_PORTS = 100


def serve(console: Console, *, scale: Scale, table: Table | None, port: int) -> None:
    """Run the server in the foreground until Ctrl-C, the address printed once it answers."""
    mirror = Mirror(folders.tracking_uri())
    experiment = mirror.experiment_id(scale)
    if mirror.uri.startswith("http"):
        # a server is running already: point to it
        root = folders.tracking_address().rstrip("/")
        token = view_token(mirror.secret) if mirror.secret else None
        _print_addresses(console, _root(root, token), experiment=experiment, table=table)
        return
    console.print("starting the MLflow UI")
    token = secrets.token_urlsafe(24)
    server = Server(
        store=mirror.uri,
        keys=Keyring(lambda: {"you": token}),
        artifacts=folders.mlflow_artifacts(),
        log=folders.runs() / "mlflow-server.log",
    )

    def print_addresses() -> None:
        console.print("MLflow UI, for you on this machine only; Ctrl-C stops it:")
        root = _root(f"http://{_HOST}:{listener.getsockname()[1]}", token)
        _print_addresses(console, root, experiment=experiment, table=table)

    with _listen(port) as listener, contextlib.suppress(KeyboardInterrupt):
        server.run(listener, print_addresses)


def _root(address: str, token: str | None) -> str:
    return f"{address}/?token={token}" if token else f"{address}/"


def _print_addresses(console: Console, root: str, *, experiment: str, table: Table | None) -> None:
    console.print(saved_views.address(root, experiment=experiment, table=table), soft_wrap=True)
    if table is not None:
        console.print("its rows, one line each, as in the paper:")
        console.print(saved_views.rows_address(root, experiment=experiment, table=table), soft_wrap=True)
        console.print("the runs one by one, not grouped:")
        console.print(saved_views.filtered_address(root, experiment=experiment, table=table), soft_wrap=True)


def _listen(first: int) -> socket.socket:
    for port in range(first, min(first + _PORTS, 2**16)):
        with contextlib.suppress(OSError):
            return listen(_HOST, port)
    raise ServerError(f"no free port between {first} and {first + _PORTS - 1}")
