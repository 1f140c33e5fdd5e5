"""Tables of one's own: every module in the folder ``$VSWIN_TABLES`` that defines ``TABLE``."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from vswin.errors import ExplainedError

from .. import folders
from .table import Table

# Tables are text; a folder with more is another one.
_LARGEST_BYTES = 64 * 2**20


class OwnTableError(ExplainedError, RuntimeError):
    """A file in ``$VSWIN_TABLES`` is no table; the message names it."""


def own_tables() -> tuple[Table, ...]:
    """The ``TABLE`` of every Python file in ``$VSWIN_TABLES``, by file name; none where the variable is not set.

    The files are run. Names that begin with ``_`` are left out, for what tables share. Raises OwnTableError.
    """
    folder = folders.own_tables()
    if folder is None:
        return ()
    if not folder.is_dir():
        raise OwnTableError(f"expected $VSWIN_TABLES to name a folder of tables, got {folder}, which is none")
    return tuple(_table(path) for path in sorted(folder.glob("[!_.]*.py")))


def files(folder: Path) -> list[Path]:
    """Every file that tables in ``folder`` may read there, relative to it, in order; hidden ones are left out.

    Raises OwnTableError where there is no such folder, or it holds more than tables.
    """
    if not folder.is_dir():
        raise OwnTableError(f"expected $VSWIN_TABLES to name a folder of tables, got {folder}, which is none")
    found, size = [], 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in name.parts):
            found.append(name)
            size += path.stat().st_size
            if size > _LARGEST_BYTES:
                raise OwnTableError(
                    f"{folder} holds more than {_LARGEST_BYTES >> 20} MiB; jobs get a copy, so keep only tables there"
                )
    return found


def digest(folder: Path) -> str:
    """A digest over names and contents of ``files``."""
    whole = hashlib.sha256()
    for name in files(folder):
        content = (folder / name).read_bytes()
        whole.update(f"{name}\0{len(content)}\0".encode(errors="surrogateescape"))
        whole.update(content)
    return whole.hexdigest()[:16]


def _table(path: Path) -> Table:
    spec = importlib.util.spec_from_file_location(f"vswin_own_table_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the user's file raises, sys.exit() too
        raise OwnTableError(f"{path}: {type(error).__name__}: {error}") from error
    table = getattr(module, "TABLE", None)
    if not isinstance(table, Table):
        raise OwnTableError(
            f"{path}: expected TABLE = Table(...) in it, got {type(table).__name__}; see docs/your-own-videos.md"
        )
    return table
