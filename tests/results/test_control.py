"""The miniature can see what the tables ask: without temporal attention its tasks cannot be solved."""

import json
from pathlib import Path
from statistics import fmean

import pytest

from experiments.registry.catalogue import find_variant
from experiments.registry.recipe import Scale
from experiments.registry.scales import RATES
from experiments.results.comparison import Results
from experiments.tools import choose
from tests.support.command_line import Vswin
from tests.support.places import CLONE

MINI = CLONE / "results" / "mini"


@pytest.mark.parametrize("what", choose.BASELINES)
def test_rates_are_those_that_the_rule_chose(what: str) -> None:
    content = json.loads((MINI / "choice.json").read_text())[what]
    grid: dict[float, dict[str, list[float]]] = {factor: {} for factor in choose.FACTORS[what]}
    for row in content["grid"]:
        grid[row["factor"]][row["baseline"]] = row["val_top1"]
        assert len(row["val_top1"]) == len(choose.SEEDS)
        # what was chosen from is what is run: data and models have not changed since
        assert choose.recipe_of(row["baseline"], what, row["factor"]).signature == row["signature"]
    assert all(tuple(baselines) == choose.BASELINES[what] for baselines in grid.values())
    assert choose.choice(grid) == content["chosen"] == getattr(RATES, what)


def test_the_recorded_baseline_is_neither_at_chance_nor_at_the_ceiling_and_its_control_is_far_below(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VSWIN_RESULTS", str(MINI.parent))
    joint, space_only = _top1("baselines/joint"), _top1("baselines/space-only")
    assert 60 <= fmean(joint.values()) <= 95
    both = joint.keys() & space_only.keys()
    assert both
    for seed in both:
        _expect_no_sense_of_time(space_only[seed], joint=joint[seed])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_space_only_trained_anew_stays_below_joint_attention(
    vswin: Vswin, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSWIN_DATA", str(home / "data"))
    vswin("data", "generate", "moving-digits/kinetics400", "moving-digits/stills-small")
    for name in ("baselines/joint", "baselines/space-only"):
        vswin("run", name, "--scale", "mini")
    vswin("collect")
    _expect_no_sense_of_time(_top1("baselines/space-only")[0], joint=_top1("baselines/joint")[0])


def _top1(name: str) -> dict[int | None, float]:
    """By seed."""
    return {record.seed: record.top1 for record in Results.load(Scale.MINI).trained(find_variant(name))}


def _expect_no_sense_of_time(space_only: float, *, joint: float) -> None:
    # half of the digits it knows, at best: four standard deviations of a share of 384 videos are 10 points
    assert space_only < 60
    # clearly more than chance, one in twelve: most of a label is what is seen
    assert space_only > 25
    assert space_only < joint
