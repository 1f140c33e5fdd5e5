"""Errors of weights that cannot be loaded."""

from pathlib import Path

from ...errors import ExplainedError


class WeightsError(ExplainedError, ValueError):
    """A file or a state dict that cannot be loaded; the message says why, and what to do."""


class NoWeightsError(WeightsError, FileNotFoundError):
    """There is no such file."""


class UnknownFormatError(WeightsError):
    """Tensors under names that no known format has."""


class DamagedWeightsError(WeightsError):
    """A file of weights is not what was written: ``path``, and ``what`` is wrong with it."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} {what}; download it again, or have the run that wrote it write it again")
        self.path = path
        self.what = what
