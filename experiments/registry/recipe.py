"""A recipe is everything that decides the numbers; its signature is the identity of what is trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from vswin.config import DataConfig, Init, ModelConfig, OptimConfig, Protocol

# Part of every signature: raise it when the meaning of a field changes, and old runs are no longer taken for new ones.
SCHEMA = 2


class Scale(StrEnum):
    """Size of an experiment. ``tiny`` is for tests: its runs leave no records."""

    PAPER = "paper"
    MINI = "mini"
    TINY = "tiny"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The training part (model, init, data, optim) and the protocol it is tested under."""

    model: ModelConfig
    init: Init
    data: DataConfig
    optim: OptimConfig
    protocol: Protocol

    @cached_property
    def signature(self) -> str:
        """Ten hexadecimal digits naming what is trained: its fields as ``to_dict`` has them."""
        return signatures_of(to_dict(self))[0]

    @cached_property
    def protocol_signature(self) -> str:
        """Six hexadecimal digits naming how it is tested; one trained run can be tested under several."""
        return signatures_of(to_dict(self))[1]


def signatures_of(recipe: Mapping[str, Any]) -> tuple[str, str]:
    """Signature and protocol signature of a recipe that is given as plain data, as ``to_dict`` and records have it."""
    training = {name: value for name, value in recipe.items() if name != "protocol"}
    return _digest(training), _digest(recipe["protocol"])[:6]


def to_dict(value: Any) -> Any:
    """Nested plain data of a configuration, ready for JSON: every field, but for later ones that have their default."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_dict(getattr(value, field.name))
            for field in fields(value)
            if not (field.metadata.get("added") and getattr(value, field.name) == field.default)
        }
    if isinstance(value, tuple):
        return [to_dict(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    return value


def flatten(recipe: Recipe) -> dict[str, Any]:
    """Every field by its dotted path, ``{"model.attention": "joint", ...}``; sequences stay whole."""
    return {path: value for part in fields(recipe) for path, value in _paths(part.name, getattr(recipe, part.name))}


def _paths(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """``value`` at ``path``, or if it is a configuration its fields at longer paths."""
    if is_dataclass(value):
        for each in fields(value):
            yield from _paths(f"{path}.{each.name}", getattr(value, each.name))
    else:
        yield path, to_dict(value)


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """``recipe`` with fields replaced by dotted path; raises ValueError for a path it does not have."""

    def put(value: Any, path: list[str], new: Any, whole: str) -> Any:
        name, *rest = path
        names = [field.name for field in fields(value)] if is_dataclass(value) else []
        if name not in names:
            raise ValueError(f"no field {whole!r} in a recipe: expected one of {names} at {name!r}")
        return replace(value, **{name: put(getattr(value, name), rest, new, whole) if rest else new})

    for path, new in changes.items():
        recipe = put(recipe, path.split("."), new, path)
    return recipe


def difference(recipe: Recipe, baseline: Recipe) -> dict[str, tuple[Any, Any]]:
    """Fields that differ, by dotted path: (in the baseline, in the recipe)."""
    # most variants change one part, and every table compares its rows when it is imported
    changes: dict[str, tuple[Any, Any]] = {}
    for part in fields(recipe):
        before, here = getattr(baseline, part.name), getattr(recipe, part.name)
        if before != here:
            old, new = dict(_paths(part.name, before)), dict(_paths(part.name, here))
            paths = (path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
            changes |= {path: (old.get(path), new.get(path)) for path in paths}
    return changes


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps({"schema": SCHEMA, **content}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]
