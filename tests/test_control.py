"""The miniature can see what the tables ask: without temporal attention its task cannot be solved."""

from pathlib import Path

import pytest
from command_line import Vswin

from experiments.comparison import Results
from experiments.recipe import Scale
from experiments.registry import find_variant


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_space_only_stays_twenty_points_below_joint_attention(
    vswin: Vswin, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSWIN_DATA", str(home / "data"))
    vswin("data", "generate", "moving-digits/colour-order")
    for name in ("baselines/joint", "baselines/space-only"):
        for seed in range(3):
            vswin("run", name, "--scale", "mini", "--seed", str(seed))
    vswin("collect")
    results = Results.load(Scale.MINI)
    joint, space_only = (
        [record.top1 for record in results.trained(find_variant(name))]
        for name in ("baselines/joint", "baselines/space-only")
    )
    assert len(joint) == len(space_only) == 3
    assert all(with_time - without >= 20 for with_time, without in zip(joint, space_only, strict=True))
    # by construction: which two colours a video has can be seen in single frames, their order cannot
    assert max(space_only) < 65
