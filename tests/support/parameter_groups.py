"""What every parameter of a model trains with, as a text whose diff can be read: tests/golden/parameter_groups/.

After a change that is meant, write the files anew and read what changed:

    .venv/bin/python -m tests.support.parameter_groups
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

import torch

from tests.support.places import GOLDEN
from vswin.config import OptimConfig, ParameterGroups
from vswin.models import create_model
from vswin.training.optim import build_optimizer

FOLDER = GOLDEN / "parameter_groups"

# By file: a model, what its recipe overrides, and the recipe's backbone ratio.
GROUPS: dict[str, tuple[str, dict[str, Any], float]] = {
    "swin_t": ("swin_t", {}, 0.1),
    "swin_t_split": ("swin_t", {"attention": "split"}, 0.1),
    "swin_t_factorized": ("swin_t", {"attention": "factorized"}, 0.1),
    "swin_s": ("swin_s", {}, 0.1),
    "swin_b": ("swin_b", {}, 0.1),
    "swin_b_ssv2": ("swin_b", {"window": (16, 7, 7), "num_classes": 174}, 0.1),
    "swin_l_384": ("swin_l_384", {}, 0.1),
    "timesformer_space": ("timesformer_space", {}, 1.0),
    "timesformer_joint": ("timesformer_joint", {}, 1.0),
    "timesformer_divided": ("timesformer_divided", {}, 1.0),
    "perceiver": ("perceiver", {}, 1.0),
}


class Line(NamedTuple):
    """A parameter: its name, shape, and per policy (published, intended) the factors on rate and weight decay."""

    name: str
    shape: str
    factors: tuple[str, ...]


def groups_of(file: str) -> str:
    """What the optimisers of both policies really train each parameter with, as a table.

    Parameters of neighbouring blocks that differ in the block's number only share a line: ``blocks.0-5``.
    """
    name, overrides, ratio = GROUPS[file]
    with torch.device("meta"):
        model = create_model(name, **overrides)
    config = OptimConfig(lr=1.0, weight_decay=1.0, backbone_lr_ratio=ratio)
    factors: dict[str, tuple[str, ...]] = {}
    for policy in ParameterGroups:
        for group in build_optimizer(model, replace(config, parameter_groups=policy)).param_groups:
            for parameter in group["names"]:
                known = factors.get(parameter, ())
                factors[parameter] = (*known, f"{group['lr']:g}", f"{group['weight_decay']:g}")
    lines = [
        Line(parameter, "x".join(map(str, value.shape)), factors[parameter])
        for parameter, value in model.named_parameters()
    ]
    merged = merge(lines)
    width = max(len(line.name) for line in merged)
    total = sum(value.numel() for value in model.parameters())
    header = [
        f"# {name}{' ' + ' '.join(f'{key}={value}' for key, value in overrides.items()) if overrides else ''}: "
        f"{len(lines)} parameters, {total:,} numbers",
        f"{'':{width}}  {'':>12}  {'published':>14}  {'intended':>14}",
        f"{'parameter':{width}}  {'shape':>12}  {'rate':>6}  {'decay':>6}  {'rate':>6}  {'decay':>6}",
    ]
    rows = [
        f"{line.name:{width}}  {line.shape:>12}  {'  '.join(f'{item:>6}' for item in line.factors)}" for line in merged
    ]
    return "\n".join([*header, *rows]) + "\n"


def merge(lines: list[Line]) -> list[Line]:
    """Runs of blocks that are alike become one block with a range for its number."""
    blocks = [list(members) for _, members in groupby(lines, key=lambda line: place(line)[:2])]
    runs: list[tuple[int, list[list[Line]]]] = []
    for block in blocks:
        before, number, _ = place(block[0])
        alike = [(place(line)[2], line.shape, line.factors) for line in block]
        last = runs[-1][1][-1] if runs else []
        follows = bool(last) and number is not None and place(last[0])[:2] == (before, number - 1)
        if follows and [(place(line)[2], line.shape, line.factors) for line in last] == alike:
            runs[-1][1].append(block)
        else:
            runs.append((number or 0, [block]))
    merged = []
    for first, run in runs:
        for line in run[0]:
            before, _, after = place(line)
            numbers = f"{first}-{first + len(run) - 1}" if len(run) > 1 else str(first)
            merged.append(line if place(line)[1] is None else line._replace(name=f"{before}.{numbers}.{after}"))
    return merged


def place(line: Line) -> tuple[str, int | None, str]:
    """The name cut at the number of its block: before, number, after; no number outside blocks."""
    found = re.fullmatch(
        r"(.*?(?:blocks|temporal_layers|repetitions|layers))\.(\d+)\.(?!blocks|downsample)(.*)", line.name
    )
    return (found[1], int(found[2]), found[3]) if found else (line.name, None, "")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file in GROUPS:
        (FOLDER / f"{file}.txt").write_text(groups_of(file))
