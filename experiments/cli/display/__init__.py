"""Output of the commands: consoles, JSON and errors here, each kind of content in a module of its own."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from ...words import printable


class Terminal(Console):
    """A console that shows names of users as they are: no emoji for ``:100:``, and nothing that a terminal obeys.

    Markup is read in what is printed, unless ``markup=False``: escape what is not written here.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(highlight=False, emoji=False, stderr=stderr)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # what rich itself has to say to the terminal is marked as such
            yield segment if segment.control else segment._replace(text=printable(segment.text))


# Standard output, and standard error: nothing may change them, since commands in one process share them.
console = Terminal()
errors = Terminal(stderr=True)


def messages(as_json: bool) -> Console:
    """The console for messages: with JSON, standard output is for that alone."""
    return errors if as_json else console


def print_json(content: Any) -> None:
    """``content`` as JSON on standard output, for scripts. JSON has no NaN and no infinity: they become null."""
    sys.stdout.write(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def _finite(content: Any) -> Any:
    match content:
        case float() if not math.isfinite(content):
            return None
        case dict():
            return {name: _finite(value) for name, value in content.items()}
        case list() | tuple():
            return [_finite(value) for value in content]
        case _:
            return content


def fail(message: str, *, code: int = 1) -> NoReturn:
    """End the command with ``message`` on standard error: 1 something failed, 2 bad usage."""
    print(f"vswin: {printable(message)}", file=sys.stderr)
    raise SystemExit(code)
