"""The ``vswin`` command, in the order of its journeys. Exit codes: 0 done, 1 something failed, 2 bad usage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from vswin.errors import ExplainedError, UsageError

from . import explore, inference, look_after, results
from . import run as running
from .data import data_app
from .display import fail
from .verify import verify

# By panel of --help, in the order of use.
_COMMANDS: dict[str, dict[str, Callable[..., Any]]] = {
    "Explore": {"doctor": explore.doctor, "list": explore.list_, "show": explore.show, "forecast": explore.forecast},
    "Run": {"check": running.check, "launch": running.launch, "run": running.run},
    "Look after": {"status": look_after.status, "logs": look_after.logs, "cancel": look_after.cancel},
    "Results": {
        "collect": results.collect,
        "verify": verify,
        "tables": results.tables,
        "report": results.report,
        "sync": results.sync,
        "ui": results.ui,
    },
    "Your own videos": {
        "predict": inference.predict,
        "features": inference.features,
        "evaluate": inference.evaluate,
    },
}

app = typer.Typer(name="vswin", no_args_is_help=True, pretty_exceptions_enable=False)
for _panel, _commands in _COMMANDS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(data_app, name="data", rich_help_panel="Data")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"vswin {version('vswin')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version, and stop.")
    ] = False,
) -> None:
    """Reproducibility and ablation suite for Video Swin Transformer (Liu et al. 2021)."""


def main() -> None:
    """Run the ``vswin`` command."""
    try:
        app()
    except UsageError as error:
        fail(str(error), code=2)
    except ExplainedError as error:
        fail(str(error))
