"""Everything that keeps a job from finishing a run, besides errors of training itself."""

from __future__ import annotations

from vswin.errors import ExplainedError


class SignatureError(ExplainedError, RuntimeError):
    """The code of a job derives another recipe than the launcher did."""


class NoGpuError(ExplainedError, RuntimeError):
    """A run needs a GPU and torch sees none."""


class UpstreamError(ExplainedError, RuntimeError):
    """The run that this one starts from is not done."""


class OtherDataError(ExplainedError, RuntimeError):
    """The videos or weights of a run changed since it began."""


class WrongCodeError(ExplainedError, RuntimeError):
    """A job was started with other code than it was pinned to."""


class RunsFailedError(ExplainedError, RuntimeError):
    """Some of the runs that share a job failed; each left its ``error.txt``."""


class StoppedError(Exception):
    """A test was asked to stop, in whichever of its processes; its scores so far are saved."""


class StopRequested(SystemExit):
    """A process was asked to stop and has saved its state; the same command resumes it."""
