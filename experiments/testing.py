"""Tests a model under a protocol and leaves a record: shared by trained runs and published weights."""

from __future__ import annotations

import io
import math
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vswin.config import Protocol, Split

from . import provenance
from .clock import Clock
from .cost import view_cost
from .recipe import Recipe, Scale, changed, to_dict
from .record import SCHEMA, Batches, Checkpoint, Kind, Provenance, Record, dump
from .runs import write_bytes, write_text
from .runtime import Runtime

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vswin.data.annotations import VideoList
    from vswin.training.distributed import World
    from vswin.training.evaluate import Predictions

_SAVE_SECONDS = 60.0
# Processes meet after so many batches, so that at the end none waits for another for longer than it has patience.
_MEET_BATCHES = 32


class StoppedError(Exception):
    """A test was asked to stop, in whichever of its processes; what was scored is saved."""


@dataclass(frozen=True, kw_only=True)
class TestBench:
    """Where models of ``recipe`` are tested: on these ``videos``, those of every split that is tested on.

    ``warn`` is told of every broken video. ``should_stop`` is asked and ``on_batch`` called after every batch.
    """

    __test__ = False  # pytest would take it for a test by its name

    scale: Scale
    recipe: Recipe
    videos: Mapping[Split, VideoList]
    device: torch.device
    world: World
    runtime: Runtime
    warn: Callable[[str], None]
    should_stop: Callable[[], bool] = lambda: False
    on_batch: Callable[[], None] = lambda: None

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
        a later call computes only what is missing. ``on_videos`` is told how many videos were there, then how many each
        batch added, and of how many that this process will have in the end.

        Raises StoppedError in every process if one was asked to stop.
        """
        from vswin.data.datasets import TestViews
        from vswin.data.loaders import view_loader
        from vswin.training.evaluate import Predictions, evaluate

        done = [_load(path) for path in sorted(partial.glob("*.npz"))] if partial else []
        videos = self.videos[protocol.split]
        known = np.zeros(len(videos), dtype=bool)
        for part in done:
            known[part.videos] = True
        # nobody may save before everybody has read
        self.world.gather(None)
        mine: list[Predictions] = []

        def save() -> None:
            if partial and mine:
                # named after a video that is in no other file
                write_bytes(partial / f"from-{mine[0].videos[0]:07d}.npz", _pack(mine))

        unknown = np.flatnonzero(~known)
        todo = unknown[self.world.rank :: self.world.size].tolist()
        batch_size = max(1, self.runtime.views_at_once // (protocol.clips * protocol.crops))
        # of the process with most batches; after its last one there is another
        meetings = math.ceil(len(unknown) / (self.world.size * batch_size)) // _MEET_BATCHES
        met, stopped = 0, False
        total = int(known.sum()) + len(todo)
        on_videos(total - len(todo), total)
        loader = view_loader(
            TestViews(videos, config=self.recipe.data, protocol=protocol, keep_decoded=self.keep_decoded),
            videos=todo,
            batch_size=batch_size,
            workers=self.runtime.workers,
            warn=self.warn,
        )
        saved_at = time.monotonic()
        try:
            scored = evaluate(
                model,
                loader,
                precision=protocol.precision,
                device=self.device,
                views_at_once=self.runtime.views_at_once,
            )
            for number, part in enumerate(scored, start=1):
                mine.append(part)
                on_videos(len(part.videos), total)
                if time.monotonic() - saved_at >= _SAVE_SECONDS:
                    save()
                    saved_at = time.monotonic()
                self.on_batch()
                asked = self.should_stop()
                if asked or number % _MEET_BATCHES == 0:
                    met, stopped = met + 1, self.world.any(asked)
                if stopped:
                    break
            while met <= meetings and not stopped:
                met, stopped = met + 1, self.world.any(self.should_stop())
            if stopped:
                raise StoppedError
            parts = self.world.gather(mine)
        except BaseException:
            save()
            raise
        if not self.world.is_first:
            return None
        predictions = Predictions.joined([*done, *(part for rank in parts for part in rank)], num_videos=len(videos))
        if bad := int(np.isnan(predictions.scores).any(axis=1).sum()):
            self.warn(f"{bad} of {len(videos)} videos have scores that are not numbers, counted as wrong")
        return predictions

    @property
    def keep_decoded(self) -> bool:
        """Whether every decoded video stays in memory: those of the miniature are small."""
        return self.scale is not Scale.PAPER

    def machine(self) -> dict[str, Any]:
        """What the last bits of a result depend on besides code, recipe and data."""
        import torch

        return {
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else provenance.processor(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda if self.device.type == "cuda" else None,
            "threads": torch.get_num_threads(),
            "processes": self.world.size,
        }


def leave_record(
    result: Path,
    predictions: Predictions,
    *,
    bench: TestBench,
    protocol: Protocol,
    kind: Kind,
    code: provenance.Commit,
    dataset: Mapping[str, Mapping[str, Any]],
    clock: Clock,
    partial: Path,
    seed: int | None = None,
    batches: Batches | None = None,
    started_from: Checkpoint | None = None,
    checkpoint: Checkpoint | None = None,
    attempts: int | None = None,
    steps: int | None = None,
) -> Record:
    """Write the record of a test to ``result`` and every score beside it, as npz; then remove ``partial``.

    The record comes at once and after the scores: where it is, the test is done.
    """
    recipe = changed(bench.recipe, {"protocol": protocol})
    cost = view_cost(recipe)
    record = Record(
        schema=SCHEMA,
        kind=kind,
        scale=bench.scale,
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
            dataset=dataset,
            batches=batches,
            started_from=started_from,
            checkpoint=checkpoint,
            attempts=attempts,
            steps=steps,
            wall_seconds=clock.wall,
            cpu_seconds=clock.cpu,
            energy_joules=clock.energy,
            precision=protocol.precision if kind is Kind.PUBLISHED_WEIGHTS else recipe.optim.precision,
            **bench.machine(),
        ),
    )
    broken = [bench.videos[protocol.split].names[video] for video in predictions.videos[predictions.broken]]
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
