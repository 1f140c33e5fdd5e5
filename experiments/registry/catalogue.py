"""Every table there is, and the experiments behind them: what is trained once however many tables show it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from vswin.config import Protocol

from . import paper, stand_ins
from .errors import NoRecipeError, UnknownNameError
from .own_tables import OwnTableError, own_tables
from .recipe import Recipe, Scale
from .scales import obstacle
from .table import Table, Variant


@cache
def tables() -> dict[str, Table]:
    """Every table by id, in the paper's order, then those of ``$VSWIN_TABLES``.

    Raises OwnTableError for what cannot be read there and for a name that is taken.
    """

    found = {table.id: table for table in paper.TABLES}
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
            reasons = (obstacle(variant.recipe, scale) for variant in table.variants if variant.recipe)
            raise NoRecipeError(table.id, scale, table.scales, why=next(filter(None, reasons), ""))
    return chosen or [table for table in tables().values() if scale in table.scales]


def find_variant(name: str) -> Variant:
    """The variant called ``name``, as in ``table4/split``; raises UnknownNameError."""
    known = {variant.id: variant for table in tables().values() for variant in table.variants}
    if name not in known:
        raise UnknownNameError("variant", name, known)
    return known[name]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A recipe at a scale, trained once however many tables show it, and the variants that share it.

    ``recipe.protocol`` is that of the first variant; ``protocols`` has all. ``upstream`` is what must be trained before
    it, in this order, always with ``stand_ins.SEED``: nothing at scale paper.
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
    def is_upstream(self) -> bool:
        """True where it exists for others to start from, and so has one seed only."""
        return self.variants[0].table == stand_ins.TABLE_ID

    @property
    def protocols(self) -> dict[str, Protocol]:
        """The protocols of its variants by signature: the trained model is tested once under each."""
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
        origin = stand_ins.origin(stand_ins.weights_name(recipe.init))
        if origin is None:
            return Experiment(scale=scale, recipe=recipe, variants=variants)
        source = experiment(origin[1])
        return Experiment(scale=scale, recipe=recipe, variants=variants, upstream=(*source.upstream, source))

    return [experiment(signature) for signature in wanted]


def experiments_named(scale: Scale, names: Iterable[str]) -> list[Experiment]:
    """The distinct experiments of tables and single variants, ``table4`` or ``table4/split``, in the order named.

    Raises as ``tables_at``, ``find_variant`` and ``Variant.at`` do.
    """
    found: dict[str, Experiment] = {}
    for name in names:
        if "/" in name:
            chosen = [find_experiment(scale, find_variant(name))]
        else:
            chosen = experiments(scale, tables_at(scale, [name]))
        found |= {each.recipe.signature: each for each in chosen}
    return list(found.values())


def find_experiment(scale: Scale, variant: Variant) -> Experiment:
    """The experiment that ``variant`` is a row of."""
    signature = variant.at(scale).signature
    return next(item for item in experiments(scale, [find_table(variant.table)]) if item.recipe.signature == signature)
