"""Tests published weights on the user's data: the cheapest reproduction there is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from . import folders, provenance
from .clock import Clock
from .energy import gpus
from .recipe import Scale
from .record import Checkpoint, Kind, Record, load
from .registry import Variant
from .runs import locked, published_folder
from .runtime import Runtime
from .signals import stop_signals
from .testing import StoppedError, TestBench, leave_record


class Interrupted(SystemExit):
    """The test was asked to stop; what was scored is saved."""


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

    A test that is done is not done again; one that was interrupted goes on. ``report`` is told what became of every
    weight and what computes; ``on_videos`` how many videos each batch added, and of how many. Under torchrun or srun
    the videos are shared out; the first process returns the record, the others None, and report broken videos only.

    Raises vswin's WeightsError for a file that is not there or does not fit the model, its DataError for a data set.
    """
    import torch

    from vswin.data.annotations import VideoList
    from vswin.models import NoWeightsError, WeightsError, build, count_classes, load_state, read_checkpoint
    from vswin.training.distributed import World, process_group

    code = provenance.commit()
    recipe = variant.at(scale)
    world = World.from_environment()
    device = world.device("cuda" if torch.cuda.is_available() else "cpu")
    if not checkpoint.is_file():
        raise NoWeightsError(f"expected a checkpoint file, found none at {checkpoint}")
    with checkpoint.open("rb") as file:
        source = Checkpoint(file=checkpoint.name, sha256=hashlib.file_digest(file, "sha256").hexdigest())
    videos = VideoList.of_split(folders.data(), dataset=recipe.data.dataset, split=recipe.protocol.split)
    name = f"{recipe.signature}-{recipe.protocol_signature}-{source.sha256[:10]}-{videos.fingerprint[:10]}"
    result = published_folder(scale) / f"{name}.json"
    with ExitStack() as stack:
        if world.is_first:
            # before signals are only noted: Ctrl-C ends the wait
            waiting = "another process tests the same; waiting for it"
            stack.enter_context(locked(result.with_suffix(".lock"), on_wait=lambda: report(waiting)))
        stop = stack.enter_context(stop_signals())
        stack.enter_context(process_group(world, device=device))
        # asked by the one with the lock, for all: the test may have been done while it waited
        if world.gather(result.exists())[0]:
            if not world.is_first:
                return None
            report("tested before; nothing to do")
            return load(result)

        named = f"checkpoint {checkpoint}"
        state = read_checkpoint(checkpoint)
        classes = count_classes(state, source=named)
        if classes not in (None, recipe.model.num_classes):
            raise WeightsError(
                f"the {named} tells {classes} classes apart, {variant.id} at scale {scale} {recipe.model.num_classes}; "
                "test it under a variant of the data set that it was trained on, or see vswin predict"
            )
        model = build(recipe.model)
        loaded = load_state(model, state, source=named)
        model.to(device)
        bench = TestBench(
            scale=scale,
            recipe=recipe,
            videos={recipe.protocol.split: videos},
            device=device,
            world=world,
            runtime=runtime,
            warn=lambda message: report(f"warning: {message}"),
            should_stop=lambda: stop.requested,
        )
        if world.is_first:
            report(str(loaded))
            report(f"testing {len(videos)} videos, {recipe.protocol.views} views each, on {bench.machine()['device']}")

        clock = Clock(gpus=gpus(world, device=device))
        partial = result.with_suffix(".partial")
        try:
            predictions = bench.predict(model, recipe.protocol, partial=partial, on_videos=on_videos)
        except StoppedError as error:
            raise Interrupted("stopped; the same command goes on from here") from error
        if predictions is None:
            return None
        return leave_record(
            result,
            predictions,
            bench=bench,
            protocol=recipe.protocol,
            kind=Kind.PUBLISHED_WEIGHTS,
            code=code,
            dataset={recipe.protocol.split.value: videos.manifest()},
            clock=clock,
            partial=partial,
            checkpoint=source,
        )
