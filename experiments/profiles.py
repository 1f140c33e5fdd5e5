"""Where a launch can run."""

from __future__ import annotations

PROFILES = ("local",)
