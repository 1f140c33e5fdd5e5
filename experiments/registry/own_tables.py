"""Tables of one's own: every module in the folder ``$VSWIN_TABLES`` that defines ``TABLE``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from vswin.errors import ExplainedError

from .. import folders
from .table import Table


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
