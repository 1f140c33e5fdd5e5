"""Numbers, times and paths as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def relative(path: Path) -> str:
    """``path`` as a user would type it from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def in_short(names: Sequence[str], *, told: int = 3) -> str:
    """The first of ``names``, and how many more there are: ``a, b, c and 4 more``."""
    more = f" and {len(names) - told} more" if len(names) > told else ""
    return ", ".join(names[:told]) + more


def in_words(seconds: float) -> str:
    """A length of time in two units at most: ``45 s``, ``3:07 min``, ``5:30 h``, ``2.5 days``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    if whole < 48 * 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02} h"
    return f"{whole / 86400:.1f} days"
