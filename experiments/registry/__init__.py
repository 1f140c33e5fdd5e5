"""The registry: recipes, the tables that vary them, and every table there is.

A table of your own imports what it needs from here: the words of a table, ``changed``, and the paper's recipes, such
as ``SWIN_T_K400``. Names are resolved on first use, so that rooms which need one module load that one alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .recipe import Recipe, Scale, changed
    from .recipes import SWIN_B_K400_1K, SWIN_B_K400_22K, SWIN_B_SSV2, SWIN_L_384_K400, SWIN_S_K400, SWIN_T_K400
    from .table import Block, Reported, Row, Table

__all__ = [
    "SWIN_B_K400_1K",
    "SWIN_B_K400_22K",
    "SWIN_B_SSV2",
    "SWIN_L_384_K400",
    "SWIN_S_K400",
    "SWIN_T_K400",
    "Block",
    "Recipe",
    "Reported",
    "Row",
    "Scale",
    "Table",
    "changed",
]

_TABLE = ("Block", "Reported", "Row", "Table")
_RECIPE = ("Recipe", "Scale", "changed")


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = "table" if name in _TABLE else "recipe" if name in _RECIPE else "recipes"
        return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
