"""Tables and their variants, as data. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from vswin.config import Protocol

from . import upstream
from .recipe import Recipe, Scale, changed, difference


class UnknownNameError(LookupError):
    """A name that the registry does not have; the message offers the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = list(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(repr(item) for item in near)}?" if near else f"known: {', '.join(known)}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")


class NoRecipeError(LookupError):
    """A row or table that has nothing to run, at all or at one scale; the message says where it has."""

    def __init__(self, name: str, scale: Scale, scales: Iterable[Scale]) -> None:
        scales = list(scales)
        if scales:
            text = f"{name} does not exist at scale {scale}, only at {' and '.join(scales)}; add --scale {scales[0]}"
        else:
            text = f"{name} is a number that the paper reports for others: there is no recipe to run; see: vswin list"
        super().__init__(text)


@dataclass(frozen=True, kw_only=True)
class Reported:
    """What the paper prints for a row: accuracy in percent, GFLOPs per view, parameters in millions.

    ``pretrain`` is what the model was trained on before, ``views`` are clips in time x crops in space. None is a cell
    that the paper leaves empty or a column that the table does not have.
    """

    top1: float
    top5: float | None = None
    gflops: float | None = None
    params: float | None = None
    pretrain: str | None = None
    views: str | None = None


@dataclass(frozen=True)
class Row:
    """A row as written in a table's file: its name, what it changes in the block's baseline, what the paper reports.

    In a block without a baseline ``recipe`` is the row's own; without one the row is a reported reference.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    paper: Reported | None = None
    recipe: Recipe | None = None


@dataclass(frozen=True, kw_only=True)
class Block:
    """Rows of a table that belong together, under a title where the table has several blocks.

    With a ``baseline`` every row changes it in nothing but the fields the block ``isolates``, and the first row is the
    baseline. Without one the rows stand side by side, each with its own recipe or none. ``scales`` is where they can be
    run: a scale belongs there only if its recipes keep what the rows are about.
    """

    rows: tuple[Row, ...]
    title: str = ""
    baseline: Recipe | None = None
    isolates: tuple[str, ...] = ()
    scales: tuple[Scale, ...] = tuple(Scale)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A named row of a table. ``name`` is its id within the table, ``label`` the paper's words.

    ``recipe`` is that of scale ``paper``, None for a reported reference; ``scales`` is where it can be run.
    """

    table: str
    block: str
    name: str
    label: str
    recipe: Recipe | None
    paper: Reported | None
    scales: tuple[Scale, ...]

    @property
    def id(self) -> str:
        """``table4/split``."""
        return f"{self.table}/{self.name}"

    def at(self, scale: Scale) -> Recipe:
        """This variant's recipe at ``scale``; raises NoRecipeError where it has none."""
        from .mini import mini, tiny

        if self.recipe is None or scale not in self.scales:
            raise NoRecipeError(self.id, scale, self.scales)
        return {Scale.PAPER: lambda recipe: recipe, Scale.MINI: mini, Scale.TINY: tiny}[scale](self.recipe)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A question and the rows that answer it, in blocks.

    Raises ValueError where a row changes a field that its block does not isolate, at any of its scales, where two rows
    of a block are the same experiment, and where two rows have the same name.
    """

    id: str
    caption: str
    question: str
    source: str
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{self.id}: expected a name of its own for every row, got {', '.join(twice)} twice")
        for block, variants in zip(self.blocks, self.by_block, strict=True):
            self._check(block, [variant for variant in variants if variant.recipe is not None])

    def _check(self, block: Block, variants: list[Variant]) -> None:
        if block.baseline is not None and (len(variants) < len(block.rows) or variants[0].recipe != block.baseline):
            raise ValueError(f"{self.id}: the first row, {block.rows[0].name!r}, must be the baseline unchanged")
        for scale in block.scales:
            seen: dict[Recipe, str] = {}
            for variant in variants:
                recipe = variant.at(scale)
                stray = difference(recipe, variants[0].at(scale)).keys() - set(block.isolates)
                if block.baseline is not None and stray:
                    raise ValueError(
                        f"{variant.id} at scale {scale} changes {sorted(stray)}, "
                        f"but {self.id} isolates {block.isolates}"
                    )
                if recipe in seen:
                    raise ValueError(f"{variant.id} and {seen[recipe]} are the same recipe at scale {scale}")
                seen[recipe] = variant.id

    @cached_property
    def by_block(self) -> tuple[tuple[Variant, ...], ...]:
        """The rows as variants, one tuple for each of ``blocks``."""
        return tuple(tuple(self._variant(block, row) for row in block.rows) for block in self.blocks)

    def _variant(self, block: Block, row: Row) -> Variant:
        if (block.baseline is None and row.changes) or (block.baseline and row.recipe):
            raise ValueError(
                f"{self.id}/{row.name}: expected changes in a block with a baseline, a recipe in one without"
            )
        recipe = changed(block.baseline, row.changes) if block.baseline else row.recipe
        return Variant(
            table=self.id,
            block=block.title,
            name=row.name,
            label=row.label or row.name,
            recipe=recipe,
            paper=row.paper,
            scales=block.scales if recipe else (),
        )

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The rows as variants, in the paper's order, reported references among them."""
        return tuple(variant for variants in self.by_block for variant in variants)

    def at(self, scale: Scale) -> tuple[Variant, ...]:
        """The variants that can be run at ``scale``."""
        return tuple(variant for variant in self.variants if scale in variant.scales)

    @property
    def scales(self) -> tuple[Scale, ...]:
        """Where at least one row can be run."""
        return tuple(scale for scale in Scale if self.at(scale))

    def baseline_of(self, variant: Variant) -> Variant | None:
        """What ``variant`` is compared with: the first row of its block; None where rows stand side by side."""
        for block, variants in zip(self.blocks, self.by_block, strict=True):
            if variant in variants:
                return variants[0] if block.baseline else None
        raise ValueError(f"{variant.id} is no row of {self.id}")


@cache
def tables() -> dict[str, Table]:
    """Every table by id, in the paper's order, then those of ``$VSWIN_TABLES``.

    Raises OwnTableError for what cannot be read there and for a name that is taken.
    """
    from .own_tables import OwnTableError, own_tables
    from .paper import TABLES

    found = {table.id: table for table in TABLES}
    for table in own_tables():
        if table.id in found:
            raise OwnTableError(f"there are two tables called {table.id!r}; give the one in $VSWIN_TABLES another id")
        found[table.id] = table
    return found


def find_table(name: str) -> Table:
    """The table called ``name``; raises UnknownNameError."""
    if name not in tables():
        raise UnknownNameError("table", name, tables())
    return tables()[name]


def tables_at(scale: Scale, names: Iterable[str] = ()) -> list[Table]:
    """The tables called ``names``, or else every table that exists at ``scale``.

    Raises UnknownNameError, and NoRecipeError for a table that does not exist at ``scale``.
    """
    chosen = [find_table(name) for name in names]
    for table in chosen:
        if scale not in table.scales:
            raise NoRecipeError(table.id, scale, table.scales)
    return chosen or [table for table in tables().values() if scale in table.scales]


def find_variant(name: str) -> Variant:
    """The variant called ``name``, as in ``table4/split``; raises UnknownNameError."""
    known = {variant.id: variant for table in tables().values() for variant in table.variants}
    if name not in known:
        raise UnknownNameError("variant", name, known)
    return known[name]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is trained once however many tables show it: a recipe at a scale, and the variants that share it.

    ``recipe.protocol`` is that of the first variant; ``protocols`` has all. ``upstream`` is what must be trained before
    it, in this order, always with ``upstream.SEED``: nothing at scale paper.
    """

    scale: Scale
    recipe: Recipe
    variants: tuple[Variant, ...]
    upstream: tuple[Experiment, ...] = ()

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
    signatures: dict[str, str] = {}
    for table in tables().values():
        for variant in table.at(scale):
            signatures[variant.id] = variant.at(scale).signature
            shared.setdefault(signatures[variant.id], []).append(variant)
    chosen = tables().values() if selection is None else selection
    wanted = dict.fromkeys(signatures[variant.id] for table in chosen for variant in table.at(scale))

    def experiment(signature: str) -> Experiment:
        first, *_ = variants = tuple(shared[signature])
        recipe = first.at(scale)
        origin = upstream.origin(upstream.weights_name(recipe.init))
        if origin is None:
            return Experiment(scale=scale, recipe=recipe, variants=variants)
        source = experiment(origin[1])
        return Experiment(scale=scale, recipe=recipe, variants=variants, upstream=(*source.upstream, source))

    return [experiment(signature) for signature in wanted]


def find_experiment(scale: Scale, variant: Variant) -> Experiment:
    """The experiment that ``variant`` is a row of."""
    signature = variant.at(scale).signature
    return next(item for item in experiments(scale, [find_table(variant.table)]) if item.recipe.signature == signature)
