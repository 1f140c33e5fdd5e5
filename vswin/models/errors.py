"""What is wrong with a file of weights."""


class WeightsError(ValueError):
    """A file or a state dict that cannot be loaded; the message says why, and what to do."""


class NoWeightsError(WeightsError, FileNotFoundError):
    """There is no such file."""
