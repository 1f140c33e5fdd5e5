"""Where a launch can run: the tables of ``slurm/profiles.toml``, and of a file of the user's own."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from vswin.errors import ExplainedError

from .. import folders
from ..registry.errors import UnknownNameError

LOCAL = "local"
_FILE = folders.CLONE / "slurm" / "profiles.toml"
# Slurm's own.
_LONGEST_WARNING = 65535
# What sbatch is told by other fields, or by every launch.
_OWN_OPTIONS = {
    *("account", "array", "chdir", "comment", "constraint", "cpus-per-task", "dependency", "error", "export", "gpus"),
    *("hold", "test-only"),
    *("gpus-per-node", "job-name", "kill-on-invalid-dep", "mem", "no-requeue", "nodes", "ntasks"),
    *("ntasks-per-node", "open-mode", "output", "partition", "qos", "requeue", "signal", "time"),
}


class ProfileError(ExplainedError, ValueError):
    """A profile that means nothing to Slurm; the message names the file, the profile and the field."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The resources that a job asks Slurm for. What is None is left to the cluster.

    ``time`` is Slurm's own notation (``minutes``, ``hours:minutes:seconds``, ``days-hours``, ...). ``gpus`` (of
    ``gpu_type``, as ``a100``) and ``memory`` (``400G``, ``64GB``; a number alone is MB) are per node, ``cpus`` per
    process. ``processes`` per node: one per GPU where there are some, else one; together with those of other ``nodes``
    they train one run. ``setup`` are lines of shell before it, ``options`` what else sbatch is told
    (``exclude = "node7"``). ``signal_seconds``: how long before its time limit a job is told to save. ``parallel``: how
    many jobs of a launch run at once. ``runs_per_job``: so many runs share a job, one after the other.
    """

    time: str
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodes: int = 1
    gpus: int = 0
    gpu_type: str | None = None
    processes: int | None = None
    cpus: int = 1
    memory: str | None = None
    setup: tuple[str, ...] = ()
    options: Mapping[str, str | int | Literal[True]] = field(default_factory=dict, hash=False)
    requeue: bool = True
    signal_seconds: int = 120
    parallel: int | None = None
    runs_per_job: int = 1

    def __post_init__(self) -> None:
        # a line of its own in the script could be another #SBATCH
        for name, text in self._texts():
            if any(ord(letter) < 32 and letter != "\t" for letter in text):
                raise ValueError(f"{name}: expected one line of text, got {text!r}")
        for name in ("nodes", "processes", "cpus", "parallel", "runs_per_job"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        for name in ("gpus", "signal_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if self.signal_seconds > _LONGEST_WARNING:
            raise ValueError(f"signal_seconds: expected at most {_LONGEST_WARNING}, got {self.signal_seconds}")
        if self.gpus and self.processes not in (None, self.gpus):
            raise ValueError(f"processes: with {self.gpus} GPUs there are as many, one each; got {self.processes}")
        if self.gpu_type and not self.gpus:
            raise ValueError(f"gpu_type: set gpus, too; got {self.gpu_type!r} alone")
        if taken := sorted(_OWN_OPTIONS & self.options.keys()):
            raise ValueError(f"options: {taken[0]} is set by the fields of a profile, or by a launch")
        if self.memory is not None and not re.fullmatch(r"\d+([KMGT]B?)?", self.memory, re.IGNORECASE):
            raise ValueError(f"memory: expected Slurm's notation, as in 400G, 64GB or 500MB; got {self.memory!r}")
        _ = self.minutes

    def _texts(self) -> Iterator[tuple[str, str]]:
        """Every text in a profile, with the name of its field."""
        for name in (each.name for each in fields(self)):
            match getattr(self, name):
                case str(text):
                    yield name, text
                case tuple(lines):
                    yield from ((name, line) for line in lines)
                case Mapping() as options:
                    yield from ((name, str(text)) for item in options.items() for text in item)

    @property
    def gpus_per_node(self) -> str | None:
        """As sbatch takes it, ``8`` or ``a100:8``; None for no GPU, or where ``options`` ask for them as ``gres``."""
        if str(self.options.get("gres", "")).startswith("gpu"):
            return None
        count = str(self.gpus) if self.gpus else None
        return f"{self.gpu_type}:{count}" if self.gpu_type else count

    @property
    def processes_per_node(self) -> int:
        """The number of processes of a run that a node starts."""
        return self.processes or self.gpus or 1

    @property
    def processes_per_run(self) -> int:
        """The number of processes that train a run together."""
        return self.nodes * self.processes_per_node

    @cached_property
    def minutes(self) -> int:
        """``time`` in minutes, rounded up."""
        match = re.fullmatch(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?", self.time)
        if match is None:
            raise ValueError(f"time: expected Slurm's notation, as in 30, 8:00:00 or 2-12; got {self.time!r}")
        parts = [int(match[name]) for name in ("first", "second", "third") if match[name]]
        if match["days"]:
            # days-hours[:minutes[:seconds]]
            hours, minutes, seconds = (*parts, 0, 0)[:3]
        elif len(parts) == 3:
            hours, minutes, seconds = parts
        else:
            # minutes[:seconds]
            hours, (minutes, seconds) = 0, (*parts, 0)[:2]
        total = 60 * (24 * int(match["days"] or 0) + hours) + minutes + -(-seconds // 60)
        if total < 1:
            raise ValueError(f"time: expected at least a minute, got {self.time!r}")
        return total


_FIELDS = [each.name for each in fields(Profile)]


def own_file() -> Path | None:
    """A file of the user's own profiles, which go before those of the suite: ``$VSWIN_PROFILES``."""
    name = os.environ.get("VSWIN_PROFILES")
    return Path(name).expanduser() if name else None


def profiles() -> list[str]:
    """The names of all profiles, ``local`` first."""
    return list(_tables())


def find_profile(name: str) -> Profile | None:
    """The profile called ``name``, None for this machine; raises UnknownNameError and ProfileError."""
    from pydantic import TypeAdapter, ValidationError

    known = _tables()
    if name not in known:
        raise UnknownNameError("profile", name, known)
    file, fields = known[name]
    if name == LOCAL:
        if fields:
            raise ProfileError(f"{file}: [{LOCAL}] is this machine and takes no fields, got {', '.join(fields)}")
        return None
    try:
        # by way of JSON, whose lists may become tuples in strict mode
        return TypeAdapter(Profile).validate_json(json.dumps(fields, default=str), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        where = [".".join(str(part) for part in first["loc"])] if first["loc"] else []
        said = first["msg"].removeprefix("Value error, ")
        if first["type"] == "unexpected_keyword_argument":
            near = difflib.get_close_matches(where[0], _FIELDS, n=1, cutoff=0.5)
            said = f"no such field; {f'did you mean {near[0]}?' if near else 'there are: ' + ', '.join(_FIELDS)}"
        message = ": ".join([f"{file}: profile {name}", *where, said])
        raise ProfileError(message) from error


def _tables() -> dict[str, tuple[Path, dict[str, Any]]]:
    """Every profile with the file it stands in."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    own = own_file()
    for file in (_FILE, own) if own else (_FILE,):
        try:
            content = tomllib.loads(file.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ProfileError(f"{file}: {error}") from error
        for name, values in content.items():
            if not isinstance(values, dict):
                raise ProfileError(f"{file}: expected a table per profile, as in [{name}]; got {name} = {values!r}")
            found[name] = (file, values)
    return found
