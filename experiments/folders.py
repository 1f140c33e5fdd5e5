"""Where things lie: folders, each moved by one environment variable."""

from __future__ import annotations

import os
import re
from pathlib import Path


def runs() -> Path:
    """What runs leave behind: ``$VSWIN_RUNS``, default ``runs``."""
    return Path(os.environ.get("VSWIN_RUNS") or "runs").absolute()


def results() -> Path:
    """Records and generated tables: ``$VSWIN_RESULTS``, default ``results``."""
    return Path(os.environ.get("VSWIN_RESULTS") or "results").absolute()


def records(scale: str) -> Path:
    """``$VSWIN_RESULTS/<scale>/runs``."""
    return results() / scale / "runs"


def data() -> Path:
    """Data sets and image weights: ``$VSWIN_DATA``, default ``data``."""
    return Path(os.environ.get("VSWIN_DATA") or "data").absolute()


def own_tables() -> Path | None:
    """Tables of one's own: ``$VSWIN_TABLES``; None where it is not set."""
    named = os.environ.get("VSWIN_TABLES")
    return Path(named).absolute() if named else None


def tracking_uri() -> str:
    """MLflow's own ``$MLFLOW_TRACKING_URI``, default a SQLite file under the runs folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runs() / 'mlflow.db'}"


def tracking_address() -> str:
    """``tracking_uri`` as it may be shown and kept: without a name and a password."""
    return without_credentials(tracking_uri())


def without_credentials(text: str) -> str:
    """``text`` with every name and password taken out of the addresses in it."""
    return re.sub(r"([?&]password=)[^&\s]*", r"\1...", re.sub(r"://[^/\s]*@", "://", text))
