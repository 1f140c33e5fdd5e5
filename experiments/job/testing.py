"""Tests a model under a protocol and leaves a record: shared by trained runs and published weights."""

from __future__ import annotations

import io
import math
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from vswin.config import Protocol, Split

from ..files import write_bytes, write_text
from ..registry.cost import view_cost
from ..registry.recipe import Recipe, Scale, changed, to_dict
from ..results.record import Batches, Checkpoint, Provenance, Record, RecordKind, dump
from ..results.recorded import SCHEMA
from ..runs.runtime import Runtime
from . import provenance
from .clock import Clock
from .errors import StoppedError

if TYPE_CHECKING:
    from torch import nn

    from vswin.data.annotations import VideoList
    from vswin.training.distributed import World
    from vswin.training.evaluate import Predictions
    from vswin.training.watch import Watch

_SAVE_SECONDS = 60.0
# Processes meet after so many batches, so that at the end none waits for another for longer than it has patience.
_MEET_BATCHES = 32

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Tests models of ``recipe`` on ``videos``: a list for every split that is tested on.

    ``watch`` is told of every broken video, and asked after every batch whether to stop.
    """

    scale: Scale
    recipe: Recipe
    videos: Mapping[Split, VideoList]
    world: World
    runtime: Runtime
    watch: Watch

    def validate(self, model: nn.Module) -> dict[str, float] | None:
        """Top-1 and top-5 of one clip's centre crop, as during the published training; empty but in the first process.

        None, in every process, if one was asked to stop. Leaves the model in the mode it was in. Source:
        ``val_pipeline`` of the released configs @db018fb8.
        """
        data = self.recipe.data
        training = model.training
        protocol = Protocol(clips=1, crops=1, short_side=data.short_side[0], crop=data.crop, antialias=data.antialias)
        try:
            predictions = self.predict(model, protocol)
        except StoppedError:
            return None
        finally:
            model.train(training)
        return {"val/top1": predictions.top(1), "val/top5": predictions.top(5)} if predictions else {}

    def predict(
        self,
        model: nn.Module,
        protocol: Protocol,
        *,
        partial: Path | None = None,
        on_videos: Callable[[int, int], None] = lambda more, total: None,
    ) -> Predictions | None:
        """Score every video; the first process gets the predictions, the others None.

        ``partial`` is a folder for this model, protocol and list alone: scores are saved there from time to time, and
        a later call computes only what is missing. ``on_videos`` is told the number of videos that were there, then
        the number that each batch added; and with it the number that this process will have in the end.

        Raises StoppedError in every process if one was asked to stop.
        """
        from vswin.data.datasets import TestViews
        from vswin.data.loaders import view_loader
        from vswin.training.evaluate import Predictions, evaluate

        videos, views_at_once = self.videos[protocol.split], self.runtime.views_at_once
        scores = _Scores(partial)
        done = scores.read()
        known = np.zeros(len(videos), dtype=bool)
        for part in done:
            known[part.videos] = True
        # nobody may save before everybody has read
        self.world.gather(None)
        unknown = np.flatnonzero(~known)
        todo = unknown[self.world.rank :: self.world.size].tolist()
        batch_size = max(1, views_at_once // (protocol.clips * protocol.crops))
        # of the process with most batches; after its last one there is another
        meetings = math.ceil(len(unknown) / (self.world.size * batch_size)) // _MEET_BATCHES
        total = int(known.sum()) + len(todo)
        on_videos(total - len(todo), total)
        loader = view_loader(
            TestViews(videos, config=self.recipe.data, protocol=protocol, keep_decoded=self.runtime.keep_decoded),
            videos=todo,
            batch_size=batch_size,
            workers=self.runtime.workers,
            warn=self.watch.warn,
        )
        scored = evaluate(
            model,
            loader,
            precision=protocol.precision,
            device=self.world.device,
            views_at_once=views_at_once,
            pixels=self.recipe.data.pixels,
        )
        try:
            for part in self._until_stopped(scored, meetings=meetings):
                scores.add(part)
                on_videos(len(part.videos), total)
            parts = self.world.gather(scores.mine)
        except BaseException:
            scores.save()
            raise
        if not self.world.is_first:
            return None
        predictions = Predictions.joined([*done, *(part for rank in parts for part in rank)], num_videos=len(videos))
        if bad := int(np.isnan(predictions.scores).any(axis=1).sum()):
            self.watch.warn(f"{bad} of {len(videos)} videos have scores that are not numbers, counted as wrong")
        return predictions

    def _until_stopped(self, parts: Iterable[T], *, meetings: int) -> Iterator[T]:
        """``parts``, one by one; raises StoppedError, in every process at the same meeting, if one was asked to stop.

        Processes meet every ``_MEET_BATCHES`` parts, and at once where one was asked. So one may be meetings ahead of
        another: every process goes to all ``meetings`` of them, and to a last one.
        """
        met = 0
        for number, part in enumerate(parts, start=1):
            yield part
            asked = self.watch.should_stop()
            if asked or number % _MEET_BATCHES == 0:
                met += 1
                if self.world.any(asked):
                    raise StoppedError
        while met <= meetings:
            met += 1
            if self.world.any(self.watch.should_stop()):
                raise StoppedError


class _Scores:
    """The scores of this process, saved to ``folder``, if any, from time to time."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._saved_at = time.monotonic()
        self.mine: list[Predictions] = []

    def read(self) -> list[Predictions]:
        """The scores that any process has saved."""
        return [_load(path) for path in sorted(self._folder.glob("*.npz"))] if self._folder else []

    def add(self, part: Predictions) -> None:
        self.mine.append(part)
        if time.monotonic() - self._saved_at >= _SAVE_SECONDS:
            self.save()
            self._saved_at = time.monotonic()

    def save(self) -> None:
        if self._folder and self.mine:
            # named after a video that is in no other file
            write_bytes(self._folder / f"from-{self.mine[0].videos[0]:07d}.npz", _pack(self.mine))


@dataclass(frozen=True, kw_only=True)
class TrainedWeights:
    """The weights that a run ended with, after ``steps`` steps in ``attempts`` attempts.

    ``missing_steps``: first and last of each series that its journal has lost.
    """

    seed: int
    steps: int
    attempts: int
    batches: Batches
    started_from: Checkpoint | None
    missing_steps: tuple[tuple[int, int], ...] = ()


def leave_record(
    result: Path,
    predictions: Predictions,
    *,
    evaluator: Evaluator,
    protocol: Protocol,
    weights: TrainedWeights | Checkpoint,
    code: provenance.Commit,
    clock: Clock,
    partial: Path,
) -> Record:
    """Write the record of a test to ``result`` and every score beside it, as npz; then remove ``partial``.

    ``weights`` were trained here, or are those of a published file. The record comes at once and after the scores:
    where it is, the test is done.
    """
    recipe = changed(evaluator.recipe, {"protocol": protocol})
    cost = view_cost(recipe)
    seed: int | None
    origin: dict[str, Any]
    match weights:
        case TrainedWeights():
            kind, seed, precision = RecordKind.TRAINED, weights.seed, recipe.optim.precision
            names = ("batches", "started_from", "attempts", "steps", "missing_steps")
            origin = {name: getattr(weights, name) for name in names}
        case Checkpoint():
            kind, seed, precision = RecordKind.PUBLISHED_WEIGHTS, None, protocol.precision
            origin = {"checkpoint": weights}
    record = Record(
        schema=SCHEMA,
        kind=kind,
        scale=evaluator.scale,
        signature=recipe.signature,
        protocol=recipe.protocol_signature,
        seed=seed,
        top1=predictions.top(1),
        top5=predictions.top(5),
        class_accuracy=predictions.mean_class_accuracy(),
        videos=len(predictions.labels),
        broken=int(predictions.broken.sum()),
        params=cost.params,
        flops=cost.flops,
        recipe=to_dict(recipe),
        provenance=Provenance(
            commit=code.name,
            dirty=code.dirty,
            finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            python=platform.python_version(),
            software=provenance.software(),
            nodes=provenance.nodes(),
            dataset={split.value: videos.manifest() for split, videos in evaluator.videos.items()},
            wall_seconds=clock.wall,
            cpu_seconds=clock.cpu,
            energy_joules=clock.energy,
            precision=precision,
            **origin,
            **provenance.machine(evaluator.world),
        ),
    )
    broken = [evaluator.videos[protocol.split].names[video] for video in predictions.videos[predictions.broken]]
    if broken:
        write_text(result.with_suffix(".broken.txt"), "".join(f"{name}\n" for name in broken))
    write_bytes(result.with_suffix(".npz"), _pack([predictions]))
    write_text(result, dump(record))
    shutil.rmtree(partial, ignore_errors=True)
    return record


def _pack(parts: Iterable[Predictions]) -> bytes:
    parts = list(parts)
    buffer = io.BytesIO()
    arrays = {name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])}
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _load(path: Path) -> Predictions:
    from vswin.training.evaluate import Predictions

    with np.load(path, allow_pickle=False) as archive:
        return Predictions(**{name: archive[name] for name in archive.files})
