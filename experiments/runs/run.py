"""A run: one training of an experiment's recipe with one seed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from .. import folders
from ..registry.catalogue import Experiment
from ..registry.recipe import Scale
from ..registry.stand_ins import SEED
from . import slurm
from .attempts import Attempt
from .directory import RunDirectory
from .look import Look
from .state import RunState, state_of


@dataclass(frozen=True, eq=False)
class Run:
    """One training of ``experiment``'s recipe with one seed. Runs of the same directory are the same run."""

    experiment: Experiment
    seed: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.directory == other.directory

    def __hash__(self) -> int:
        return hash(self.directory)

    @property
    def name(self) -> str:
        """``table4/split seed 0``."""
        return f"{self.experiment.name} seed {self.seed}"

    @property
    def scale(self) -> Scale:
        return self.experiment.scale

    @property
    def signature(self) -> str:
        """The identity of what is trained."""
        return self.directory.signature

    @cached_property
    def directory(self) -> RunDirectory:
        """Where everything lies that it leaves."""
        return RunDirectory(self.experiment.scale, self.experiment.recipe.signature, self.seed)

    @property
    def order(self) -> tuple[str, str, str, int]:
        """Scale, variant, signature and seed: all that a job is told of it."""
        return self.scale.value, self.experiment.name, self.signature, self.seed

    @property
    def upstream(self) -> tuple[Run, ...]:
        """The runs that must be done before it, in this order."""
        return tuple(Run(source, SEED) for source in self.experiment.upstream)

    def state(self, job: slurm.Job | None = None, *, look: Look | None = None) -> RunState:
        """The state of this run, tested under every protocol of its rows; arguments as ``state_of`` takes them."""
        return state_of(self.directory, self.experiment.protocols, job, look=look)

    def look(self) -> Look:
        """A look into its directory, now; whoever asks for several things looks once."""
        return Look.at(self.directory)

    def last_attempt(self) -> Attempt | None:
        """The attempt that owns its directory; None if there never was any, or where its note is damaged."""
        return self.look().attempt

    def last_step(self) -> int:
        """The last step in its journal; 0 if there is none, or where that is damaged."""
        return self.look().step


def existing(experiments: Iterable[Experiment]) -> Iterator[Run]:
    """Every run of ``experiments`` that has a directory, by seed."""
    for experiment in experiments:
        folder = folders.runs() / experiment.scale / experiment.recipe.signature
        # a copy beside them, such as seed-0.bak, is no run
        names = (re.fullmatch(r"seed-(0|[1-9]\d*)", path.name) for path in folder.glob("seed-*"))
        for seed in sorted(int(name[1]) for name in names if name):
            yield Run(experiment, seed)
