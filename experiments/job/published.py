"""Tests published weights on the user's data: the cheapest reproduction there is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vswin.training.watch import Watch

from .. import folders
from ..files import locked
from ..registry.recipe import Scale
from ..registry.table import Variant
from ..results.record import Checkpoint, Record, load
from ..runs.directory import published_folder
from ..runs.runtime import Runtime
from . import provenance
from .clock import Clock, gpus
from .errors import StoppedError, StopRequested
from .signals import Stop, stop_signals
from .testing import Evaluator, leave_record

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class _ReportWatch(Watch):
    report: Callable[[str], None]
    stop: Stop

    def warn(self, message: str) -> None:
        self.report(f"warning: {message}")

    def should_stop(self) -> bool:
        return self.stop.requested


def evaluate_published(
    variant: Variant,
    *,
    scale: Scale,
    checkpoint: Path,
    runtime: Runtime,
    report: Callable[[str], None],
    on_videos: Callable[[int, int], None] = lambda more, total: None,
) -> Record | None:
    """Test the weights in ``checkpoint`` under the recipe and protocol of ``variant``; leaves a record.

    A test that is done is not done again; one that was interrupted is resumed. ``report`` is told what became of every
    weight and what computes; ``on_videos`` as in ``Evaluator.predict``. Under torchrun or srun the videos are shared
    out; the first process returns the record, the others None, and report broken videos only.

    Raises vswin's WeightsError for a file that is not there or does not fit the model, its DataError for a data set.
    """
    import torch

    from vswin.data.annotations import VideoList
    from vswin.models import NoWeightsError
    from vswin.training.distributed import World, process_group

    code = provenance.commit()
    recipe = variant.at(scale)
    runtime = runtime.on_any_device(gpus=torch.cuda.device_count())
    world = World.from_environment().on(runtime.device)
    if not checkpoint.is_file():
        raise NoWeightsError(f"expected a checkpoint file, found none at {checkpoint}")
    source = Checkpoint(file=checkpoint.name, sha256=provenance.sha256(checkpoint))
    videos = VideoList.of_split(folders.data(), dataset=recipe.data.dataset, split=recipe.protocol.split)
    name = f"{recipe.signature}-{recipe.protocol_signature}-{source.sha256[:10]}-{videos.fingerprint[:10]}"
    result = published_folder(scale) / f"{name}.json"
    with ExitStack() as stack:
        if world.is_first:
            # before signals are only noted: Ctrl-C ends the wait
            waiting = "another process tests the same; waiting for it"
            stack.enter_context(locked(result.with_suffix(".lock"), on_wait=lambda: report(waiting)))
        stop = stack.enter_context(stop_signals())
        stack.enter_context(process_group(world))
        # asked by the one with the lock, for all: the test may have been done while it waited
        if world.gather(result.exists())[0]:
            if not world.is_first:
                return None
            report("tested before; nothing to do")
            return load(result)

        model, loaded, tensors = _loaded(checkpoint, variant, scale=scale)
        model.to(world.device)
        if world.is_first:
            device = provenance.machine(world)["device"]
            report(loaded)
            report(f"testing {len(videos)} videos, {recipe.protocol.views} views each, on {device}")
        evaluator = Evaluator(
            scale=scale,
            recipe=recipe,
            videos={recipe.protocol.split: videos},
            world=world,
            runtime=runtime,
            watch=_ReportWatch(report, stop),
        )
        clock = Clock(gpus=gpus(world))
        partial = result.with_suffix(".partial")
        try:
            predictions = evaluator.predict(model, recipe.protocol, partial=partial, on_videos=on_videos)
        except StoppedError as error:
            raise StopRequested("stopped; the same command goes on from here") from error
        if predictions is None:
            return None
        return leave_record(
            result,
            predictions,
            evaluator=evaluator,
            protocol=recipe.protocol,
            weights=replace(source, tensors=tensors),
            code=code,
            clock=clock,
            partial=partial,
        )


def _loaded(checkpoint: Path, variant: Variant, *, scale: Scale) -> tuple[nn.Module, str, str]:
    """The model of ``variant`` with the weights in ``checkpoint``, what became of every weight, and their digest."""
    from vswin.models import WeightsError, build, count_classes, load_state, read_content, tensor_digest

    config = variant.at(scale).model
    source = f"checkpoint {checkpoint}"
    content = read_content(checkpoint)
    state = content.tensors
    classes = count_classes(state)
    if classes not in (None, config.num_classes):
        raise WeightsError(
            f"the {source} tells {classes} classes apart, {variant.id} at scale {scale} {config.num_classes}; "
            "test it under a variant of the data set that it was trained on, or see vswin predict"
        )
    model = build(config)
    loaded = str(load_state(model, state, source=source, notes=content.notes))
    # after its shapes were compared: what a file claims to hold may be larger than memory
    return model, loaded, tensor_digest(state)
