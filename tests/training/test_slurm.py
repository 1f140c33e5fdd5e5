"""On a real Slurm, srun starts the ranks of one training on two machines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.support.places import CLONE
from tests.support.slurm_cluster import SlurmCluster

pytest_plugins = ["tests.support.slurm_cluster"]

TRAIN = "tests.training.test_distributed"


@pytest.mark.slow
def test_srun_starts_them_from_a_batch_script(slurm_cluster: SlurmCluster, tmp_path: Path) -> None:
    output = tmp_path / "output"
    script = f"export OMP_NUM_THREADS=1; srun --kill-on-bad-exit=1 {sys.executable} -m {TRAIN} {tmp_path}"
    job = slurm_cluster.submit(script, "--nodes=2", "--ntasks=2", f"--chdir={CLONE}", output=output)
    slurm_cluster.wait(job, "COMPLETED")
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["end"] == second["end"] == "finished"
    assert first["digest"] == second["digest"]
    assert second["computed"] == {}
    assert {video % 2 for step in first["videos"] for video in step} == {0}
    assert {video % 2 for step in second["videos"] for video in step} == {1}
