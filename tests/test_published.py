"""A file of weights is tested on the user's videos, to the end, once, and never as if it had been trained here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import Vswin, vswin_command

from experiments.recipe import Scale
from experiments.record import Kind, load
from experiments.registry import find_variant
from experiments.runs import RunDirectory, published_folder

VARIANT = "table4/joint"


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs that holds one finished run of VARIANT, seed 0."""
    folder = tmp_path_factory.mktemp("trained")
    environment = {**os.environ, "VSWIN_DATA": str(tiny_data), "VSWIN_RUNS": str(folder)}
    subprocess.run(vswin_command("run", VARIANT, "--scale", "tiny"), check=True, capture_output=True, env=environment)
    return folder


@pytest.fixture
def weights(trained: Path, tmp_path: Path) -> Path:
    recipe = find_variant(VARIANT).at(Scale.TINY)
    return Path(
        shutil.copy(trained / "tiny" / recipe.signature / "seed-0" / "weights.safetensors", tmp_path / "w.safetensors")
    )


def record_of(vswin: Vswin, weights: Path) -> dict[str, object]:
    answer = vswin("evaluate", VARIANT, "--checkpoint", str(weights), "--scale", "tiny", "--json")
    record: dict[str, object] = json.loads(answer.stdout)
    return record


def scores() -> np.ndarray:
    [path] = published_folder(Scale.TINY).glob("*.npz")
    with np.load(path) as archive:
        return archive["scores"]


def test_the_weights_of_a_run_score_as_the_run_did(vswin: Vswin, trained: Path, weights: Path) -> None:
    recipe = find_variant(VARIANT).at(Scale.TINY)
    of_run = trained / "tiny" / recipe.signature / "seed-0" / "tests" / f"{recipe.protocol_signature}.json"
    record = record_of(vswin, weights)
    assert (record["kind"], record["seed"]) == (Kind.PUBLISHED_WEIGHTS, None)
    for name in ("top1", "top5", "class_accuracy", "videos", "signature", "protocol", "params", "flops"):
        assert record[name] == getattr(load(of_run), name)
    with np.load(of_run.with_suffix(".npz")) as archive:
        np.testing.assert_allclose(scores(), archive["scores"], rtol=0, atol=1e-5)
    again = vswin("evaluate", VARIANT, "--checkpoint", str(weights), "--scale", "tiny")
    assert "nothing to do" in again.stdout
    # it is no training: the plan knows nothing of it
    assert (
        json.loads(vswin("status", "table4", "--scale", "tiny", "--seeds", "1", "--json").stdout)[0]["action"]
        == "SUBMIT"
    )


def test_a_broken_video_counts_as_wrong_and_is_listed(
    vswin: Vswin, weights: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intact = record_of(vswin, weights)
    shutil.copytree(tiny_data, tmp_path / "data")
    monkeypatch.setenv("VSWIN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / "other"))
    video = tmp_path / "data" / "moving-digits" / "tiny" / "val" / "00003.mp4"
    video.write_bytes(video.read_bytes()[:200])
    answer = vswin("evaluate", VARIANT, "--checkpoint", str(weights), "--scale", "tiny")
    assert "val/00003.mp4" in answer.stdout
    [path] = published_folder(Scale.TINY).glob("*.json")
    record = load(path)
    assert (record.videos, record.broken) == (intact["videos"], 1)
    assert path.with_suffix(".broken.txt").read_text() == "val/00003.mp4\n"
    assert (scores()[3] == 0).all()


def test_an_interrupted_test_goes_on(vswin: Vswin, weights: Path) -> None:
    command = vswin_command(
        "evaluate", VARIANT, "--checkpoint", str(weights), "--scale", "tiny", "--views-at-once", "2"
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("tested "):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stdout.read()
    assert process.returncode == 1, rest
    [partial] = published_folder(Scale.TINY).glob("*.partial/*.npz")
    with np.load(partial) as archive:
        first = archive["videos"].tolist()
    assert 0 < len(first) < 12
    answer = vswin("evaluate", VARIANT, "--checkpoint", str(weights), "--scale", "tiny")
    assert f"tested {len(first)} of 12 videos" in answer.stdout
    assert not list(published_folder(Scale.TINY).glob("*.partial"))


def test_two_processes_share_out_the_videos(
    vswin: Vswin, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = record_of(vswin, weights)
    expected = scores()
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / "together"))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "experiments",
    ]
    command += ["evaluate", VARIANT, "--checkpoint", str(weights), "--scale", "tiny", "--views-at-once", "10"]
    subprocess.run(command, check=True, capture_output=True)
    [path] = published_folder(Scale.TINY).glob("*.json")
    record = load(path)
    assert (record.top1, record.videos, record.provenance.processes) == (alone["top1"], alone["videos"], 2)
    np.testing.assert_allclose(scores(), expected, rtol=0, atol=1e-6)


def test_weights_of_another_model_are_refused(vswin: Vswin, weights: Path) -> None:
    answer = vswin("evaluate", "table4/split", "--checkpoint", str(weights), "--scale", "tiny", code=1)
    assert "Traceback" not in answer.stderr
    assert "checkpoint" in answer.stderr
    assert not list(published_folder(Scale.TINY).glob("*.json"))
    assert RunDirectory(Scale.TINY, find_variant("table4/split").at(Scale.TINY).signature, 0).results() == []
