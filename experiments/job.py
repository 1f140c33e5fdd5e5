"""What a job does: plain functions that turn (scale, variant, signature, seed) into a finished run directory.

Importing this module imports no torch, so the launcher can name these functions cheaply.
"""

from __future__ import annotations

import json
import platform
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import folders, provenance
from .cost import view_cost
from .journal import Journal, read
from .recipe import Recipe, Scale, to_dict
from .record import SCHEMA, Kind, Provenance, Record, dump
from .registry import Experiment, find_experiment, find_variant
from .runs import Ownership, RunDirectory, write_json, write_text
from .signals import Stop, stop_signals

OnStep = Callable[[int, Mapping[str, float]], None]

_CHECKPOINT_SECONDS = 60.0
_VIDEOS_AT_ONCE = 32


class SignatureError(RuntimeError):
    """The code of a job derives another recipe than the launcher did."""


class OtherDataError(RuntimeError):
    """The videos a run is trained on changed since it began."""


class StopRequested(SystemExit):
    """The run was asked to stop and has saved its state; it can be resumed."""


def work(runs: list[tuple[str, str, str, int]]) -> None:
    """Train and test each of ``runs`` (scale, variant, signature, seed), one after another: the body of a job."""
    for scale, variant, signature, seed in runs:
        run_one(Scale(scale), variant, signature, seed)


def run_one(
    scale: Scale, variant: str, signature: str, seed: int, *, on_step: OnStep = lambda step, metrics: None
) -> None:
    """Train and test one run, from its newest checkpoint if there is one. Leaves ``result.json`` or ``error.txt``.

    Raises SignatureError if ``variant`` is not what the launcher meant, AlreadyRunningError while another process
    works on the run, StopRequested after a stop signal, and whatever went wrong.
    """
    run = RunDirectory(scale, signature, seed)
    owner = Ownership(run)
    clock = _Clock.of(run)
    try:
        recipe = find_experiment(scale, find_variant(variant)).recipe
        if recipe.signature != signature:
            raise SignatureError(
                f"{variant} at scale {scale} is {recipe.signature} here, but {signature} was launched: "
                "the code changed in between; launch again"
            )
        with stop_signals() as stop:
            _train_and_test(run, recipe, owner, clock=clock, stop=stop, on_step=on_step)
    except Exception:
        owner.check()
        write_text(run.error, traceback.format_exc())
        raise


def check_ready(experiments: Collection[Experiment]) -> None:
    """See that what ``experiments`` read is there before any job starts; raises vswin.data's DataError if not."""
    from vswin.data.annotations import DataError, Split, VideoList

    for image in sorted({experiment.recipe.init.image or "" for experiment in experiments} - {""}):
        if not image_weights(image).exists():
            raise DataError(f"{image_weights(image)}: the image model to start from is missing; {_where_to_get(image)}")
    for dataset in sorted({experiment.recipe.data.dataset for experiment in experiments}):
        for split in Split:
            _ = VideoList.of_split(folders.data(), dataset=dataset, split=split).fingerprint


def image_weights(name: str) -> Path:
    """Where the weights of the image model ``name`` lie."""
    return folders.data() / "weights" / f"{name}.pth"


def _same_data(run: RunDirectory, fingerprint: str) -> None:
    """Note the videos a run is trained on at its first attempt, and insist on them afterwards."""
    if not run.data.exists():
        write_json(run.data, {"train": fingerprint})
    elif json.loads(run.data.read_text()) != {"train": fingerprint}:
        raise OtherDataError(
            f"the videos are others than when this run began; bring them back, or delete {run.path} to start over"
        )


def _where_to_get(image: str) -> str:
    return f"put {image}.pth of github.com/SwinTransformer/storage, release v1.0.0, there"


def _train_and_test(
    run: RunDirectory, recipe: Recipe, owner: Ownership, *, clock: _Clock, stop: Stop, on_step: OnStep
) -> None:
    import numpy as np
    import torch

    from vswin.data.annotations import Split, VideoList
    from vswin.data.datasets import TestViews, TrainClips
    from vswin.data.loaders import train_loader, view_loader
    from vswin.data.sampler import TrainBatches
    from vswin.models import build, inflate, read_checkpoint
    from vswin.training.evaluate import evaluate
    from vswin.training.train import End, train

    # ------------------------------------------------------------------ where
    code = provenance.commit()
    miniature = run.scale is not Scale.PAPER
    if not miniature and not torch.cuda.is_available():
        raise RuntimeError("scale paper needs a GPU and torch sees none; see vswin doctor, or use --scale mini")
    device = torch.device("cpu" if miniature else "cuda")
    if miniature:
        # one thread: as many runs at once as there are cores, and the same bits on any number of cores
        torch.set_num_threads(1)
    write_json(run.recipe, to_dict(recipe))

    # ------------------------------------------------------------------ what
    torch.manual_seed(run.seed)
    model = build(recipe.model)
    if recipe.init.image is not None:
        weights = read_checkpoint(image_weights(recipe.init.image))
        print(inflate(weights, model, embedding=recipe.init.embedding, bias=recipe.init.bias), flush=True)
    videos = {split: VideoList.of_split(folders.data(), dataset=recipe.data.dataset, split=split) for split in Split}
    fingerprints = {split.value: videos[split].fingerprint for split in Split}
    _same_data(run, fingerprints[Split.TRAIN])
    clips = TrainClips(videos[Split.TRAIN], config=recipe.data, seed=run.seed, keep_decoded=miniature)
    batches = TrainBatches(
        num_videos=len(clips), batch_size=recipe.optim.batch_size, epochs=recipe.optim.epochs, seed=run.seed
    )

    with Journal(run.journal, check_owner=owner.check) as journal:

        def log(step: int, metrics: Mapping[str, float]) -> None:
            metrics = {**metrics, **clock.metrics()}
            journal.write(step, metrics)
            on_step(step, metrics)

        def before_save() -> None:
            # a checkpoint is never ahead of the journal, and never replaces a later attempt's
            owner.check()
            journal.sync()

        # -------------------------------------------------------------- train
        outcome = train(
            model,
            lambda step: train_loader(clips, batches=batches.starting_at(step)),
            config=recipe.optim,
            steps_per_epoch=batches.steps_per_epoch,
            seed=run.seed,
            directory=run.checkpoints,
            device=device,
            log=log,
            warn=lambda message: print(f"warning: {message}", flush=True),
            before_save=before_save,
            should_stop=lambda: stop.requested,
            checkpoint_seconds=_CHECKPOINT_SECONDS,
        )

        def stop_if_asked() -> None:
            if stop.requested:
                journal.sync()
                stop.hand_over()
                raise StopRequested(f"stopped at step {outcome.step} of {len(batches)}; saved")

        if outcome.end is End.STOPPED:
            stop_if_asked()

        # -------------------------------------------------------------- test
        views = TestViews(videos[Split.VAL], config=recipe.data, protocol=recipe.protocol, keep_decoded=miniature)
        predictions = evaluate(
            model,
            view_loader(views, batch_size=_VIDEOS_AT_ONCE),
            precision=recipe.optim.precision,
            device=device,
            views_at_once=_VIDEOS_AT_ONCE,
            on_videos=lambda _: stop_if_asked(),
        )
        top1, top5 = predictions.top(1), predictions.top(5)
        log(outcome.step + 1, {"test/top1": top1, "test/top5": top5})

    # ------------------------------------------------------------------ leave
    cost = view_cost(recipe)
    record = Record(
        schema=SCHEMA,
        kind=Kind.TRAINED,
        scale=run.scale,
        signature=run.signature,
        protocol=recipe.protocol_signature,
        seed=run.seed,
        top1=top1,
        top5=top5,
        videos=len(predictions.labels),
        params=cost.params,
        flops=cost.flops,
        recipe=to_dict(recipe),
        provenance=Provenance(
            commit=code.name,
            dirty=code.dirty,
            finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            python=platform.python_version(),
            torch=torch.__version__,
            software=provenance.software(),
            device=torch.cuda.get_device_name() if device.type == "cuda" else provenance.processor(),
            threads=torch.get_num_threads(),
            dataset=fingerprints,
            attempts=owner.number,
            steps=outcome.step,
            wall_seconds=clock.wall,
            cpu_seconds=clock.cpu,
        ),
    )
    owner.check()
    with run.predictions.open("wb") as file:
        np.savez_compressed(file, scores=predictions.scores, labels=predictions.labels)
    # last, and at once: where this file is, the run is done
    write_text(run.result, dump(record))


@dataclass(frozen=True)
class _Clock:
    """Seconds spent on a run over all its attempts, as far as the journal knows of the earlier ones."""

    earlier: Mapping[str, float]
    wall_start: float
    cpu_start: float

    @classmethod
    def of(cls, run: RunDirectory) -> _Clock:
        earlier: Mapping[str, float] = {}
        for entry, _ in read(run.journal):
            earlier = entry.metrics
        return cls(earlier, time.monotonic(), time.process_time())

    @property
    def wall(self) -> float:
        return round(self.earlier.get("time/wall", 0.0) + time.monotonic() - self.wall_start, 2)

    @property
    def cpu(self) -> float:
        return round(self.earlier.get("time/cpu", 0.0) + time.process_time() - self.cpu_start, 2)

    def metrics(self) -> dict[str, float]:
        return {"time/wall": self.wall, "time/cpu": self.cpu}
