"""Live jobs of this runs folder that no plan shows: of rows that left the grid or were edited, and of other seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import folders
from ..registry.catalogue import experiments
from ..registry.recipe import Scale
from ..runs import slurm
from .plan import Step


@dataclass(frozen=True)
class Orphan:
    """A live ``job`` that works for ``run``, in words. ``is_known``: a table has its row, only the seed is another."""

    job: slurm.Queued
    run: str
    why: str
    is_known: bool = False


def orphans(scale: Scale, steps: Sequence[Step]) -> list[Orphan]:
    """The live jobs of ``scale`` that none of ``steps`` accounts for; nothing is asked where none was ever submitted.

    Jobs of rows that ``steps`` leave out altogether are none. Raises SlurmError.
    """
    notes = sorted((folders.runs() / scale / "jobs").glob("*/launch.json"))
    if not notes:
        return []
    place = (folders.runs() / "code").resolve()
    queue = [job for job in slurm.queue(f"vswin-{scale}-") if Path(job.folder).resolve().is_relative_to(place)]
    if not queue:
        return []
    owners = _owners(scale)
    planned = {(step.run.signature, step.run.seed) for step in steps}
    signatures = {signature for signature, _ in planned}
    names = {each.recipe.signature: each.name for each in experiments(scale)}
    found = []
    for job in queue:
        runs = owners.get(job.id, [])
        if not runs:
            found.append(Orphan(job, _meant(job, notes), "no run was last submitted to it"))
        elif gone := [run for run in runs if run[0] not in names]:
            found.append(Orphan(job, _meant(job, notes) or _short(gone), "no table has such a row any more"))
        elif planned.isdisjoint(runs) and not signatures.isdisjoint(run[0] for run in runs):
            told = ", ".join(f"{names[signature]} seed {seed}" for signature, seed in runs)
            found.append(Orphan(job, told, "another seed", is_known=True))
    return found


def _owners(scale: Scale) -> dict[str, list[tuple[str, int]]]:
    """Signature and seed of the runs that were last submitted to each job."""
    found: dict[str, list[tuple[str, int]]] = {}
    for file in sorted((folders.runs() / scale).glob("*/seed-*/submission.json")):
        try:
            job = json.loads(file.read_text())["job"]
            seed = int(file.parent.name.removeprefix("seed-"))
        except (OSError, ValueError, KeyError):
            # a damaged note, or a copy: the plan names the one, and nothing is said of the other
            continue
        found.setdefault(job, []).append((file.parent.parent.name, seed))
    return found


def _meant(job: slurm.Queued, notes: Sequence[Path]) -> str:
    """The runs that ``job`` was submitted to do, in words; empty where that is not known any more."""
    for note in notes:
        content = json.loads(note.read_text())
        if content["name"] == job.name:
            _, _, index = job.id.partition("_")
            runs = content["jobs"][int(index or 0)]
            return ", ".join(f"{variant} seed {seed}" for _, variant, _, seed in runs)
    return ""


def _short(runs: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{signature} seed {seed}" for signature, seed in runs)


def cancel_orphans(found: Sequence[Orphan]) -> None:
    """Cancel the jobs of ``found``; raises SlurmError."""
    if found:
        slurm.call("scancel", *(orphan.job.id for orphan in found))
