"""Provenance of a number: code, software, machine, videos, initial weights. Names no host and no path."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vswin.config import Split

from .. import folders
from ..files import read_json, write_json, write_text
from ..registry.recipe import Recipe, to_dict
from ..registry.stand_ins import weights_name
from ..results.record import Checkpoint
from ..runs.directory import RunDirectory
from ..runs.weights import weights_file
from .errors import OtherDataError

if TYPE_CHECKING:
    from vswin.data.annotations import VideoList
    from vswin.training.distributed import World

# Code that decides numbers; a notebook or a record being edited does not make a run doubtful.
CODE = ("vswin", "experiments", "pyproject.toml", "constraints.txt")
# The clone that this package was imported from.
CLONE = folders.CLONE
_UNKNOWN = "unknown"
# In the git folder of a clone that jobs are pinned to: what the launcher knew of it, for nodes without git.
_HANDED_OVER = ".git/vswin-commit.json"


@dataclass(frozen=True)
class Commit:
    """The clone's commit, ``unknown`` outside git or without it; ``dirty`` where code differs from it."""

    name: str
    dirty: bool

    @property
    def is_known(self) -> bool:
        """False without git, or outside a clone."""
        return self.name != _UNKNOWN


def commit() -> Commit:
    """The state of the clone that this package was imported from; without git, as the launcher handed it over."""
    head = _git("rev-parse", "HEAD")
    if head is None:
        handed = _handed_over()
        return Commit(handed["name"], handed["dirty"]) if handed else Commit(_UNKNOWN, True)
    return Commit(head, bool(changed_files()))


def changed_files() -> list[str]:
    """Code that differs from the commit or that git does not know, by path."""
    lines = (_git("status", "--porcelain", "--", *CODE) or "").splitlines()
    return [line.split(maxsplit=1)[1] for line in lines]


def uncommitted() -> str:
    """Uncommitted changes of code as ``git apply`` takes them, files that git does not know included.

    Without git, as the launcher handed them over.
    """
    if _git("rev-parse", "HEAD") is None and (handed := _handed_over()):
        return str(handed["changes"])
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


def hand_over(clone: Path, code: Commit, changes: str) -> None:
    """Leave in ``clone`` what its jobs record where they find no git: its commit, and ``uncommitted`` changes."""
    file = clone / _HANDED_OVER
    if not file.exists():
        write_json(file, {**asdict(code), "changes": changes})


def _handed_over() -> dict[str, Any] | None:
    file = CLONE / _HANDED_OVER
    return json.loads(file.read_text()) if file.exists() else None


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
    """The number of machines that compute together: as many as srun or torchrun says, else one."""
    if "LOCAL_WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"]) // int(os.environ["LOCAL_WORLD_SIZE"])
    return int(os.environ.get("SLURM_STEP_NUM_NODES", 1))


def machine(world: World) -> dict[str, Any]:
    """Everything besides code, recipe and data that the last bits of a result depend on."""
    import torch

    on_gpu = world.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(world.device) if on_gpu else processor(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if on_gpu else None,
        "threads": torch.get_num_threads(),
        "processes": world.size,
    }


def sha256(file: Path) -> str:
    """The digest of ``file``, in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def started_from(run: RunDirectory, recipe: Recipe) -> Checkpoint | None:
    """The weights that ``run`` starts from; None from scratch. Raises vswin's WeightsError."""
    name = weights_name(recipe.init)
    return None if name is None else identity(weights_file(name, scale=run.scale), name=name)


def identity(file: Path, *, name: str) -> Checkpoint:
    """The digests of the weights in ``file``, which records call ``name``; raises vswin's WeightsError."""
    from vswin.models import read_checkpoint, tensor_digest

    return Checkpoint(file=name, sha256=sha256(file), tensors=tensor_digest(read_checkpoint(file)))


def note_attempt(
    run: RunDirectory,
    recipe: Recipe,
    *,
    videos: Mapping[Split, VideoList],
    weights: Checkpoint | None,
    code: Commit,
) -> None:
    """Leave in the directory of ``run`` what this attempt computes and with which code, for people and for MLflow.

    Raises OtherDataError where training videos or initial weights are not those of the first attempt.
    """
    _insist_on_same_start(run, videos[Split.TRAIN], weights)
    write_json(run.recipe, to_dict(recipe))
    if code.dirty and code.is_known and (diff := uncommitted()):
        write_text(run.code_diff, diff)
    write_json(run.datasets, {split.value: found.manifest() for split, found in videos.items()})
    write_json(run.code, asdict(code))
    write_text(run.environment, "".join(f"{item}\n" for item in installed()))


def _insist_on_same_start(run: RunDirectory, videos: VideoList, weights: Checkpoint | None) -> None:
    digests = {"weights": weights.sha256, "tensors": weights.tensors} if weights else {}
    found = {"train": videos.fingerprint, **digests}
    noted = read_json(run.data, remedy="delete the run to start over") if run.data.exists() else found
    if not _same_weights(noted, weights) or noted.get("train") != videos.fingerprint:
        what = "the videos" if noted.get("train") != videos.fingerprint else "the weights it started from"
        raise OtherDataError(
            f"{what} are not those that this run began with; bring them back, or delete {run.path} to start over"
        )
    # the same weights may lie in another file now, or be those of an attempt that noted only which file it was
    write_json(run.data, found)


def _same_weights(noted: Mapping[str, Any], weights: Checkpoint | None) -> bool:
    """True where an attempt that ``noted`` this started from ``weights``; earlier versions noted only their file."""
    if weights is None or "weights" not in noted:
        return weights is None and "weights" not in noted
    before = Checkpoint(file=weights.file, sha256=noted["weights"], tensors=noted.get("tensors"))
    return before.same_as(weights) is True


def note_machine(run: RunDirectory, found: Mapping[str, Any]) -> int:
    """Note the machine that this attempt computes on; the last step in the journal that another one may have computed.

    Steps up to that one are not compared when they are computed again. Once a run has moved to another machine, that
    is the newest step at the move, for all later attempts: the checkpoint before it may be of either machine.
    """
    before = json.loads(run.machine.read_text()) if run.machine.exists() else found
    changes = [f"{name} {before.get(name)} -> {value}" for name, value in found.items() if before.get(name) != value]
    compared_after: int = before.get("compared_after", 0)
    if changes:
        print(
            f"resumes under other conditions ({', '.join(changes)}): steps that are computed again are not compared "
            "with the journal",
            flush=True,
        )
        compared_after = run.last_step()
    write_json(run.machine, {**found, "compared_after": compared_after})
    return compared_after


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(["git", "-C", str(CLONE), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
