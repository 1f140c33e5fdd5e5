"""Errors of look-ups: names that the registry does not have."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from vswin.errors import UsageError

from .recipe import Scale


class UnknownNameError(UsageError, LookupError):
    """A name that the registry does not have; the message offers the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = list(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(repr(item) for item in near)}?" if near else f"known: {', '.join(known)}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")


class NoRecipeError(UsageError, LookupError):
    """A row or table that has nothing to run, at all or at one scale; the message says where it has."""

    def __init__(self, name: str, scale: Scale, scales: Iterable[Scale], *, why: str = "") -> None:
        scales = list(scales)
        if scales:
            text = f"{name} does not exist at scale {scale}, only at {' and '.join(scales)}; add --scale {scales[0]}"
            text += f" ({why})" if why else ""
        else:
            text = f"{name} is a number that the paper reports for others: there is no recipe to run; see: vswin list"
        super().__init__(text)
