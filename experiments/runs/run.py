"""A run: one training of an experiment's recipe with one seed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from .. import folders
from ..files import Damage, DamagedError, read_json
from ..registry.catalogue import Experiment
from ..registry.recipe import Scale
from ..registry.stand_ins import SEED
from . import slurm
from .attempts import Attempt, Submission
from .directory import RunDirectory
from .journal import Entry
from .state import RunState, state_of

_REMEDY = "delete the test, .json and .npz: the next launch tests the model again"


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

    def state(self, job: slurm.Job | None = None) -> RunState:
        """The state of this run, tested under every protocol of its rows; ``job`` as ``state_of`` takes it."""
        try:
            state = state_of(self.directory, self.experiment.protocols, job)
        except DamagedError:
            return RunState.DAMAGED
        # what lies beside the results of a run that is done decides nothing any more
        damage = self._damage_of_results() if state is RunState.DONE else self.damage()
        return RunState.DAMAGED if damage else state

    def damage(self) -> Damage | None:
        """The first file that cannot be read: results, attempt, submission, end of the journal; None if all can.

        Only what is read to plan: ``collect`` looks at every score.
        """
        if damage := self._damage_of_results():
            return damage
        try:
            Attempt.of(self.directory)
            Submission.of(self.directory)
            self.directory.last_entry()
        except DamagedError as error:
            return error.damage
        return None

    def _damage_of_results(self) -> Damage | None:
        try:
            for result in self.directory.results():
                read_json(result, remedy=_REMEDY)
        except DamagedError as error:
            return error.damage
        return None

    def last_attempt(self) -> Attempt | None:
        """The attempt that owns its directory; None if there never was any, or where a note of it is damaged."""
        return None if self.damage() else Attempt.of(self.directory)

    def last_entry(self) -> Entry | None:
        """The last line of its journal; None if there is none, or where a note of it is damaged."""
        return None if self.damage() else self.directory.last_entry()

    def last_step(self) -> int:
        """The last step in its journal; 0 if there is none, or where a note of it is damaged."""
        last = self.last_entry()
        return last.step if last else 0


def existing(experiments: Iterable[Experiment]) -> Iterator[Run]:
    """Every run of ``experiments`` that has a directory, by seed."""
    for experiment in experiments:
        folder = folders.runs() / experiment.scale / experiment.recipe.signature
        # a copy beside them, such as seed-0.bak, is no run
        names = (re.fullmatch(r"seed-(0|[1-9]\d*)", path.name) for path in folder.glob("seed-*"))
        for seed in sorted(int(name[1]) for name in names if name):
            yield Run(experiment, seed)
