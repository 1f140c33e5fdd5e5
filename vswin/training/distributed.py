"""Data-parallel training: the ranks, their devices, where they meet, and what they exchange.

Each process (rank) has a copy of the model and its own share of every batch; gradients are averaged over all.
"""

from __future__ import annotations

import os
import socket
import subprocess
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Self, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from ..errors import ExplainedError

# Ports for Slurm jobs to meet at: below the range that Linux hands out to programs (from 32768).
_FIRST_PORT, _PORTS = 10_000, 20_000
# How long a rank waits for another; rank 0 writes checkpoints while the others wait.
_PATIENCE = timedelta(minutes=15)
_MEETINGS = count()
_CPU = torch.device("cpu")


T = TypeVar("T")


class DistributedError(ExplainedError, RuntimeError):
    """The processes cannot work together; the message says which part is missing."""


@dataclass(frozen=True, kw_only=True)
class World:
    """``size`` processes, of which this one is ``rank``, on its machine the ``local_rank``-th, and its ``device``.

    ``meeting_place`` is the URL they find each other at. The methods that talk to other ranks are collective: every
    rank has to call them, inside ``process_group``. In a world of one they need no process group.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    meeting_place: str = "env://"
    device: torch.device = _CPU

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"expected a rank from 0 to {self.size - 1}, got {self.rank}")

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> Self:
        """The world that torchrun or Slurm's srun started this process in, else a world of one; on the CPU.

        torchrun's RANK, WORLD_SIZE and LOCAL_RANK go before srun's. Where srun started several tasks they meet at
        MASTER_ADDR, if that is set, or at the first machine of the step, and at a port that follows from the job's
        number. A batch script is told of its tasks, too, but it is one process until it calls srun.
        """
        if "RANK" in variables and "WORLD_SIZE" in variables:
            return cls(
                rank=int(variables["RANK"]),
                size=int(variables["WORLD_SIZE"]),
                local_rank=int(variables.get("LOCAL_RANK", 0)),
            )
        size = int(variables.get("SLURM_STEP_NUM_TASKS", 1))
        if size > 1:
            return cls(
                rank=int(variables["SLURM_PROCID"]),
                size=size,
                local_rank=int(variables["SLURM_LOCALID"]),
                meeting_place=_slurm_meeting_place(variables),
            )
        return cls()

    @property
    def is_first(self) -> bool:
        """True for rank 0, which logs and saves."""
        return self.rank == 0

    def on(self, kind: str) -> Self:
        """This world on devices of ``kind``: "cpu", or "cuda" for one GPU of those that this rank can see.

        Slurm may have narrowed those down to one. Raises DistributedError where the rank sees none.
        """
        if kind == "cpu":
            return replace(self, device=_CPU)
        if not torch.cuda.is_available():
            raise DistributedError(f"rank {self.rank} sees no GPU on its machine; see nvidia-smi there")
        return replace(self, device=torch.device(kind, self.local_rank % torch.cuda.device_count()))

    def replicated(self, model: nn.Module) -> nn.Module:
        """``model`` with gradients averaged over the ranks; weights are those of rank 0. A world of one: itself."""
        if self.size == 1:
            return model
        with warnings.catch_warnings():
            # torch 2.13 has a new name for the argument, which 2.11 does not know
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return DistributedDataParallel(
                model,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                # buffers are index tables that no step changes
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
            )

    def total(self, values: Tensor) -> Tensor:
        """The sum of ``values`` over the ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """True if ``flag`` is on any rank. Asked between CPUs, so that no GPU has to be waited for."""
        return bool(self.total(torch.tensor(int(flag))).item())

    def gather(self, value: T) -> list[T]:
        """Every rank's ``value``, in the order of the ranks, on every rank. ``value`` is pickled."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return cast(list[T], values)

    def wait(self) -> None:
        """Return when every rank has come here."""
        self.any(False)


# One process on its own.
ALONE = World()


def exchanging(network: nn.Module, *, exchange: bool) -> AbstractContextManager[None]:
    """Inside, a backward pass exchanges gradients between the ranks only where ``exchange``; else they add up here."""
    if exchange or not isinstance(network, DistributedDataParallel):
        return nullcontext()
    return network.no_sync()


def rehearse(network: nn.Module, clips: Tensor) -> None:
    """A pass through ``network`` and back that is thrown away, before the first step of every start.

    From its second pass on, DistributedDataParallel packs gradients for their exchange as they came in the first, and
    how they are packed decides in which order three or more ranks are added up. Without this, a resumed training
    would round its first step otherwise than one that was never stopped.
    """
    if isinstance(network, DistributedDataParallel):
        network(clips).float().sum().backward()
        network.zero_grad(set_to_none=True)


@contextmanager
def process_group(world: World, *, patience: timedelta = _PATIENCE) -> Iterator[None]:
    """Inside, the ranks of ``world`` can talk: over NCCL about what is on GPUs, over gloo about what is on CPUs.

    Whoever waits longer than ``patience`` for another rank, or loses it, raises DistributedError, so that the death
    of one rank ends all.
    """
    if world.size == 1:
        yield
        return
    on_gpu = world.device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(world.device)
    try:
        # a number of its own for every meeting: what an earlier one left at the place must not be taken for this one's
        store = PrefixStore(f"meeting {next(_MEETINGS)}", _place(world, patience))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            store=store,
            rank=world.rank,
            world_size=world.size,
            timeout=patience,
        )
    except (dist.DistError, RuntimeError) as error:
        raise DistributedError(
            f"rank {world.rank} did not meet all {world.size} ranks at {world.meeting_place}: {error}; "
            "start every rank, with srun or torchrun, and see that they reach the first machine"
        ) from error
    try:
        yield
    except BaseException as error:
        if not on_gpu:
            # NCCL would wait for the others, of which one may be gone; the end of this process frees it
            dist.destroy_process_group()
        if isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error)):
            raise DistributedError(
                f"rank {world.rank} of {world.size} lost another rank, or waited longer than {patience} for it: "
                f"{error}; the reason stands in the output of the rank that ended first"
            ) from error
        raise
    dist.destroy_process_group()


@cache
def _place(world: World, patience: timedelta) -> Store:
    """The store that rank 0 keeps for all until it ends: a job trains several runs, which ranks leave one by one."""
    store, _, _ = next(rendezvous(world.meeting_place, world.rank, world.size, timeout=patience))
    return store


def _slurm_meeting_place(variables: Mapping[str, str]) -> str:
    host = variables.get("MASTER_ADDR") or _first_host(variables["SLURM_STEP_NODELIST"])
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        # a name that only Slurm knows: where srun was called, which is the first machine under sbatch
        host = variables.get("SLURM_LAUNCH_NODE_IPADDR", host)
    number = int(variables["SLURM_JOB_ID"]) + int(variables["SLURM_STEP_ID"])
    port = variables.get("MASTER_PORT") or _FIRST_PORT + number % _PORTS
    return f"tcp://{host}:{port}"


def _first_host(nodes: str) -> str:
    try:
        answer = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
        return answer.stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise DistributedError(
            f"could not learn the first machine of {nodes!r} from scontrol: {error}; set MASTER_ADDR to its name"
        ) from error
