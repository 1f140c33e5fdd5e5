"""``python -m experiments`` is the ``vswin`` command."""

from __future__ import annotations

from .cli.main import main

main()
