"""The first step of a training, taken before a launch: the model is built, loads weights and trains on a real batch.

What went well is noted under ``$VSWIN_RUNS`` and not done again while code, recipe, videos, weights and kind of device
are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from vswin.config import InitConfig, Split
from vswin.training.watch import Watch

from .. import folders
from ..files import write_json
from ..registry.catalogue import Experiment
from ..registry.recipe import Recipe
from ..registry.stand_ins import origin, weights_name
from ..runs.runtime import Runtime
from ..runs.weights import weights_file
from .profiles import Profile

if TYPE_CHECKING:
    from vswin.data.annotations import VideoList


class NoStepError(RuntimeError):
    """The step cannot be taken here, which says nothing about the training; the message says why."""


def forget_steps() -> None:
    """Have everything done again that went well before."""
    shutil.rmtree(_note(""), ignore_errors=True)


def initial_weights(experiment: Experiment) -> Path | None:
    """The file that a training starts from; None from scratch, and where it is still to be trained."""
    name = weights_name(experiment.recipe.init)
    file = name and weights_file(name, scale=experiment.scale)
    return None if not file or (origin(name) and not file.exists()) else file


def load_weights(experiment: Experiment, file: Path) -> str:
    """Load the initial weights ``file`` into the model of ``experiment``; the report on every weight.

    Raises whatever goes wrong.
    """
    note = _note(_digest("weights", experiment.recipe.signature, _code(), *_stamp(file)))
    if not note.exists():
        from ..job.training import initial_model

        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            initial_model(experiment.recipe, scale=experiment.scale, seed=0, runtime=Runtime())
        write_json(note, {"said": said.getvalue().strip()})
    return str(json.loads(note.read_text())["said"])


def of_one_process(runtime: Runtime, *, recipe: Recipe, profile: Profile | None) -> Runtime:
    """As ``runtime``, with no more clips in memory at once than one of the processes of ``profile`` would have."""
    if profile is None:
        return runtime
    own = max(1, recipe.optim.batch_size // profile.processes_per_run)
    return replace(runtime, micro_batch=min(runtime.micro_batch or own, own))


def take_step(experiment: Experiment, videos: Mapping[str, VideoList], *, runtime: Runtime) -> str:
    """Train for one step on the first of ``videos``, lists by split, unless that went well before; a line on it.

    Raises NoStepError where this machine has no GPU for it, and whatever goes wrong in the step.
    """
    import torch

    if runtime.on_gpu and not torch.cuda.is_available():
        raise NoStepError("torch sees no GPU here; run vswin check on a machine of the cluster that has one")
    # one process takes one step: nothing to gain from worker processes, or from keeping what it decoded
    runtime = replace(runtime, workers=0, keep_decoded=False)
    file = initial_weights(experiment)
    note = _note(
        _digest(
            "step",
            experiment.recipe.signature,
            _code(),
            *(found.fingerprint for found in videos.values()),
            *(_stamp(file) if file else ()),
            json.dumps(asdict(runtime), sort_keys=True),
            torch.__version__,
            torch.cuda.get_device_name() if runtime.on_gpu else "cpu",
        )
    )
    if note.exists():
        return "taken before"
    began = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()):
        loss = _loss(experiment, videos[Split.TRAIN.value], runtime=runtime)
    seconds = time.monotonic() - began
    write_json(note, {"variant": experiment.name, "seconds": seconds, "loss": loss})
    return f"loss {loss:.2f}, {seconds:.1f} s"


@dataclass(frozen=True)
class _OneStep(Watch):
    """Keeps the losses, and stops the training after the first."""

    losses: list[float] = field(default_factory=list)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.losses.append(metrics["train/loss"])

    def warn(self, message: str) -> None:
        """A broken video is the business of ``vswin data check``."""

    def should_stop(self) -> bool:
        return bool(self.losses)


def _loss(experiment: Experiment, videos: VideoList, *, runtime: Runtime) -> float:
    """Train for one step as a job does, checkpoint included; its loss."""
    from ..job.training import Training, initial_model, set_up

    recipe = experiment.recipe
    if initial_weights(experiment) is None:
        # an upstream run that is still to be trained takes a step of its own
        recipe = replace(recipe, init=InitConfig())
    training = Training(recipe=recipe, seed=0, runtime=runtime, world=set_up(runtime))
    model = initial_model(recipe, scale=experiment.scale, seed=0, runtime=runtime)
    watch = _OneStep()
    folders.runs().mkdir(parents=True, exist_ok=True)
    # beside the runs: a disk that takes no checkpoint is found now
    with tempfile.TemporaryDirectory(prefix=".check-", dir=folders.runs()) as folder:
        training.run(model, videos, directory=Path(folder), watch=watch)
    return watch.losses[0]


def _note(digest: str) -> Path:
    """The file that says that something went well; of an empty digest the folder of all."""
    return folders.runs() / "cache" / "steps" / (f"{digest}.json" if digest else "")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _stamp(file: Path) -> tuple[str, ...]:
    """Tells a file from a later one of the same name."""
    found = file.stat()
    return str(file), str(found.st_size), str(found.st_mtime_ns)


@cache
def _code() -> str:
    """A digest of both packages as they lie here: uncommitted changes count, too."""
    root = folders.CLONE
    digest = hashlib.sha256()
    for path in sorted(path for package in ("vswin", "experiments") for path in (root / package).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
