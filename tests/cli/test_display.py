"""Consoles show what they are given, and JSON is JSON."""

from __future__ import annotations

import json

import pytest
from rich.table import Table as Grid
from rich.text import Text

from experiments.cli.display import Terminal, print_json
from experiments.words import printable


def test_what_a_terminal_would_obey_is_shown_instead(capsys: pytest.CaptureFixture[str]) -> None:
    odd = "a\x1b[31m\r\x07\u202e\x9b"
    grid = Grid(box=None)
    grid.add_column("")
    grid.add_row(odd)
    console = Terminal()
    for printed in (odd, Text(odd), grid):
        console.print(printed)
        shown = capsys.readouterr().out
        assert r"a\x1b" in shown
        assert not set("\x1b\r\x07\u202e\x9b") & set(shown)


def test_colours_are_still_there() -> None:
    [wrong, _] = Terminal().render("[red]wrong[/]")
    assert (wrong.text, str(wrong.style)) == ("wrong", "red")


def test_printable_text_stays_as_it_is() -> None:
    for text in ("smörgås\n\tvidéo 日本 ✓", ":100:", "[red]", "العربية"):
        assert printable(text) == text
    assert printable("a\udc80b\x00") == r"a\udc80b\x00"


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": [float("nan"), 1.5], "top1": float("-inf"), "name": "NaN"})
    assert json.loads(capsys.readouterr().out) == {"loss": [None, 1.5], "top1": None, "name": "NaN"}
