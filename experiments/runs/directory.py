"""The directory of a run: what lies in it, and where."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from .. import folders
from ..registry.recipe import Scale
from . import journal
from .journal import Entry


@dataclass(frozen=True)
class RunDirectory:
    """``$VSWIN_RUNS/<scale>/<signature>/seed-<seed>``: everything one training of one recipe leaves."""

    scale: Scale
    signature: str
    seed: int

    @property
    def path(self) -> Path:
        return folders.runs() / self.scale / self.signature / f"seed-{self.seed}"

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.json"

    @property
    def data(self) -> Path:
        """The fingerprints of the videos it is trained on and of the weights it starts from."""
        return self.path / "data.json"

    @property
    def machine(self) -> Path:
        """The machine and software that the last bits of the newest attempt's results depend on."""
        return self.path / "machine.json"

    @property
    def code(self) -> Path:
        """Commit of the newest attempt's code, and whether the tree was dirty."""
        return self.path / "code.json"

    @property
    def environment(self) -> Path:
        """Every installed distribution with its version, a line each."""
        return self.path / "environment.txt"

    @property
    def datasets(self) -> Path:
        """The manifest of every split that is read."""
        return self.path / "datasets.json"

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """The trained weights with the names of their classes: a file for ``vswin.load_checkpoint``."""
        return self.path / "weights.safetensors"

    def result(self, protocol: str) -> Path:
        """The record of a test, written last: where it is, training and that test are done.

        The scores of every test video lie beside it, as npz.
        """
        return self.path / "tests" / f"{protocol}.json"

    def partial_result(self, protocol: str, *, videos: str) -> Path:
        """The folder for scores of a test that is not done, of the videos with this fingerprint."""
        return self.path / "tests" / f"{protocol}.partial-{videos[:10]}"

    def results(self) -> list[Path]:
        """The records there are."""
        return sorted(self.path.glob("tests/*.json"))

    def set_aside(self) -> Path:
        """Make room for the same run anew, and return where everything of this one lies now."""
        aside = self.path.with_name(f"replaced-{self.path.name}-{time.strftime('%Y%m%d-%H%M%S')}")
        self.path.rename(aside)
        return aside

    def drop_products(self) -> None:
        """Remove what is made of trained weights, except for records: training goes on, and there will be others."""
        self.weights.unlink(missing_ok=True)
        for partial in self.path.glob("tests/*.partial-*"):
            shutil.rmtree(partial)

    @property
    def error(self) -> Path:
        """The traceback of the last attempt, if it failed."""
        return self.path / "error.txt"

    @property
    def tracking(self) -> Path:
        """The mirror's note of how far MLflow has been told."""
        return self.path / "tracking.json"

    @property
    def submission(self) -> Path:
        """The last ``Submission`` of this run."""
        return self.path / "submission.json"

    @property
    def attempt(self) -> Path:
        """The ``Attempt`` that owns this directory."""
        return self.path / "attempt.json"

    @property
    def code_diff(self) -> Path:
        """The uncommitted changes of the last attempt that had any."""
        return self.path / "code.diff"

    def last_step(self) -> int:
        """The last step in the journal, 0 if none."""
        last = self.last_entry()
        return last.step if last else 0

    def last_entry(self) -> Entry | None:
        """The last line of the journal, which has its highest step; None if there is none."""
        return journal.last(self.journal)

    def last_error(self) -> str:
        """The exception of the last failed attempt with its whole message in one line, empty if none."""
        lines = self.error.read_text(errors="replace").strip().splitlines() if self.error.exists() else []
        # frames are indented, and a message may have several lines
        begins = [number for number, line in enumerate(lines) if re.match(r"([\w<>]+\.)*[A-Z]\w*(: |$)", line)]
        return " ".join(line.strip() for line in lines[begins[-1] :]) if begins else ""


def published_folder(scale: Scale) -> Path:
    """``$VSWIN_RUNS/<scale>/published``: tests of weights that were not trained here."""
    return folders.runs() / scale / "published"
