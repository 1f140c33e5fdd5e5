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
import torch

from experiments.job.published import evaluate_published
from experiments.registry.catalogue import find_variant
from experiments.registry.recipe import Scale
from experiments.results.record import RecordKind, load
from experiments.runs.directory import RunDirectory, published_folder
from experiments.runs.runtime import Runtime
from tests.support.command_line import Vswin, vswin_command
from vswin.models import read_checkpoint

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
    assert (record["kind"], record["seed"]) == (RecordKind.PUBLISHED_WEIGHTS, None)
    for name in ("top1", "top5", "class_accuracy", "videos", "signature", "protocol", "params", "flops"):
        assert record[name] == getattr(load(of_run), name)
    with np.load(of_run.with_suffix(".npz")) as archive:
        np.testing.assert_allclose(scores(), archive["scores"], rtol=0, atol=1e-5)
    again = vswin("evaluate", VARIANT, "--checkpoint", str(weights), "--scale", "tiny")
    assert "nothing to do" in again.stdout
    # it is no training: the plan knows nothing of it
    image, *rows = json.loads(vswin("status", "table4", "--scale", "tiny", "--seeds", "1", "--json").stdout)
    assert (image["action"], {row["action"] for row in rows}) == ("DONE", {"SUBMIT"})


def test_a_broken_video_counts_as_wrong_and_is_listed(
    vswin: Vswin, weights: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intact = record_of(vswin, weights)
    shutil.copytree(tiny_data, tmp_path / "data")
    monkeypatch.setenv("VSWIN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / "other"))
    video = tmp_path / "data" / "moving-digits" / "tiny" / "test" / "00003.mp4"
    video.write_bytes(video.read_bytes()[:200])
    answer = vswin("evaluate", VARIANT, "--checkpoint", str(weights), "--scale", "tiny")
    assert "test/00003.mp4" in answer.stdout
    [path] = published_folder(Scale.TINY).glob("*.json")
    record = load(path)
    assert (record.videos, record.broken) == (intact["videos"], 1)
    assert path.with_suffix(".broken.txt").read_text() == "test/00003.mp4\n"
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


@pytest.mark.usefixtures("home")
def test_two_processes_share_out_the_videos(trained: Path, weights: Path) -> None:
    recipe = find_variant(VARIANT).at(Scale.TINY)
    alone = trained / "tiny" / recipe.signature / "seed-0" / "tests" / f"{recipe.protocol_signature}.json"
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
    first = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert first.count("tested 6 of 6 videos") == 1, first
    again = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert again.count("nothing to do") == again.count("top-1") == 1, again
    [path] = published_folder(Scale.TINY).glob("*.json")
    record = load(path)
    assert (record.top1, record.videos, record.provenance.processes) == (load(alone).top1, load(alone).videos, 2)
    with np.load(alone.with_suffix(".npz")) as archive:
        np.testing.assert_allclose(scores(), archive["scores"], rtol=0, atol=1e-6)


def test_one_of_two_at_once_does_the_test(vswin: Vswin, weights: Path) -> None:
    command = vswin_command("evaluate", VARIANT, "--checkpoint", str(weights), "--scale", "tiny")
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("tested 12 of 12 videos" in output for output in outputs) == 1, outputs
    assert sum("nothing to do" in output for output in outputs) == 1, outputs


def test_weights_that_are_not_numbers_score_nothing_and_say_so(home: Path, weights: Path) -> None:
    state = {
        name: torch.full_like(value, torch.nan) if name == "cls_head.fc_cls.bias" else value
        for name, value in read_checkpoint(weights).items()
    }
    torch.save({"meta": {}, "state_dict": state}, home / "published.pth")
    said: list[str] = []
    record = evaluate_published(
        find_variant(VARIANT),
        scale=Scale.TINY,
        checkpoint=home / "published.pth",
        runtime=Runtime(),
        report=said.append,
    )
    assert record is not None
    assert (record.top1, record.top5, record.class_accuracy) == (0, 0, 0)
    assert "warning: 12 of 12 videos have scores that are not numbers, counted as wrong" in said


def test_weights_of_another_model_are_refused(vswin: Vswin, weights: Path) -> None:
    answer = vswin("evaluate", "table4/split", "--checkpoint", str(weights), "--scale", "tiny", code=1)
    assert "Traceback" not in answer.stderr
    assert "checkpoint" in answer.stderr
    assert not list(published_folder(Scale.TINY).glob("*.json"))
    assert RunDirectory(Scale.TINY, find_variant("table4/split").at(Scale.TINY).signature, 0).results() == []


def test_weights_of_another_data_set_are_refused(vswin: Vswin, weights: Path, tmp_path: Path) -> None:
    state = read_checkpoint(weights)
    for name in ("cls_head.fc_cls.weight", "cls_head.fc_cls.bias"):
        state[name] = torch.zeros(174, *state[name].shape[1:])
    torch.save(state, tmp_path / "something.pth")
    answer = vswin("evaluate", VARIANT, "--checkpoint", str(tmp_path / "something.pth"), "--scale", "tiny", code=1)
    assert "tells 174 classes apart, table4/joint at scale tiny 6; test it under a variant of the data" in answer.stderr
    answer = vswin("evaluate", VARIANT, "--checkpoint", str(tmp_path / "none.pth"), "--scale", "tiny", code=1)
    assert "expected a checkpoint file, found none at" in answer.stderr
