"""Enums from the names that a caller gives."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

Choice = TypeVar("Choice", bound=StrEnum)


def chosen(kind: type[Choice], value: str, *, name: str) -> Choice:
    """The member of ``kind`` that ``value`` names; ValueError, saying which there are for ``name``, if none."""
    if value not in list(kind):
        raise ValueError(f"expected {name} to be one of {', '.join(map(repr, map(str, kind)))}; got {value!r}")
    return kind(value)
