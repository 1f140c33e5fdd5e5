"""Several real processes train as one: the same samples, the same losses, the same end."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.places import CLONE
from tests.support.rank_processes import ended, left, ranks, started
from tests.support.toy_training import CONFIG, Attempt, Poisonable, shares, small_model
from vswin.data.batch import TrainBatch
from vswin.training import checkpoint
from vswin.training.distributed import DistributedError, World, process_group

EFFECTIVE_BATCH = 8
STEPS = 24
LONG = replace(CONFIG, epochs=6, batch_size=EFFECTIVE_BATCH)
# Rounding of fp32, as it grows over twenty steps of a training.
RELATIVE = 1e-4


def attempt(
    directory: Path,
    *,
    drop: float = 0.0,
    batch: int = EFFECTIVE_BATCH,
    stop_rank: int = 0,
    stop_at: int | None = None,
    micro_batch: int | None = None,
    spoilt: tuple[int, ...] = (),
    nonfinite_steps: int = 0,
    apart: bool = False,
    die_at: int | None = None,
    how: int = signal.SIGKILL,
    patience: float = 60.0,
) -> dict[str, Any]:
    """One rank's part of a training.

    The last rank gets NaN at the steps ``spoilt`` (from 1), and the signal ``how`` at step ``die_at``. Ranks that are
    ``apart`` have directories of their own.
    """
    torch.set_num_threads(1)
    world = World.from_environment()
    last = world.rank == world.size - 1
    videos: list[list[int]] = []

    def feed(step: int) -> Iterator[TrainBatch]:
        for index, share in enumerate(shares(world, size=batch, total=STEPS)(step), start=step + 1):
            videos.append(share.videos.tolist())
            share.clips[:, 0, 0, 0, 0] = 255 if last and index in spoilt else 0
            if last and index == die_at:
                os.kill(os.getpid(), how)
            yield share

    model = small_model(drop_path=drop, head_dropout=drop)
    with process_group(world, patience=timedelta(seconds=patience)):
        result = Attempt(
            directory / str(world.rank) if apart else directory,
            model=Poisonable(model) if spoilt else model,
            batches=feed,
            config=replace(LONG, nonfinite_steps=nonfinite_steps),
            world=world,
            micro_batch=micro_batch,
            stop_at=stop_at if world.rank == stop_rank else None,
        )
    return {
        "end": result.outcome.end,
        "step": result.outcome.step,
        "digest": result.digest,
        "computed": result.computed(),
        "videos": videos,
        "saved_after": result.saved_after,
        "warnings": result.warnings,
    }


def run(folder: Path, *, size: int, **options: Any) -> list[dict[str, Any]]:
    """What each of ``size`` ranks returned; all train in ``folder/checkpoints``."""
    shutil.rmtree(folder / "ranks", ignore_errors=True)
    ended(ranks(_attempt, folder / "checkpoints", options, size=size, folder=folder / "ranks"))
    return [answer.get("value", answer) for answer in left(folder / "ranks")]


def _attempt(directory: Path, options: dict[str, Any]) -> dict[str, Any]:
    return attempt(directory, **options)


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Fails unless two trainings computed the same up to rounding."""
    assert list(one) == list(other)
    for step in one:
        assert one[step] == pytest.approx(other[step], rel=RELATIVE), f"step {step}"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    [answer] = run(tmp_path_factory.mktemp("alone"), size=1)
    assert answer["step"] == STEPS
    return answer


@pytest.mark.parametrize(("size", "micro_batch"), [(2, None), (2, 3), pytest.param(4, 1, marks=pytest.mark.slow)])
def test_losses_do_not_depend_on_the_number_of_processes(
    size: int, micro_batch: int | None, alone: dict[str, Any], tmp_path: Path
) -> None:
    first, *others = run(tmp_path, size=size, micro_batch=micro_batch)
    same(first["computed"], alone["computed"])
    for step in range(STEPS):
        seen = [video for rank in (first, *others) for video in rank["videos"][step]]
        assert sorted(seen) == sorted(alone["videos"][step])
        assert len(seen) == len(set(seen)) == EFFECTIVE_BATCH
    # every rank ends with the same weights to the bit, and only the first one logs and saves
    assert {rank["digest"] for rank in others} == {first["digest"]}
    assert all(rank["computed"] == {} and rank["saved_after"] == [] for rank in others)
    assert first["saved_after"][-1] == STEPS


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_resume_may_change_the_number_of_processes(
    before: int, after: int, alone: dict[str, Any], tmp_path: Path
) -> None:
    first, *_ = run(tmp_path, size=before, stop_at=7)
    second, *_ = run(tmp_path, size=after)
    same({**first["computed"], **second["computed"]}, alone["computed"])


@pytest.mark.slow
def test_three_processes_resume_to_the_bit(tmp_path: Path) -> None:
    """Sums of three depend on their order, which must not depend on where a process started."""
    whole, *_ = run(tmp_path / "whole", size=3, drop=0.5, batch=9)
    first, *_ = run(tmp_path / "cut", size=3, drop=0.5, batch=9, stop_at=7)
    second, *_ = run(tmp_path / "cut", size=3, drop=0.5, batch=9)
    assert {**first["computed"], **second["computed"]} == whole["computed"]
    assert second["digest"] == whole["digest"]


def test_a_stop_request_on_one_rank_stops_all_at_the_same_step(tmp_path: Path) -> None:
    # stop_at counts what a rank has logged, and only the first one logs
    answers = run(tmp_path, size=2, stop_at=0, stop_rank=1)
    assert [(answer["end"], answer["step"]) for answer in answers] == [("stopped", 1)] * 2
    assert [path.name for path in checkpoint.available(tmp_path / "checkpoints")] == ["step-00000001.safetensors"]


def test_a_bad_loss_on_one_rank_stops_all_and_names_the_videos_of_all(tmp_path: Path) -> None:
    answers = run(tmp_path, size=2, spoilt=(6,))
    assert [answer["error"] for answer in answers] == ["NonFiniteLossError"] * 2
    assert answers[0] == answers[1]
    assert "loss is nan at step 6" in answers[0]["message"]
    assert "from videos 40, 42, 44, 46, 41, 43, 45, 47; " in answers[0]["message"]
    assert [path.name for path in checkpoint.available(tmp_path / "checkpoints")] == ["step-00000004.safetensors"]


def test_a_bad_loss_on_one_rank_is_left_out_on_all(tmp_path: Path) -> None:
    first, second = run(tmp_path, size=2, spoilt=(6,), nonfinite_steps=1)
    assert first["digest"] == second["digest"]
    assert first["computed"][str(STEPS)]["train/nonfinite_steps"] == 1
    assert (len(first["warnings"]), second["warnings"]) == (1, [])


def test_a_killed_rank_ends_the_others(tmp_path: Path) -> None:
    answers = run(tmp_path, size=2, die_at=6)
    [survivor] = answers
    assert survivor["error"] == "DistributedError"
    assert "rank 0 of 2 lost another rank" in survivor["message"]
    # what was saved before is there for the next attempt, with any number of ranks
    [again] = run(tmp_path, size=1)
    assert (again["step"], min(map(int, again["computed"]))) == (STEPS, 5)


def test_a_rank_that_hangs_ends_the_others_after_their_patience(tmp_path: Path) -> None:
    processes = ranks(
        _attempt, tmp_path, {"die_at": 3, "how": signal.SIGSTOP, "patience": 15.0}, size=2, folder=tmp_path
    )
    try:
        ended(processes[:1])
        [survivor] = left(tmp_path)
        assert survivor["error"] == "DistributedError"
        assert "rank 0 of 2 lost another rank, or waited longer than 0:00:15 for it" in survivor["message"]
    finally:
        processes[1].kill()
        processes[1].join()


def test_a_rank_that_never_comes_is_missed(tmp_path: Path) -> None:
    processes = ranks(_attempt, tmp_path, {"patience": 3.0}, size=2, folder=tmp_path)
    processes[1].kill()
    ended(processes)
    [answer] = left(tmp_path)
    assert answer["error"] == "DistributedError"
    assert "rank 0 did not meet all 2 ranks at env://" in answer["message"]


def test_ranks_that_find_different_checkpoints_refuse_to_train(tmp_path: Path) -> None:
    Attempt(tmp_path / "checkpoints" / "1", stop_at=2)
    answers = run(tmp_path, size=2, apart=True)
    assert [answer["error"] for answer in answers] == ["DistributedError"] * 2
    assert "different steps, [0, 2]" in answers[0]["message"]


def test_ranks_drop_different_paths(tmp_path: Path) -> None:
    """Two ranks that see the same clips and draw the same numbers would give the gradient of one."""
    ended(ranks(_draw, size=2, folder=tmp_path))
    first, second = (answer["value"] for answer in left(tmp_path))
    assert len(set(first) | set(second)) == len(first) + len(second)


def _draw() -> list[float]:
    world = World.from_environment()
    drawn: list[float] = []

    class Draws(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Linear(1, 3)

        def forward(self, clips: Tensor) -> Tensor:
            drawn.append(torch.rand(1).item())
            return self.backbone(clips.mean(dim=(1, 2, 3, 4))[:, None])

    with process_group(world), TemporaryDirectory() as folder:
        Attempt(Path(folder), model=Draws(), batches=shares(world, size=4, total=3), world=world, micro_batch=1)
    # the first pass of each rank is the rehearsal
    return drawn[1:]


def test_one_job_trains_several_runs_in_turn(tmp_path: Path) -> None:
    """The ranks meet again and again at the same place, some of them before others have left it."""
    ended(ranks(_meet_often, size=3, folder=tmp_path))
    assert [answer.get("value", answer) for answer in left(tmp_path)] == [[3, 6, 9, 12, 15]] * 3


def _meet_often() -> list[int]:
    world = World.from_environment()
    totals = []
    for number in range(1, 6):
        with process_group(world, patience=timedelta(seconds=20)):
            totals.append(int(world.total(torch.tensor(number)).item()))
    return totals


# ------------------------------------------------------------------------------------------------- who starts them
def test_alone_without_a_launcher() -> None:
    assert World.from_environment({}) == World(rank=0, size=1, local_rank=0)
    # a batch script of eight tasks that has not called srun; a task of srun on its own
    script = {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "1"}
    assert World.from_environment(script) == World()
    assert World.from_environment({**script, "SLURM_STEP_NUM_TASKS": "1"}) == World()


def test_torchrun_goes_before_slurm() -> None:
    variables = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "2"}
    assert World.from_environment(variables) == World(rank=3, size=4, local_rank=1)


SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "16",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NODELIST": "gpu[07-09,12]",
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "2",
}


@pytest.mark.skipif(shutil.which("scontrol") is None, reason="Slurm's scontrol is not installed")
def test_slurm_tasks_meet_at_the_first_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the real scontrol; it wants a configuration and asks no server to expand names
    (tmp_path / "slurm.conf").write_text("ClusterName=test\nSlurmctldHost=localhost\n")
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    # the tasks of the step, not of the whole job
    expected = World(rank=5, size=8, local_rank=1, meeting_place="tcp://gpu07:14713")
    assert World.from_environment(SLURM) == expected
    # where only Slurm knows the machine's name, there may be an address
    named = World.from_environment({**SLURM, "SLURM_LAUNCH_NODE_IPADDR": "192.0.2.7"})
    assert named == replace(expected, meeting_place="tcp://192.0.2.7:14713")


def test_without_scontrol_the_first_machine_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        DistributedError, match=r"first machine of 'gpu\[07-09,12\]' from scontrol: .*; set MASTER_ADDR"
    ):
        World.from_environment(SLURM)
    named = World.from_environment({**SLURM, "MASTER_ADDR": "gpu07", "MASTER_PORT": "29500"})
    assert named.meeting_place == "tcp://gpu07:29500"


def test_slurm_tasks_train_together(tmp_path: Path, alone: dict[str, Any]) -> None:
    """As srun starts them, without srun: the environment decides, and the ranks meet at the address it gives."""
    number = str(random.Random(os.getpid()).randrange(20_000))
    processes = [
        started(
            _attempt,
            tmp_path / "checkpoints",
            {},
            leaving=tmp_path / f"{rank}.json",
            SLURM_PROCID=str(rank),
            SLURM_LOCALID=str(rank),
            SLURM_STEP_NUM_TASKS="2",
            SLURM_JOB_ID=number,
            SLURM_STEP_ID="0",
            MASTER_ADDR="127.0.0.1",
        )
        for rank in range(2)
    ]
    ended(processes)
    first, _ = (answer.get("value", answer) for answer in left(tmp_path))
    same(first["computed"], alone["computed"])


@pytest.mark.slow
def test_torchrun_starts_them(tmp_path: Path, alone: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", __name__]
    subprocess.run([*command, str(tmp_path)], check=True, cwd=CLONE)
    first = json.loads((tmp_path / "0.json").read_text())
    same(first["computed"], alone["computed"])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    answer = attempt(folder / "checkpoints")
    (folder / f"{World.from_environment().rank}.json").write_text(json.dumps(answer))
