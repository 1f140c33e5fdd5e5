"""What a number came from: code, software, machine. Names no host and no path."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

# Code that decides numbers; a notebook or a record being edited does not make a run doubtful.
CODE = ("vswin", "experiments", "pyproject.toml", "constraints.txt")
# The clone that this package was imported from.
CLONE = Path(__file__).resolve().parent.parent
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Commit:
    """The clone's commit, ``unknown`` outside git or without it, and whether code differs from it."""

    name: str
    dirty: bool

    @property
    def is_known(self) -> bool:
        """Whether there is git and a clone."""
        return self.name != _UNKNOWN


def commit() -> Commit:
    """The state of the clone that this package was imported from."""
    head = _git("rev-parse", "HEAD")
    if head is None:
        return Commit(_UNKNOWN, True)
    return Commit(head, bool(changed_files()))


def changed_files() -> list[str]:
    """Code that differs from the commit or that git does not know, by path."""
    lines = (_git("status", "--porcelain", "--", *CODE) or "").splitlines()
    return [line.split(maxsplit=1)[1] for line in lines]


def uncommitted() -> str:
    """What code has that its commit has not, as ``git apply`` takes it; files that git does not know are among it."""
    with tempfile.TemporaryDirectory() as folder:
        # an index and objects of its own: nothing of the clone is touched
        objects = _git("rev-parse", "--path-format=absolute", "--git-path", "objects")
        own = {
            "GIT_INDEX_FILE": f"{folder}/index",
            "GIT_OBJECT_DIRECTORY": folder,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
        }
        for arguments in (("read-tree", "HEAD"), ("add", "--all", "--", *CODE), ("diff", "--cached", "--binary")):
            answer = subprocess.run(
                ["git", "-C", str(CLONE), *arguments], capture_output=True, check=True, env={**os.environ, **own}
            )
        return answer.stdout.decode(errors="surrogateescape")


def installed() -> list[str]:
    """Every installed distribution, ``name==version``, in lower case and order."""
    return sorted(f"{item.name}=={item.version}".lower() for item in importlib.metadata.distributions())


def software() -> str:
    """A digest over name and version of every installed distribution."""
    return hashlib.sha256("\n".join(installed()).encode()).hexdigest()[:16]


def processor() -> str:
    """The processor's model name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def nodes() -> int:
    """How many machines compute together: as many as srun or torchrun says, else one."""
    if "LOCAL_WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"]) // int(os.environ["LOCAL_WORLD_SIZE"])
    return int(os.environ.get("SLURM_STEP_NUM_NODES", 1))


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(["git", "-C", str(CLONE), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
