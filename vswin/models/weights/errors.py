"""Errors of weights that cannot be loaded."""

from ...errors import ExplainedError


class WeightsError(ExplainedError, ValueError):
    """A file or a state dict that cannot be loaded; the message says why, and what to do."""


class NoWeightsError(WeightsError, FileNotFoundError):
    """There is no such file."""


class UnknownFormatError(WeightsError):
    """Tensors under names that no known format has."""
