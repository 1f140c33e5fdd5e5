"""The command line as tests call it."""

import subprocess
import sys
from collections.abc import Callable

# called with arguments and ``code``, the exit code to expect
Vswin = Callable[..., "subprocess.CompletedProcess[str]"]


def vswin_command(*arguments: str) -> list[str]:
    """``vswin`` with ``arguments``, for subprocess."""
    return [sys.executable, "-m", "experiments", *arguments]
