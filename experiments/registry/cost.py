"""Parameters and FLOPs of one clip through a model, counted without training anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import vswin.config
from vswin.config import ModelConfig

from .. import folders
from ..files import write_json
from .recipe import Recipe, to_dict

if TYPE_CHECKING:
    from vswin.models import Cost


@dataclass(frozen=True, order=True)
class Input:
    """Input of a model: a clip of ``length`` frames of ``side`` x ``side`` pixels."""

    length: int
    side: int


@dataclass(frozen=True)
class Totals:
    """Parameters, FLOPs in the paper's convention and multiply-accumulates of one clip.

    ``buffer_bytes`` is what checkpoints hold of the model besides parameters.
    """

    params: int
    flops: int
    macs: int
    buffer_bytes: int = field(default=0, compare=False)


def view_cost(recipe: Recipe) -> Cost:
    """Parameters, FLOPs in the paper's convention and multiply-accumulates of one test view."""
    return _count(recipe.model, Input(recipe.data.clip.length, recipe.protocol.crop))[0]


def training_clip(recipe: Recipe) -> Input:
    """One clip of a training batch."""
    return Input(recipe.data.clip.length, recipe.data.crop)


def totals(models: Iterable[tuple[ModelConfig, Input]]) -> list[Totals]:
    """Cost of each of ``models`` on its input.

    Counts once, and keeps the result under the runs folder until the code of the models changes. Imports torch only
    when there is something to count.
    """
    wanted = [(_key(model, size), model, size) for model, size in models]
    file = folders.runs() / "cache" / f"costs-{_code()}.json"
    known = _read(file)
    missing = {key: (model, size) for key, model, size in wanted if key not in known}
    if missing:
        for key, (model, size) in missing.items():
            cost, buffer_bytes = _count(model, size)
            known[key] = Totals(cost.params, cost.flops, cost.macs, buffer_bytes)
        _write(file, known)
    return [known[key] for key, _, _ in wanted]


@cache
def _count(model: ModelConfig, size: Input) -> tuple[Cost, int]:
    """Cost of ``model``, and the bytes of its buffers."""
    import torch

    from vswin.models import build, count_cost

    with torch.device("meta"):
        built = build(model)
    buffer_bytes = sum(buffer.nbytes for buffer in built.buffers())
    return count_cost(built, (1, 3, size.length, size.side, size.side)), buffer_bytes


def _key(model: ModelConfig, size: Input) -> str:
    text = json.dumps([type(model).__name__, to_dict(model), size.length, size.side], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _code() -> str:
    """A digest of everything that decides what a model costs."""
    config = Path(vswin.config.__file__)
    files = [config, *sorted((config.parent / "models").rglob("*.py"))]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:10]


def _read(file: Path) -> dict[str, Totals]:
    try:
        return {key: Totals(**value) for key, value in json.loads(file.read_text()).items()}
    except (OSError, ValueError, TypeError):
        return {}


def _write(file: Path, known: dict[str, Totals]) -> None:
    try:
        write_json(file, {key: asdict(value) for key, value in known.items()})
        for other in file.parent.glob("costs-*.json"):
            if other != file:
                other.unlink(missing_ok=True)
    except OSError:
        # it is counted again next time
        return
