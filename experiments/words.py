"""Numbers, times and paths as people read them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

# Embeddings, overrides and isolates of the bidirectional algorithm (UAX 9).
_TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def relative(path: Path) -> str:
    """``path`` as a user would type it from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def in_short(names: Sequence[str], *, told: int = 3) -> str:
    """The first of ``names``, and how many more there are: ``a, b, c and 4 more``."""
    more = f" and {len(names) - told} more" if len(names) > told else ""
    return ", ".join(names[:told]) + more


def printable(text: str) -> str:
    """``text`` with ``\\x1b`` and the like in place of what a terminal would obey: names of files may hold anything.

    Lines and tabs stay. That goes for control characters, for those that turn the direction of writing, and for bytes
    of names that are no text.
    """
    return "".join(char if char in "\n\t" or not _is_obeyed(char) else ascii(char)[1:-1] for char in text)


def _is_obeyed(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cs") or unicodedata.bidirectional(char) in _TURNS


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
