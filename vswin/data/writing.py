"""Messages about a full disk or a read-only folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .formats.rows import DataError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """The errors of the system inside become DataErrors that name the file, or ``path`` where none is named."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or path}: cannot be written ({error.strerror}); make room or correct permissions, and "
            "run the same command again"
        ) from error
