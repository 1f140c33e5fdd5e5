"""One module per table, listed here in the paper's order."""

from __future__ import annotations

from . import controls, table4_attention, table6_shift

TABLES = (table4_attention.TABLE, table6_shift.TABLE, controls.TABLE)
