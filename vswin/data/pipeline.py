"""Samples of a data set, collated in this process or in workers, in order.

Workers come from a fork server: a process without threads or CUDA that has imported torch once. A fork of this
process could inherit a lock that one of its threads holds, and a spawned worker would import torch anew.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from ..errors import ExplainedError
from . import worker
from .broken import ReadFailure, TooManyBrokenError
from .transforms import stack

# For one sample, in seconds. A video is given up long before (see ``video``): this is for a worker that hangs itself.
PATIENCE = 300.0

Batch = TypeVar("Batch", bound=tuple[Tensor, ...])
BatchOut = TypeVar("BatchOut", bound=tuple[Tensor, ...], covariant=True)
Key = TypeVar("Key")
KeyIn = TypeVar("KeyIn", contravariant=True)

# A sample or a batch, and the videos that failed on the way.
_Read: TypeAlias = tuple[Batch, tuple[ReadFailure, ...]]

_SHARED_MEMORY = "/dev/shm"

# How many files of a batch an error names.
_NAMED = 8


class WorkerError(ExplainedError, RuntimeError):
    """A worker process died or hung."""


class Samples(Protocol[BatchOut, KeyIn]):
    """The interface that TrainClips and TestViews share."""

    def read(self, key: KeyIn, /) -> tuple[BatchOut, tuple[ReadFailure, ...]]:
        """A sample, and the videos that failed on the way."""

    def path(self, key: KeyIn, /) -> Path:
        """The file that ``key`` is about."""


class Keys(Protocol[Key]):
    """The keys that make each batch."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[Key]]: ...


class Pipeline(Generic[Batch, Key]):
    """Batches of the samples that ``keys`` lists, each with the failures on the way, in order.

    ``workers`` is the number of processes, 0 for none; ``patience`` is in seconds, for one sample in a worker.
    Iterating raises TooManyBrokenError as ``samples`` does, and WorkerError where a worker dies or is too slow.
    """

    def __init__(self, samples: Samples[Batch, Key], *, keys: Keys[Key], workers: int, patience: float) -> None:
        self._samples: Samples[Batch, Key] = samples
        self._keys = keys
        self._workers = workers
        self._patience = patience

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[_Read[Batch]]:
        if self._workers == 0:
            for keys in self._keys:
                yield _collate([self._samples.read(key) for key in keys])
            return
        others = set(multiprocessing.active_children())
        with worker.deaf_children():
            batches = iter(self._loader())
        processes = set(multiprocessing.active_children()) - others
        try:
            for number, keys in enumerate(self._keys):
                try:
                    batch = next(batches)
                except RuntimeError as error:
                    if _is_short_of_shared_memory(str(error)):
                        raise WorkerError(_shared_memory_explained()) from None
                    if "DataLoader worker (pid" not in str(error):
                        raise
                    raise WorkerError(self._lost(number, keys, reason=str(error))) from None
                if isinstance(batch, TooManyBrokenError):
                    raise batch
                yield batch
        finally:
            del batches
            # Deaf to polite signals; most have left by now.
            for process in processes:
                process.kill()

    def _loader(self) -> DataLoader[object]:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["vswin.data.datasets", "vswin.data.pipeline"])
        return DataLoader(
            _Patient(self._samples, seconds=self._patience),
            batch_sampler=self._keys,
            num_workers=self._workers,
            collate_fn=_collate_unless_broken,
            worker_init_fn=worker.start,
            multiprocessing_context=context,
            pin_memory=torch.cuda.is_available(),
            # It draws a seed for the workers, which use none; the caller's random state stays as it is.
            generator=torch.Generator(),
        )

    def _lost(self, number: int, keys: Sequence[Key], *, reason: str) -> str:
        files = [str(self._samples.path(key)) for key in keys]
        more = f"\n  and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
        return (
            f"a worker process died or hung while batch {number} of this loader was waited for ({reason}); it may have "
            "been at work on it or on one of the next. If the system killed it for its memory, use fewer workers or "
            f"smaller batches; if it took more than {self._patience:g} seconds for a sample, the standard error shows "
            "where; with 0 workers an error shows in this process. The files of the batch:\n  "
            + "\n  ".join(files[:_NAMED])
            + more
        )


def _is_short_of_shared_memory(message: str) -> bool:
    return "shared memory" in message.lower() or "Bus error" in message or "/torch_" in message


def _shared_memory_explained() -> str:
    """One sentence on what workers hand batches over in."""
    try:
        size, _, free = shutil.disk_usage(_SHARED_MEMORY)
        room = f"{_SHARED_MEMORY} has {size / 2**20:.0f} MB, {free / 2**20:.0f} MB free"
    except OSError:
        room = f"there is no {_SHARED_MEMORY}"
    return (
        f"shared memory is too small for worker processes to hand batches over: {room}. Start the container with more "
        "(docker run --shm-size=8g, or --ipc=host), or decode in this process with --workers 0"
    )


class _Patient(Dataset[object], Generic[Batch, Key]):
    """Samples as a DataLoader asks for them, each in limited time."""

    def __init__(self, samples: Samples[Batch, Key], *, seconds: float) -> None:
        self._samples: Samples[Batch, Key] = samples
        self._seconds = seconds

    def __getitem__(self, key: Key) -> _Read[Batch] | TooManyBrokenError:
        with worker.patience(self._seconds):
            try:
                return self._samples.read(key)
            except TooManyBrokenError as error:
                # Raised here, it would reach the parent wrapped in the text of a traceback.
                return error


def _collate_unless_broken(reads: Sequence[_Read[Batch] | TooManyBrokenError]) -> _Read[Batch] | TooManyBrokenError:
    good = []
    for read in reads:
        if isinstance(read, TooManyBrokenError):
            return read
        good.append(read)
    return _collate(good)


def _collate(reads: Sequence[_Read[Batch]]) -> _Read[Batch]:
    pixels, *others = zip(*(sample for sample, _ in reads), strict=True)
    make: Any = type(reads[0][0])
    batch: Batch = make(stack(pixels), *(default_collate(list(values)) for values in others))
    return batch, tuple(failure for _, failures in reads for failure in failures)
