"""Where things lie: folders, each moved by one environment variable."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

# The clone that this package was imported from.
CLONE = Path(__file__).resolve().parent.parent


def runs() -> Path:
    """The folder of runs: ``$VSWIN_RUNS``, default ``runs``."""
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
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(runs() / "mlflow.db")


def sqlite_uri(file: Path) -> str:
    """The address of a SQLite file.

    ``%``, ``?`` and ``#`` mean something else in an address than in a path. The rest stays as it is: MLflow makes an
    empty folder by the name that stands in the address.
    """
    return "sqlite:///" + re.sub("[%?#]", lambda found: quote(found[0]), str(file))


def sqlite_file(uri: str) -> Path:
    """The file that ``sqlite_uri`` gives the address of."""
    return Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0]))


def mlflow_artifacts() -> Path:
    """Files of runs as MLflow shows them, where no server keeps them: ``$VSWIN_RUNS/mlflow-artifacts``."""
    return runs() / "mlflow-artifacts"


def tracking_address() -> str:
    """``tracking_uri`` as it may be shown and kept: without a name and a password."""
    return without_credentials(tracking_uri())


def without_credentials(text: str) -> str:
    """``text`` with every name, password and token taken out of the addresses in it.

    A password may hold slashes, as one of a database does that was written down as it is.
    """
    without = re.sub(r"://(?:[^/:\s]*:[^\s]*|[^/\s]*)@", "://", text)
    return re.sub(r"([?&](?:password|token|access_token|api_key|secret)=)[^&\s]*", r"\1...", without)
