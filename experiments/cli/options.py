"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from ..registry.recipe import Scale

# tiny is for tests
_SCALES = "|".join(scale for scale in Scale if scale is not Scale.TINY)

ScaleOption = Annotated[Scale, typer.Option(metavar=_SCALES, help="Size of the experiments.")]
AnyScaleOption = Annotated[
    Scale | None,
    typer.Option(metavar=_SCALES, help="Size of the experiment; default: mini where the variant has it."),
]
SeedsOption = Annotated[int, typer.Option(min=1, metavar="N", help="Seeds per variant: 0 to N-1.")]
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
