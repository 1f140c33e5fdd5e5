"""Options that several commands have."""

from __future__ import annotations

import pytest
import typer

from experiments.cli.options import SeedNumbers


@pytest.mark.parametrize(
    ("text", "seeds", "told"),
    [
        ("1", (0,), "1 seed"),
        ("3", (0, 1, 2), "3 seeds"),
        ("3-5", (3, 4, 5), "seeds 3-5"),
        ("0-2", (0, 1, 2), "3 seeds"),
        ("4-4", (4,), "seeds 4"),
        ("0, 4-6,4", (0, 4, 5, 6), "seeds 0, 4, 5, 6"),
        ("1,2", (1, 2), "seeds 1-2"),
    ],
)
def test_seeds_are_how_many_or_which(text: str, seeds: tuple[int, ...], told: str) -> None:
    found = SeedNumbers.parse(text)
    assert (tuple(found), str(found)) == (seeds, told)
    assert SeedNumbers.parse(found) is found


@pytest.mark.parametrize("text", ["0", "", "-1", "5-3", "a", "1,,2", "1-", "0-99999999", "1.5"])
def test_what_are_no_seeds(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected how many, or which: 3, 3-5 or 0,4-6"):
        SeedNumbers.parse(text)
