"""The output of a run: the file that its newest job prints to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..runs.attempts import Submission
from ..runs.run import Run

_POLL_SECONDS = 0.3
# So much of the end of a file is read to find its last lines.
_TAIL_BYTES = 2**20


def output_of(run: Run) -> Path | None:
    """The file that the newest job of ``run`` prints to; None where it was started by hand, in a terminal."""
    submission = Submission.of(run.directory)
    return Path(submission.log) if submission and submission.log else None


def tail(path: Path, *, lines: int) -> tuple[str, int]:
    """The last ``lines`` lines of ``path``, and the offset after them; nothing where it is not there yet."""
    if not path.exists():
        return "", 0
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - _TAIL_BYTES))
        content = file.read(end - file.tell())
    kept = content.decode(errors="replace").splitlines(keepends=True)[-lines:] if lines else []
    return "".join(kept), end


def follow(path: Path, *, offset: int, is_over: Callable[[], bool]) -> Iterator[str]:
    """Yield the text that is appended to ``path`` after ``offset``, until ``is_over``; a truncated file begins anew."""
    while True:
        # asked first: what was written before the end is still read
        over = is_over()
        if path.exists():
            if path.stat().st_size < offset:
                offset = 0
            with path.open("rb") as file:
                file.seek(offset)
                content = file.read()
            offset += len(content)
            if content:
                yield content.decode(errors="replace")
        if over:
            return
        time.sleep(_POLL_SECONDS)
