"""Tables and their variants, as data. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .errors import NoRecipeError
from .recipe import Recipe, Scale, changed, difference
from .scales import at_scale, obstacle


@dataclass(frozen=True, kw_only=True)
class Reported:
    """The paper's numbers of a row: accuracy in percent, GFLOPs per view, parameters in millions.

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
    baseline. Without one the rows stand side by side, each with its own recipe or none. ``scales`` is where they may be
    run: a scale belongs there only if its recipes keep what the rows are about. Where one of the recipes cannot be
    scaled down, none is: rows are there to be compared.
    """

    rows: tuple[Row, ...]
    title: str = ""
    baseline: Recipe | None = None
    isolates: tuple[str, ...] = ()
    scales: tuple[Scale, ...] = tuple(Scale)

    def recipe_of(self, row: Row) -> Recipe | None:
        """The recipe of ``row`` at scale paper."""
        return changed(self.baseline, row.changes) if self.baseline else row.recipe

    @cached_property
    def exists_at(self) -> tuple[Scale, ...]:
        """Those of ``scales`` at which every row has a recipe."""
        recipes = [recipe for row in self.rows if (recipe := self.recipe_of(row))]
        return tuple(scale for scale in self.scales if not any(obstacle(recipe, scale) for recipe in recipes))


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A named row of a table. ``name`` is its id within the table, ``label`` the paper's words.

    ``name_in_block`` is the label with what tells it from other rows of its block, where the paper repeats a label;
    ``title`` has the block, too, where that is not enough in the whole table.
    ``recipe`` is that of scale ``paper``, None for a reported reference; ``scales`` is where it can be run.
    """

    table: str
    block: str
    name: str
    label: str
    name_in_block: str
    title: str
    recipe: Recipe | None
    paper: Reported | None
    scales: tuple[Scale, ...]

    @property
    def id(self) -> str:
        """``table4/split``."""
        return f"{self.table}/{self.name}"

    def at(self, scale: Scale) -> Recipe:
        """This variant's recipe at ``scale``; raises NoRecipeError where it has none."""
        if self.recipe is None or scale not in self.scales:
            why = obstacle(self.recipe, scale) if self.recipe else ""
            raise NoRecipeError(self.id, scale, self.scales, why=why)
        return at_scale(self.recipe, scale)


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
        for scale in block.exists_at:
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
        names = [_names_in(block) for block in self.blocks]
        every = [name for found in names for name in found]
        repeated = len(set(every)) < len(every)
        return tuple(
            tuple(
                self._variant(block, row, name, f"{block.title}: {name}" if repeated and block.title else name)
                for row, name in zip(block.rows, found, strict=True)
            )
            for block, found in zip(self.blocks, names, strict=True)
        )

    def _variant(self, block: Block, row: Row, name_in_block: str, title: str) -> Variant:
        if (block.baseline is None and row.changes) or (block.baseline and row.recipe):
            raise ValueError(
                f"{self.id}/{row.name}: expected changes in a block with a baseline, a recipe in one without"
            )
        recipe = block.recipe_of(row)
        return Variant(
            table=self.id,
            block=block.title,
            name=row.name,
            label=row.label or row.name,
            name_in_block=name_in_block,
            title=title,
            recipe=recipe,
            paper=row.paper,
            scales=block.exists_at if recipe else (),
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
        """The baseline of ``variant``: the first row of its block; None where rows stand side by side."""
        for block, variants in zip(self.blocks, self.by_block, strict=True):
            if variant in variants:
                return variants[0] if block.baseline else None
        raise ValueError(f"{variant.id} is no row of {self.id}")


def _names_in(block: Block) -> list[str]:
    """A name for every row that no other row of ``block`` has: its label, and where several share one, what the paper's
    table says of them besides: initial weights, views, or at last the row's id.
    """
    names = [row.label or row.name for row in block.rows]
    pretrain = [row.paper.pretrain if row.paper else None for row in block.rows]
    views = [row.paper.views if row.paper else None for row in block.rows]
    for details in (pretrain, views, [row.name for row in block.rows]):
        names = _told_apart(names, details)
    return names


def _told_apart(names: list[str], details: Sequence[str | None]) -> list[str]:
    """Add its detail to each of ``names`` that is there more than once, where that tells one of them from another."""
    told = []
    for name, detail in zip(names, details, strict=True):
        others = {other for again, other in zip(names, details, strict=True) if again == name}
        told.append(f"{name}, {detail}" if detail and len(others) > 1 else name)
    return told
