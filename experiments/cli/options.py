"""Options that several commands have."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from ..registry.recipe import Scale

_MOST_SEEDS = 10_000
# tiny is for tests
_SCALES = "|".join(scale for scale in Scale if scale is not Scale.TINY)

ScaleOption = Annotated[Scale, typer.Option(metavar=_SCALES, help="Size of the experiments.")]
AnyScaleOption = Annotated[
    Scale | None,
    typer.Option(metavar=_SCALES, help="Size of the experiment; default: mini where the variant has it."),
]
SeedsOption = Annotated[int, typer.Option(min=1, metavar="N", help="Seeds per variant: 0 to N-1.")]


class SeedNumbers(tuple[int, ...]):
    """Seeds as ``--seeds`` takes them."""

    @classmethod
    def parse(cls, text: object) -> SeedNumbers:
        """``3`` for 0 to 2; ``3-5``, ``0,4`` and ``0,4-6`` for these; raises typer.BadParameter."""
        if isinstance(text, SeedNumbers):
            return text
        parts = [re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip()) for part in str(text).split(",")]
        ranges = [range(int(part[1]), int(part[2] or part[1]) + 1) for part in parts if part]
        if len(ranges) == 1 and "-" not in str(text):
            ranges = [range(ranges[0][0])]
        if not all(parts) or not all(ranges) or sum(map(len, ranges)) > _MOST_SEEDS:
            raise typer.BadParameter(f"expected how many, or which: 3, 3-5 or 0,4-6; got {str(text)!r}")
        return cls(sorted({seed for each in ranges for seed in each}))

    def __str__(self) -> str:
        """``3 seeds`` for 0 to 2, ``seeds 3-5``."""
        if self == tuple(range(len(self))):
            return f"{len(self)} {'seed' if len(self) == 1 else 'seeds'}"
        consecutive = len(self) > 1 and self[-1] - self[0] == len(self) - 1
        return f"seeds {f'{self[0]}-{self[-1]}' if consecutive else ', '.join(map(str, self))}"


SeedNumbersOption = Annotated[
    SeedNumbers,
    typer.Option(
        parser=SeedNumbers.parse, metavar="N|A-B", help="Seeds per variant: N for 0 to N-1, or which: 3-5, 0,4."
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Decides weights, order of data and random choices.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
SomeTables = Annotated[list[str] | None, typer.Argument(metavar="[TABLE]...", help="Such as table4; default: all.")]
OnOption = Annotated[str, typer.Option(metavar="PROFILE", help="Where; 'local' is this machine.")]
WorkersOption = Annotated[
    int | None, typer.Option(min=0, help="Processes that decode, per training; default: by scale and cores.")
]
MicroBatchOption = Annotated[
    int | None, typer.Option(min=1, metavar="CLIPS", help="Clips in memory at once; the rest of a batch accumulates.")
]
ViewsOption = Annotated[
    int | None, typer.Option(min=1, metavar="VIEWS", help="Test views in memory at once; fewer where the GPU is small.")
]
RecomputeOption = Annotated[
    bool, typer.Option("--recompute", help="Recompute activations for the gradient: slower, in less memory.")
]
CpuOption = Annotated[
    bool, typer.Option("--cpu", help="Compute scale paper without a GPU: for small models of your own.")
]
VariantArgument = Annotated[str, typer.Argument(metavar="VARIANT", help="Such as table4/split.")]
