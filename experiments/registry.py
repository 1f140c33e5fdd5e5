"""Tables and their variants, as data. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from vswin.config import Protocol

from .recipe import Recipe, Scale, changed, difference


class UnknownNameError(LookupError):
    """A name that the registry does not have; the message offers the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = list(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(repr(item) for item in near)}?" if near else f"known: {', '.join(known)}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")


@dataclass(frozen=True, kw_only=True)
class Reported:
    """What the paper prints for a row: accuracy in percent, GFLOPs per view, parameters in millions."""

    top1: float
    top5: float
    gflops: float | None = None
    params: float | None = None


@dataclass(frozen=True)
class Row:
    """A row as written in a table's file: its name, what it changes in the baseline, what the paper reports."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    paper: Reported | None = None


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A named row of a table at scale ``paper``. ``name`` is its id within the table, ``label`` the paper's words."""

    table: str
    name: str
    label: str
    recipe: Recipe
    paper: Reported | None

    @property
    def id(self) -> str:
        """``table4/split``."""
        return f"{self.table}/{self.name}"

    def at(self, scale: Scale) -> Recipe:
        """This variant's recipe at ``scale``."""
        from .mini import mini, tiny

        return {Scale.PAPER: lambda recipe: recipe, Scale.MINI: mini, Scale.TINY: tiny}[scale](self.recipe)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A question, a baseline, the fields it isolates, its rows. The first row is the baseline.

    Raises ValueError where a row changes a field that the table does not isolate, at any scale, or where two rows
    are the same experiment.
    """

    id: str
    caption: str
    question: str
    source: str
    baseline: Recipe
    isolates: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        first, *others = self.variants
        if first.recipe != self.baseline:
            raise ValueError(f"{self.id}: the first row, {first.name!r}, must be the baseline unchanged")
        for scale in Scale:
            seen = {first.at(scale): first.name}
            for variant in others:
                recipe = variant.at(scale)
                stray = difference(recipe, first.at(scale)).keys() - set(self.isolates)
                if stray:
                    raise ValueError(
                        f"{variant.id} at scale {scale} changes {sorted(stray)}, but {self.id} isolates {self.isolates}"
                    )
                if recipe in seen:
                    raise ValueError(f"{variant.id} and {self.id}/{seen[recipe]} are the same recipe at scale {scale}")
                seen[recipe] = variant.name

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The rows as variants, in the paper's order."""
        return tuple(
            Variant(
                table=self.id,
                name=row.name,
                label=row.label or row.name,
                recipe=changed(self.baseline, row.changes),
                paper=row.paper,
            )
            for row in self.rows
        )


@cache
def tables() -> dict[str, Table]:
    """Every table by id, in the paper's order."""
    from .paper import TABLES

    return {table.id: table for table in TABLES}


def find_table(name: str) -> Table:
    """The table called ``name``; raises UnknownNameError."""
    if name not in tables():
        raise UnknownNameError("table", name, tables())
    return tables()[name]


def find_variant(name: str) -> Variant:
    """The variant called ``name``, as in ``table4/split``; raises UnknownNameError."""
    known = {variant.id: variant for table in tables().values() for variant in table.variants}
    if name not in known:
        raise UnknownNameError("variant", name, known)
    return known[name]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is trained once however many tables show it: a recipe at a scale, and the variants that share it.

    ``recipe.protocol`` is that of the first variant; ``protocols`` has all.
    """

    scale: Scale
    recipe: Recipe
    variants: tuple[Variant, ...]

    @property
    def name(self) -> str:
        """The paper's row name in the first table that has it."""
        return self.variants[0].id

    @property
    def protocols(self) -> dict[str, Protocol]:
        """What the trained model is tested under, by protocol signature: once for every protocol of its variants."""
        recipes = [variant.at(self.scale) for variant in self.variants]
        return {recipe.protocol_signature: recipe.protocol for recipe in recipes}


def experiments(scale: Scale, selection: Iterable[Table] | None = None) -> list[Experiment]:
    """The distinct experiments of ``selection`` (default: everything), in table order.

    Each carries all variants that share its signature, also those of tables outside the selection, so that a run
    belongs to the same tables whichever of them launched it.
    """
    shared: dict[str, list[Variant]] = {}
    for table in tables().values():
        for variant in table.variants:
            shared.setdefault(variant.at(scale).signature, []).append(variant)
    chosen = tables().values() if selection is None else selection
    signatures = dict.fromkeys(variant.at(scale).signature for table in chosen for variant in table.variants)
    return [
        Experiment(scale=scale, recipe=shared[signature][0].at(scale), variants=tuple(shared[signature]))
        for signature in signatures
    ]


def find_experiment(scale: Scale, variant: Variant) -> Experiment:
    """The experiment that ``variant`` is a row of."""
    signature = variant.at(scale).signature
    return next(item for item in experiments(scale) if item.recipe.signature == signature)
