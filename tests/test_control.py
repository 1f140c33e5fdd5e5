"""The miniature can see what the tables ask: without temporal attention its tasks cannot be solved."""

import json
from pathlib import Path

import pytest
from command_line import Vswin

from experiments import choose, mini
from experiments.comparison import Results
from experiments.recipe import Scale
from experiments.registry import find_variant

CHOICE = Path(__file__).parents[1] / "results" / "mini" / "choice.json"


def test_rate_and_epochs_are_those_that_the_rule_chose() -> None:
    content = json.loads(CHOICE.read_text())
    grid = {(row["rate"], row["epochs"]): row["val_top1"] for row in content["grid"]}
    assert set(grid) == {(rate, epochs) for rate in choose.RATES for epochs in choose.EPOCHS}
    assert all(len(values) == len(choose.SEEDS) for values in grid.values())
    assert choose.choice(grid) == (content["chosen"]["rate"], content["chosen"]["epochs"]) == (mini.RATE, mini.EPOCHS)
    # what was chosen from is what is run: data and models have not changed since
    for row in content["grid"]:
        assert choose.recipe_of(row["rate"], row["epochs"]).signature == row["signature"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_space_only_stays_below_joint_attention_and_what_it_can_know(
    vswin: Vswin, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSWIN_DATA", str(home / "data"))
    vswin("data", "generate", "moving-digits/kinetics400", "moving-digits/stills-small")
    names = ("baselines/joint", "baselines/space-only")
    for name in names:
        for seed in range(3):
            vswin("run", name, "--scale", "mini", "--seed", str(seed))
    vswin("collect")
    results = Results.load(Scale.MINI)
    joint, space_only = ([record.top1 for record in results.trained(find_variant(name))] for name in names)
    assert len(joint) == len(space_only) == 3
    assert all(with_time > without for with_time, without in zip(joint, space_only, strict=True))
    # half of the digits it knows, at best: four standard deviations of a share of 384 videos are 10 points
    assert max(space_only) < 60
    # clearly more than chance, one in twelve: most of a label is what is seen
    assert min(space_only) > 25
