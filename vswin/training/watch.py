"""Everything that a training tells and asks the outside world: metrics, warnings, checkpoints to come, a stop."""

from __future__ import annotations

import logging
from collections.abc import Mapping

_log = logging.getLogger(__name__)


class Watch:
    """Override what is of interest: this one drops metrics, logs warnings and never stops a training.

    Rank 0 alone is told of metrics, warnings and checkpoints; every rank is asked to stop.
    """

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of ``step``, which counts from 1; called after every step."""

    def warn(self, message: str) -> None:
        """Take note of something that went wrong and was survived."""
        _log.warning(message)

    def before_save(self) -> None:
        """Get ready for a checkpoint; raise to prevent that it is written."""

    def should_stop(self) -> bool:
        """Answer True to stop at the end of the step, or of the batch of a test, under way."""
        return False
