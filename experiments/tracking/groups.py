"""The rows of a table as MLflow groups runs by them: names that sort as the paper does, in colours that differ.

MLflow colours a group by a checksum of its name, so the names decide the colours. Source: mlflow 3.17,
``RunNameUtils.ts`` (checksum), ``color-palette.ts``, and ``experimentPage.group-row-utils.ts`` (a group's identity).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from ..registry.catalogue import experiments, find_table
from ..registry.recipe import Scale

# MLflow's own, in its order.
_PALETTE = (
    *("#a6630c", "#c83243", "#b45091", "#8a63bf", "#434a93", "#137dae", "#04867d", "#308613", "#facb66"),
    *("#1f272d", "#445461", "#5f7281", "#8396a5", "#93320b", "#be501e", "#de7921", "#f2be88"),
    *("#115026", "#277c43", "#3ba65e", "#8ddda8", "#9e102c", "#c82d4c", "#e65b77", "#f792a6"),
    *("#0e538b", "#2272b4", "#4299e0", "#8acaff"),
)
# Colours that are told apart easily, also by colour-blind readers, come first.
_PREFERRED = (
    *("#137dae", "#de7921", "#1f272d", "#8ddda8", "#9e102c", "#facb66", "#8a63bf", "#8acaff"),
    *("#308613", "#f792a6", "#a6630c", "#8396a5", "#434a93", "#04867d"),
)
# Between a row's number and its name: spaces that look alike and count differently.
_SPACES = (
    *(" ", "\u00a0", "\u2002", "\u2004", "\u2005", "\u2006", "\u2008", "\u2009", "\u202f", "\u205f"),
    *("\u2009\u2009", "\u2009\u202f", "\u202f\u202f", "\u2006\u2009", "\u2006\u2006", "\u2008\u2009", "\u2008\u2008"),
)


def group_of(table: str, variants: Iterable[str], scale: Scale) -> str:
    """The name of the group of runs that are the rows with the ids ``variants`` of a table at ``scale``.

    It begins with the row's number, so that sorting by it is the paper's order.
    """
    return _groups(table, scale)[frozenset(variants)]


def row_numbers(table: str, scale: Scale) -> dict[str, str]:
    """The number of each row of a table at ``scale``, by its id: sorted, they are in the paper's order."""
    rows = find_table(table).at(scale)
    digits = len(str(len(rows)))
    return {variant.id: f"{number:0{digits}}" for number, variant in enumerate(rows, start=1)}


def color_of(table: str, group: str) -> str:
    """The colour, as ``#rrggbb``, in which MLflow draws a group of the runs of a table."""
    return _PALETTE[_checksum(f"tag.{table}.{group}") % len(_PALETTE)]


def _checksum(name: str) -> int:
    units = name.encode("utf-16-le")
    first = second = 0
    for low, high in zip(units[::2], units[1::2], strict=True):
        first = (first + low + 256 * high) % 255
        second = (second + first) % 255
    return first | second << 8


@cache
def _groups(table: str, scale: Scale) -> Mapping[frozenset[str], str]:
    numbers = row_numbers(table, scale)
    names = {}
    for experiment in experiments(scale, [find_table(table)]):
        # a run can be two rows of one table, as Swin-L under two protocols
        own = [variant for variant in experiment.variants if variant.table == table]
        number = "+".join(numbers[variant.id] for variant in own)
        names[frozenset(variant.id for variant in own)] = (number, "; ".join(variant.title for variant in own))
    choices = [[f"{number}{space}{title}" for space in _SPACES] for number, title in names.values()]
    return dict(zip(names, _in_different_colors(table, choices), strict=True))


def _in_different_colors(table: str, choices: list[list[str]]) -> list[str]:
    """One of each of ``choices``, no two in one colour, from as few of the preferred colours as it takes.

    The first of each where there are more than there are colours, or no such choice.
    """
    import numpy as np
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    order = [*_PREFERRED, *(color for color in _PALETTE if color not in _PREFERRED)]
    colors = np.array([[order.index(color_of(table, name)) for name in names] for names in choices])
    for allowed in range(len(choices), len(order) + 1):
        edges = np.zeros((len(choices), allowed), dtype=bool)
        rows, columns = np.nonzero(colors < allowed)
        edges[rows, colors[rows, columns]] = True
        matched = maximum_bipartite_matching(csr_array(edges), perm_type="column")
        if (matched >= 0).all():
            return [names[list(of).index(color)] for names, of, color in zip(choices, colors, matched, strict=True)]
    return [names[0] for names in choices]
