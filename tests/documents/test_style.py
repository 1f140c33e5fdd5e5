"""Habits that keep the house in order: one noun for one thing, short functions, docstrings that can be searched."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.places import CLONE

FILES = sorted(path for package in ("vswin", "experiments") for path in (CLONE / package).rglob("*.py"))
LONGEST = 80
MOST_MODULES = 5


def nodes(*kinds: type[ast.AST]) -> Iterator[tuple[Path, ast.AST]]:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kinds):
                yield path.relative_to(CLONE), node


def test_a_class_name_is_used_once() -> None:
    places = defaultdict(list)
    for path, node in nodes(ast.ClassDef):
        assert isinstance(node, ast.ClassDef)
        places[node.name].append(str(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_docstrings_open_with_what_a_reader_would_search_for() -> None:
    odd = []
    for path, node in nodes(ast.Module, ast.ClassDef, ast.FunctionDef):
        assert isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        text = ast.get_docstring(node) or ""
        if text.partition(" ")[0] in ("What", "How", "Whether"):
            odd.append(f"{path}:{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}")
    assert odd == []


def test_no_function_is_long() -> None:
    long = []
    for path, node in nodes(ast.FunctionDef):
        assert isinstance(node, ast.FunctionDef)
        lines = (node.end_lineno or 0) - node.lineno + 1
        if lines > LONGEST and "One long function on purpose" not in (ast.get_docstring(node) or ""):
            long.append(f"{path}:{node.lineno}: {node.name}, {lines} lines")
    assert long == []


@pytest.mark.parametrize("package", ["experiments", "vswin"])
def test_few_modules_lie_outside_the_rooms(package: str) -> None:
    flat = [path.name for path in (CLONE / package).glob("*.py") if path.name != "__init__.py"]
    assert len(flat) <= MOST_MODULES, flat
