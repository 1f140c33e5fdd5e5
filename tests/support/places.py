"""Where the clone lies that is tested, and the values that were measured elsewhere."""

from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]
GOLDEN = CLONE / "tests" / "golden"
