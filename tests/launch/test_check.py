"""``vswin check`` finds what would make a run fail, before it runs, and says what to do."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.launch import check as checks
from experiments.launch.check import Aspect, CheckResult, Outcome, before_launch, check
from experiments.launch.first_step import of_one_process
from experiments.launch.forecast import Basis, Rate
from experiments.launch.plan import plan
from experiments.launch.profiles import Profile
from experiments.registry.catalogue import Experiment, experiments, find_experiment, find_table, find_variant
from experiments.registry.recipe import Scale
from experiments.runs.run import Run
from experiments.runs.runtime import default_runtime
from tests.support.command_line import Vswin
from vswin.models import create_model


def findings_of(*tables: str, scale: Scale, take_steps: bool = False) -> list[CheckResult]:
    found = experiments(scale, [find_table(name) for name in tables])
    runs = {experiment.recipe.signature: 1 for experiment in found}
    variants = [variant for name in tables for variant in find_table(name).at(scale)]
    return check(found, variants=variants, runs=runs, take_steps=take_steps)


def test_a_table_that_can_work_passes_and_its_steps_are_remembered(vswin: Vswin, home: Path) -> None:
    findings = json.loads(vswin("check", "table4", "--scale", "tiny", "--json").stdout)
    assert {finding["outcome"] for finding in findings} == {"ok"}
    said = {(finding["about"], finding["aspect"]): finding["detail"] for finding in findings}
    assert said["table4/split", "isolates"] == "model.attention"
    assert said["table4/split", "cost"].startswith("+")
    assert said["table4/factorized", "one step"].startswith("loss ")
    assert said["moving-digits/tiny", "data"] == "24 videos for train, 12 videos for val, 12 videos for test"
    # and the run that they all start from
    assert {path.name for path in (home / "runs").iterdir()} == {"cache", "tiny"}

    text = vswin("check", "table4", "--scale", "tiny").stdout
    assert "all 4 can work" in text
    again = json.loads(vswin("check", "table4", "--scale", "tiny", "--json").stdout)
    # three rows and the image model
    assert [item["detail"] for item in again if item["aspect"] == "one step"] == ["taken before"] * 4


def test_missing_weights_are_named_with_shapes_and_an_address(vswin: Vswin) -> None:
    answer = vswin("check", "table3", "--scale", "paper", "--cpu", code=1)
    text = " ".join(answer.stdout.split())
    assert "swin_base_patch244_window1677_kinetics400_22k.pth is missing; put https://github.com/" in text
    # 31 x 13 x 13 relative positions in a window of 16 x 7 x 7
    assert "backbone.patch_embed.proj.weight [128, 3, 2, 4, 4]" in text
    assert "backbone.layers.0.blocks.0.attn.relative_position_bias_table [5239, 4]" in text
    assert "something-something-v2/train.txt: no such file" in text
    assert "3 cannot work" in text


def test_weights_of_another_model_are_found_before_anything_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWIN_DATA", str(home / "data"))
    file = home / "data" / "weights" / "swin_tiny_patch4_window7_224.pth"
    file.parent.mkdir(parents=True)
    small = create_model("swin2d_t", num_classes=10, embed_dim=8, depths=(1,), num_heads=(1,))
    torch.save({"model": small.state_dict()}, file)
    weights = [item for item in findings_of("table9", scale=Scale.PAPER, take_steps=True) if item.aspect == "weights"]
    assert [item.outcome for item in weights] == [Outcome.FAILED] * 2
    assert "cannot be loaded" in weights[0].detail
    assert "patch_embed.proj.weight [96, 3, 4, 4]" in weights[0].detail

    torch.save({"model": create_model("swin2d_t", num_classes=10).state_dict()}, file)
    findings = findings_of("table9", scale=Scale.PAPER, take_steps=True)
    weights = [item for item in findings if item.aspect == "weights"]
    assert [item.outcome for item in weights] == [Outcome.OK] * 2
    assert "inflated" in weights[0].detail


def test_a_model_that_cannot_be_built_and_one_that_cannot_train_fail_alone(home: Path) -> None:
    whole = find_experiment(Scale.TINY, find_variant("table4/joint"))
    [row] = [variant for variant in whole.variants if variant.table == "table4"]
    cannot_be_built = replace(whole, recipe=replace(whole.recipe, model=replace(whole.recipe.model, num_heads=(3, 2))))
    cannot_train = replace(whole, recipe=replace(whole.recipe, optim=replace(whole.recipe.optim, batch_size=1000)))
    found: dict[str, dict[Aspect, CheckResult]] = {}
    for name, experiment in (("build", cannot_be_built), ("train", cannot_train), ("whole", whole)):
        findings = check([experiment], variants=[row], runs={}, take_steps=True)
        found[name] = {finding.aspect: finding for finding in findings}
    assert "cannot be built: ValueError: expected a width divisible by its number of heads" in (
        found["build"][Aspect.COST].detail
    )
    assert found["train"][Aspect.STEP].outcome is Outcome.FAILED
    assert "expected a batch size from 1 to 24" in found["train"][Aspect.STEP].detail
    assert "expected at least 1000 videos for training" in found["train"][Aspect.DATA].detail
    assert {finding.outcome for finding in found["whole"].values()} == {Outcome.OK}


def test_labels_that_no_model_has_and_a_full_disk_fail(home: Path) -> None:
    whole = find_experiment(Scale.TINY, find_variant("table4/joint"))
    fewer = replace(whole, recipe=replace(whole.recipe, model=replace(whole.recipe.model, num_classes=2)))
    [data] = [item for item in check([fewer], runs={}, take_steps=False) if item.aspect is Aspect.DATA]
    assert (data.outcome, data.detail) == (
        Outcome.FAILED,
        "expected labels from 0 to 1, as the models have classes, got 5",
    )
    many = check([whole], runs={whole.recipe.signature: 10**9}, take_steps=False)
    [disk] = [item for item in many if item.aspect is Aspect.DISK]
    assert disk.outcome is Outcome.FAILED
    assert "make room, move $VSWIN_RUNS, or launch fewer" in disk.detail


def test_a_profile_has_to_suffice(home: Path) -> None:
    chosen = experiments(Scale.PAPER, [find_table("table8")])
    # 34 GPU-hours a run
    rate = Rate(1.93e18 / 34 / 3600, Basis.MEASURED, "")
    guess = replace(rate, basis=Basis.ASSUMED)

    def said(profile: Profile, *, rate: Rate = rate) -> tuple[Outcome, str]:
        return checks._profile(chosen, profile, rate)

    assert said(Profile(time="8:00:00", gpus=8))[0] is Outcome.OK
    assert said(Profile(time="1:00:00", gpus=8)) == (
        Outcome.OK,
        "the longest, table1/swin-t, takes about 4:14 h; a job 1:00 h: about 5 jobs, one after the other",
    )
    outcome, detail = said(Profile(time="1:00:00", gpus=8, requeue=False))
    assert outcome is Outcome.FAILED
    assert "raise time, or set requeue = true" in detail
    assert said(Profile(time="1:00:00", gpus=8, requeue=False), rate=guess)[0] is Outcome.SKIPPED
    assert "scale paper needs a GPU" in said(Profile(time="8:00:00"))[1]
    # unless the runs are to be computed without one
    without = default_runtime(Scale.PAPER, cpu=True)
    assert checks._profile(chosen, Profile(time="8:00:00"), rate, without)[0] is Outcome.OK
    assert (
        "batches of 64 clips (table1/swin-t) cannot be shared out among 6 processes"
        in (said(Profile(time="8:00:00", gpus=3, nodes=2))[1])
    )
    assert "told to save 120 s before its end" in said(Profile(time="2", gpus=8))[1]


def test_a_step_for_a_cluster_has_the_clips_of_one_of_its_processes() -> None:
    """A whole batch of 64 clips would not fit into the one GPU that takes the step."""
    [experiment] = experiments(Scale.PAPER, [find_table("table6")])[:1]
    assert experiment.recipe.optim.batch_size == 64
    for micro_batch, profile, expected in (
        (None, None, None),
        (None, Profile(time="1-0", gpus=8), 8),
        (None, Profile(time="1-0", gpus=8, nodes=2), 4),
        (2, Profile(time="1-0", gpus=8), 2),
        (32, Profile(time="1-0", gpus=8), 8),
    ):
        runtime = default_runtime(Scale.PAPER, micro_batch=micro_batch)
        assert of_one_process(runtime, recipe=experiment.recipe, profile=profile).micro_batch == expected


def test_a_launch_on_a_cluster_is_checked_first(home: Path) -> None:
    steps = plan(experiments(Scale.TINY, [find_table("table6")]), seeds=range(2), state=Run.state)
    runtime = default_runtime(Scale.TINY)
    assert before_launch(steps, profile=Profile(time="10"), runtime=runtime) == []
    [finding] = before_launch(steps, profile=Profile(time="10", processes=3), runtime=runtime)
    assert (finding.aspect, finding.outcome) == (Aspect.PROFILE, Outcome.FAILED)


@pytest.mark.parametrize("scale", list(Scale))
def test_every_variant_differs_in_what_it_should(scale: Scale, home: Path) -> None:
    chosen: list[Experiment] = experiments(scale)
    for experiment in chosen:
        for variant in experiment.variants:
            outcome, detail = checks._isolates(variant, scale)
            assert outcome is Outcome.OK, detail
