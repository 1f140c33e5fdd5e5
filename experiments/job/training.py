"""The one place where a training is put together: device, initial weights, feed and loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vswin.config import InitConfig, VideoInitConfig

from ..registry.recipe import Recipe, Scale
from ..registry.stand_ins import origin
from ..results.record import Batches
from ..runs.runtime import Runtime
from ..runs.weights import weights_file
from .errors import NoGpuError, UpstreamError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vswin.data.annotations import VideoList
    from vswin.training.distributed import World
    from vswin.training.train import TrainResult
    from vswin.training.watch import Watch


def set_up(runtime: Runtime) -> World:
    """Set threads and determinism as ``runtime`` has them; the world of this process, on its device.

    Call it before anything else is computed: the bits depend on it. Raises NoGpuError.
    """
    import torch

    from vswin.training.determinism import make_deterministic
    from vswin.training.distributed import World

    if runtime.on_gpu and not torch.cuda.is_available():
        raise NoGpuError(
            "scale paper needs a GPU and torch sees none; see vswin doctor, or use --scale mini, or --cpu for a model "
            "of your own that is small enough"
        )
    world = World.from_environment().on(runtime.device)
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    make_deterministic(world.device)
    return world


def initial_model(recipe: Recipe, *, scale: Scale, seed: int, runtime: Runtime) -> nn.Module:
    """The model before its first step, on the CPU. Prints what became of the weights that it starts from."""
    import torch

    from vswin.models import Geometry, HeadLoading, build, inflate, load_state

    # random initial weights, of the new head at least, are a function of the seed
    torch.manual_seed(seed)
    model = build(recipe.model, activation_checkpointing=runtime.recompute)
    match recipe.init:
        case InitConfig(image=str(name), embedding=embedding, bias=bias):
            image = _read(name, scale=scale)
            print(inflate(image, model, embedding=embedding, bias=bias), flush=True)
        case VideoInitConfig(video=name, resize=resize):
            source = f"checkpoint {weights_file(name, scale=scale)}"
            geometry = Geometry.RESIZE if resize else Geometry.EXACT
            state = _read(name, scale=scale)
            print(load_state(model, state, head=HeadLoading.KEEP, geometry=geometry, source=source), flush=True)
    return model


def _read(name: str, *, scale: Scale) -> Mapping[str, Tensor]:
    """The weights called ``name``; raises UpstreamError where those of an upstream run are damaged."""
    from vswin.models import DamagedWeightsError, read_checkpoint

    try:
        return read_checkpoint(weights_file(name, scale=scale))
    except DamagedWeightsError as error:
        made_by = origin(name)
        if made_by is None:
            raise
        again = f"vswin run {made_by[0]} --scale {scale}"
        raise UpstreamError(f"{error.path} {error.what}; {again} makes it again from its checkpoint") from error


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training of ``recipe`` in ``world``, the world that ``set_up(runtime)`` gave."""

    recipe: Recipe
    seed: int
    runtime: Runtime
    world: World

    def run(
        self,
        model: nn.Module,
        videos: VideoList,
        *,
        directory: Path,
        watch: Watch,
        validate: Callable[[nn.Module], Mapping[str, float] | None] | None = None,
    ) -> TrainResult:
        """Train ``model`` on ``videos``, from the newest checkpoint in ``directory``; see ``vswin.training.train``."""
        from vswin.data.sampler import TrainBatches
        from vswin.training.checkpoint import Checkpoints
        from vswin.training.feed import Feed, Loading
        from vswin.training.train import Validation, train

        runtime, optim = self.runtime, self.recipe.optim
        order = TrainBatches(
            num_videos=len(videos),
            batch_size=optim.batch_size,
            epochs=optim.epochs,
            seed=self.seed,
            rank=self.world.rank,
            world_size=self.world.size,
        )
        loading = Loading(
            workers=runtime.workers,
            keep_decoded=runtime.keep_decoded,
            broken_videos=runtime.broken_videos,
            warn=watch.warn,
        )
        return train(
            model,
            Feed.of_videos(videos, order=order, config=self.recipe.data, loading=loading),
            config=optim,
            seed=self.seed,
            checkpoints=Checkpoints(directory=directory, seconds=60 * runtime.checkpoint_minutes),
            watch=watch,
            world=self.world,
            micro_batch=runtime.micro_batch,
            validation=Validation(score=validate, epochs=runtime.validate_epochs) if validate else None,
        )

    @property
    def batches(self) -> Batches:
        """The effective batch, and how it is cut into ranks and micro-batches."""
        effective = self.recipe.optim.batch_size
        own = effective // self.world.size
        micro = min(self.runtime.micro_batch or own, own)
        return Batches(effective=effective, processes=self.world.size, accumulation=math.ceil(own / micro), micro=micro)
