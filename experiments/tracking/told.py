"""The mirror's note in a run's directory: how far MLflow has been told of the run.

Read without mlflow, so that a launcher can say what is missing while nothing answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Self

from .. import folders
from ..files import set_aside, write_json
from ..runs import journal
from ..runs.run import Run
from ..runs.state import RunState


@dataclass(frozen=True, kw_only=True)
class Told:
    """All that the store at ``uri`` (without credentials) has of a run, there called ``run_id``.

    ``began`` tells its training from another of the same recipe and seed; empty before the first step. ``offset`` is
    that of the journal, and ``tail`` the fingerprint of what comes before it. ``status`` is the state told last,
    ``card`` the fingerprint of the run's description, and ``files`` those of its artifacts.
    """

    uri: str
    run_id: str
    began: str = ""
    offset: int = 0
    tail: str = ""
    status: str = ""
    card: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, run: Run) -> Self | None:
        """The note of ``run``, None where there is none or it is not one of ours."""
        try:
            content = json.loads(run.directory.tracking.read_text())
            return cls(**{item.name: content[item.name] for item in fields(cls)})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, run: Run) -> None:
        """Keep this note with ``run``."""
        if run.directory.tracking.is_dir():
            set_aside(run.directory.tracking)
        write_json(run.directory.tracking, asdict(self))


def is_behind(run: Run, state: RunState | None = None) -> bool:
    """True where MLflow, as it is configured now, lacks anything that ``run``, in ``state``, has written."""
    if not run.directory.path.exists():
        return False
    told = Told.read(run)
    try:
        return (
            told is None
            or told.uri != folders.tracking_address()
            or told.status != (state or run.state())
            or told.offset < journal.end(run.directory.journal)
        )
    except OSError:
        # a journal that cannot be read was not told
        return True


def behind(states: Mapping[Run, RunState]) -> str:
    """A line that says how many of these runs MLflow is behind with, and the remedy; empty where with none.

    Runs at work are left out: they are followed, or told when they end.
    """
    at_work = (RunState.RUNNING, RunState.PENDING, RunState.NEW)
    count = sum(is_behind(run, state) for run, state in states.items() if state not in at_work)
    if not count:
        return ""
    return f"{count} {'run is' if count == 1 else 'runs are'} behind in MLflow: vswin sync"
