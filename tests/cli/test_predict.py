"""Trained models on videos of one's own: what ``vswin predict`` and ``vswin features`` say is what the model says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.cli.main import main
from experiments.registry.catalogue import find_variant
from experiments.registry.of_weights import Said, make_ready
from experiments.registry.recipe import Scale
from tests.support.command_line import Vswin, vswin_command
from tests.support.video_files import decoded_from_start, encode, grey_steps, moving_blobs
from vswin.config import TIMESFORMER_PIXELS, ChannelOrder, ClipConfig, Pixels, Protocol
from vswin.inference import Viewing, find_videos, predict
from vswin.models import create_model, read_classes, save_weights

VARIANT = "table6/none"
SMALL = {"embed_dim": 8, "depths": (2, 2), "num_heads": (1, 2), "window": (4, 3, 3)}
CLASSES = ["juggling", "welding", "yoga", "yawning", "zumba", "abseiling", "air drumming"]
VIEWS = ("--views", "2x3", "--clip", "8x2")

Refused = Callable[..., str]


def model() -> nn.Module:
    torch.manual_seed(0)
    made = create_model("swin_t", num_classes=len(CLASSES), **SMALL).eval()
    # far from even scores, so that their order is not a matter of rounding
    torch.nn.init.normal_(made.cls_head.fc_cls.weight, std=2.0)
    return made


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A file as the authors published theirs."""
    path = tmp_path / "published.pth"
    torch.save({"meta": {"epoch": 30}, "state_dict": model().state_dict(), "optimizer": {"state": {}}}, path)
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("".join(f"{name}\n" for name in CLASSES))
    return path


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    encode(folder / "blobs.mp4", moving_blobs(30))
    encode(folder / "[grey] steps.mp4", grey_steps(20))
    return folder


def views_by_hand(path: Path, *, clips: int, length: int, interval: int) -> Tensor:
    """The views of a video wider than high, from the description in section 4.1: float32 [V, 3, T, 224, 224]."""
    pixels = decoded_from_start(path)
    room = max(len(pixels) - length * interval + 1, 0)
    starts = [int(number * room / clips + room / clips / 2) for number in range(clips)]
    frames = [[(start + interval * step) % len(pixels) for step in range(length)] for start in starts]
    video = F.interpolate(torch.from_numpy(pixels).movedim(-1, 1), size=(224, 299), mode="bilinear")
    clip_views = [video[frame, :, :, left : left + 224] for frame in frames for left in (0, 74, 37)]
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    return torch.stack([((view.movedim(1, -1).float() - mean) / std).movedim(-1, 0) for view in clip_views])


@torch.no_grad()
def test_the_best_five_of_a_published_file_are_those_computed_by_hand(
    vswin: Vswin, published: Path, labels: Path, videos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    arguments = ("--checkpoint", str(published), "--labels", str(labels), *VIEWS, "--out", str(out))
    text = vswin("predict", str(videos), *arguments).stdout
    content = json.loads(out.read_text())
    assert [Path(item["video"]).name for item in content] == ["[grey] steps.mp4", "blobs.mp4"]
    assert "[grey] steps.mp4" in text
    for item in content:
        views = views_by_hand(Path(item["video"]), clips=2, length=8, interval=2)
        scores = model()(views).softmax(-1).mean(0)
        best = scores.argsort(descending=True)[:5].tolist()
        assert [found["index"] for found in item["predictions"]] == best
        assert [found["class"] for found in item["predictions"]] == [CLASSES[index] for index in best]
        np.testing.assert_allclose([found["score"] for found in item["predictions"]], scores[best], rtol=1e-4)
        assert f"{100 * scores[best[0]]:.1f}  {CLASSES[best[0]]}" in text


@torch.no_grad()
def test_features_are_what_the_head_sees(vswin: Vswin, published: Path, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.npz"
    answer = vswin("features", str(videos), "--checkpoint", str(published), *VIEWS, "--out", str(out), "--json")
    with np.load(out, allow_pickle=False) as archive:
        features, names = torch.from_numpy(archive["features"]), archive["videos"].tolist()
    assert features.shape == (2, 16)
    assert json.loads(answer.stdout)["videos"] == names
    made = model()
    for row, name in zip(features, names, strict=True):
        logits = made(views_by_hand(Path(name), clips=2, length=8, interval=2)).mean(0)
        torch.testing.assert_close(made.cls_head.fc_cls(row), logits, rtol=1e-4, atol=1e-4)


def test_without_names_classes_are_numbers_and_a_broken_video_does_not_stop_the_rest(
    vswin: Vswin, published: Path, videos: Path
) -> None:
    broken = videos / "a.mp4"
    broken.write_bytes((videos / "blobs.mp4").read_bytes()[:300])
    missing = videos.parent / "gone.mp4"
    arguments = ("--checkpoint", str(published), "--views", "1x1", "--clip", "4x1")
    answer = vswin("predict", str(missing), str(videos), *arguments, "--json", code=1)
    content = json.loads(answer.stdout)
    assert ["error" in item for item in content] == [True, False, True, False]
    assert str(broken) in content[2]["error"]
    assert str(missing) in content[0]["error"]
    assert "2 of 4 videos could not be read" in answer.stderr
    for item in (content[1], content[3]):
        assert all(found["class"] == str(found["index"]) for found in item["predictions"])
    out = videos.parent / "features.npz"
    answer = vswin("features", str(videos), *arguments, "--out", str(out), code=1)
    assert str(broken) in answer.stdout
    with np.load(out) as archive:
        assert [Path(name).name for name in archive["videos"]] == ["[grey] steps.mp4", "blobs.mp4"]


@pytest.fixture(scope="module")
def run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run. Its windows are not shifted, which no shape tells."""
    folder = tmp_path_factory.mktemp("runs")
    environment = {**os.environ, "VSWIN_DATA": str(tiny_data), "VSWIN_RUNS": str(folder)}
    subprocess.run(vswin_command("run", VARIANT, "--scale", "tiny"), check=True, capture_output=True, env=environment)
    return folder / "tiny" / find_variant(VARIANT).at(Scale.TINY).signature / "seed-0"


@pytest.mark.parametrize("alone", [False, True], ids=["run directory", "weights alone"])
def test_a_run_predicts_as_it_was_tested(run: Path, alone: bool, vswin: Vswin, tiny_data: Path, tmp_path: Path) -> None:
    folder = tiny_data / "moving-digits" / "tiny"
    checkpoint = shutil.copy(run / "weights.safetensors", tmp_path / "mine.safetensors") if alone else run
    answer = vswin("predict", str(folder / "test"), "--checkpoint", str(checkpoint), "--json")
    content = json.loads(answer.stdout)
    [scores] = (run / "tests").glob("*.npz")
    with np.load(scores) as archive:
        expected = archive["scores"]
    classes = read_classes(run / "weights.safetensors")
    assert len(classes) == 6
    assert len(content) == len(expected) == 12
    for item in content:
        tested = expected[int(Path(item["video"]).stem)]
        for found in item["predictions"]:
            assert found["class"] == classes[found["index"]]
            assert found["score"] == pytest.approx(tested[found["index"]], abs=1e-5)


def test_a_published_file_is_shown_the_views_of_its_row(tmp_path: Path) -> None:
    path = tmp_path / "swin_tiny.safetensors"
    save_weights(create_model("swin_t"), path)
    ready = make_ready(path, Said())
    assert ready.origin == "swin_t, window 8x7x7, joint attention, 400 classes, as table1/swin-t"
    assert (ready.clip.length, ready.clip.interval, ready.protocol.views, ready.protocol.crop) == (32, 2, "4x3", 224)
    assert ready.classes[:2] == ("0", "1")
    ready = make_ready(path, Said(model="table6/spatial", views="10x5", clip="16x4"))
    assert (ready.origin, ready.clip.length, ready.clip.interval, ready.protocol.views) == (
        "table6/spatial",
        16,
        4,
        "10x5",
    )


def scores_on(trained: nn.Module, colour: tuple[int, int, int], pixels: Pixels) -> Tensor:
    """The scores of clips of one colour, whatever their views."""
    rgb = torch.tensor(colour, dtype=torch.float32)
    shown = rgb.flip(0) if pixels.order == "bgr" else rgb
    clip = ((shown - torch.tensor(pixels.mean)) / torch.tensor(pixels.std)).view(1, 3, 1, 1, 1).expand(1, 3, 4, 32, 32)
    with torch.no_grad():
        return trained(clip).softmax(dim=-1)[0]


def test_pixels_are_the_models_own_or_as_said(tmp_path: Path, vswin: Vswin) -> None:
    torch.manual_seed(0)
    sizes = {"embed_dim": 64, "depth": 1, "num_heads": 1, "patch": 8, "image_size": 32, "frames": 4}
    trained = create_model("timesformer_divided", num_classes=3, **sizes).eval()
    torch.nn.init.normal_(trained.head.weight, std=2.0)
    path = tmp_path / "timesformer.pth"
    torch.save({"model_state": {f"model.{name}": value for name, value in trained.state_dict().items()}}, path)
    video = encode(tmp_path / "grey.mp4", np.full((8, 48, 64, 3), 90, dtype=np.uint8))
    out = tmp_path / "o.json"
    half = Pixels(mean=(127.5,) * 3, std=(127.5,) * 3)
    for options, pixels, said in (
        ((), TIMESFORMER_PIXELS, "pixels less 114.75 over 57.375 (as TimeSformer's are)"),
        (("--mean", "0.5", "--std", "0.5"), half, "pixels less 127.5 over 127.5 (as you say)"),
        (("--mean", "127.5,127.5,127.5", "--std", "127.5"), half, "(as you say)"),
        (("--bgr",), replace(TIMESFORMER_PIXELS, order=ChannelOrder.BGR), "blue first (as you say)"),
    ):
        answer = vswin("predict", str(video), "--checkpoint", str(path), "--views", "1x1", "--out", str(out), *options)
        assert said in answer.stdout
        [found] = json.loads(out.read_text())
        scores = {item["index"]: item["score"] for item in found["predictions"]}
        [frame, *_] = decoded_from_start(video)
        expected = scores_on(trained, tuple(int(value) for value in frame.mean(axis=(0, 1)).round()), pixels)
        assert [scores[index] for index in range(3)] == pytest.approx(expected.tolist(), abs=5e-3)


def test_what_is_left_aside_of_a_file_is_named(vswin: Vswin, tmp_path: Path) -> None:
    path = tmp_path / "more.pth"
    torch.save({"state_dict": {**model().state_dict(), "aux_head.weight": torch.ones(2)}, "epoch": 3}, path)
    video = encode(tmp_path / "grey.mp4", np.full((8, 48, 64, 3), 90, dtype=np.uint8))
    answer = vswin("predict", str(video), "--checkpoint", str(path), *VIEWS)
    assert "no part of the network, and left aside: aux_head.weight" in answer.stdout
    assert "left aside: 'epoch'" in answer.stdout
    answer = vswin("features", str(video), "--checkpoint", str(path), *VIEWS, "--out", str(tmp_path / "f.npz"))
    assert "left aside: aux_head.weight" in answer.stdout
    assert "cls_head" not in answer.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--mean", "a"), "expected --mean like 0.45"),
        (("--std", "0.2"), "expected --mean beside --std"),
        (("--mean", "100", "--std", "0"), "expected --std above 0"),
        (("--window", "8x7"), "expected --window like 8x7x7"),
        (("--weights", "mean"), "expected --weights averaged or raw"),
    ],
)
def test_what_is_said_must_make_sense(options: tuple[str, ...], message: str, vswin: Vswin, published: Path) -> None:
    answer = vswin("predict", "nothing.mp4", "--checkpoint", str(published), *options, code=2)
    assert message in " ".join(answer.stderr.split())


def test_a_timesformer_is_shown_clips_of_its_own_length(tmp_path: Path) -> None:
    path = tmp_path / "timesformer.safetensors"
    save_weights(create_model("timesformer_joint", embed_dim=64, depth=1, num_heads=1, num_classes=3, frames=16), path)
    ready = make_ready(path, Said(views="1x1"))
    assert (ready.clip.length, ready.clip.interval, ready.protocol.views) == (16, 16, "1x1")


@pytest.mark.slow
def test_little_shared_memory_is_explained(published: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a mount of one's own wants root")
    video = encode(tmp_path / "a.mp4", np.full((16, 128, 160, 3), 90, dtype=np.uint8))
    command = vswin_command(
        "predict", str(video), str(video), "--checkpoint", str(published), "--views", "1x1", "--clip", "16x1"
    )
    script = 'mount -t tmpfs -o size=256k tmpfs /dev/shm && "$@"'
    answer = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script, "bash", *command, "--workers", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert "shared memory is too small" in " ".join(answer.stderr.split())
    assert "--shm-size=8g" in answer.stderr


def test_names_are_shown_as_they_are_and_obeyed_by_no_terminal(vswin: Vswin, published: Path, tmp_path: Path) -> None:
    odd = "score:100:run:cat: [red]x[/] \x1b[2J\u202eb\x9b"
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"{odd}{number}\n" for number in range(len(CLASSES))))
    good, broken = (tmp_path / f"{name} {odd.replace('/', '')}.mp4" for name in ("good", "broken"))
    encode(good, grey_steps(20))
    broken.write_bytes(b"no video")
    options = ("--checkpoint", str(published), *VIEWS, "--labels", str(labels))
    answer = vswin("predict", str(good), str(broken), *options, code=1)
    shown = r"score:100:run:cat: [red]x[/] \x1b[2J\u202eb\x9b"
    for place in (f"good {shown.replace('/', '')}.mp4", f"broken {shown.replace('/', '')}.mp4: ", f"  {shown}0\n"):
        assert place in answer.stdout
    for text in (answer.stdout, vswin("predict", str(broken), "--checkpoint", f"{odd}.pth", code=1).stderr):
        assert not {"\x1b", "\u202e", "\x9b"} & set(text)
    [first, _] = json.loads(vswin("predict", str(good), str(broken), *options, "--json", code=1).stdout)
    assert first["video"] == str(good)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("command", ["predict", "features"])
def test_weights_that_are_no_numbers_are_refused(vswin: Vswin, tmp_path: Path, command: str, value: float) -> None:
    diverged = model()
    with torch.no_grad():
        diverged.backbone.norm.bias[3] = value
    save_weights(diverged, tmp_path / "diverged.safetensors")
    video = encode(tmp_path / "a.mp4", grey_steps(20))
    out = tmp_path / "out.npz"
    weights = str(tmp_path / "diverged.safetensors")
    answer = vswin(command, str(video), "--checkpoint", weights, *VIEWS, "--out", str(out), "--json", code=1)
    assert (answer.stdout, out.exists()) == ("", False)
    assert "expected finite weights, got NaN or infinite ones in backbone.norm.bias: the training div" in answer.stderr


def test_scores_that_are_no_numbers_are_an_error_of_the_video(tmp_path: Path) -> None:
    overflowing = model()
    with torch.no_grad():
        overflowing.backbone.norm.weight.fill_(1e30)
        overflowing.cls_head.fc_cls.weight.mul_(1e30)
    video = encode(tmp_path / "a.mp4", grey_steps(20))
    [answer] = predict(overflowing, [video], Viewing(clip=ClipConfig(length=8), protocol=Protocol(clips=1, crops=1)))
    assert answer.values is None
    assert answer.error == f"{video}: the model's output for it is not finite"


@pytest.fixture
def refused(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """``vswin predict`` in this process, which says one sentence on standard error and nothing else."""

    def call(*arguments: str, code: int) -> str:
        monkeypatch.chdir(home)
        monkeypatch.setattr(sys, "argv", ["vswin", "predict", "none.mp4", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        assert (end.value.code, out) == (code, ""), err
        return err

    return call


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["--model", "swin_q"], 2, "unknown model 'swin_q'; did you mean 'swin_"),
        (["--model", "swin_b"], 1, "does not fit the model: "),
        (["--model", "table4/spilt"], 2, "did you mean 'table4/split'"),
        (["--model", "swin2d_t"], 2, "swin2d_t is a model for images"),
        (["--labels", "none.txt"], 2, "expected a file of class names, one per line, found none at none.txt"),
        (["--labels", "two.txt"], 2, "expected 7 class names in two.txt, one per line in the model's order, got 2"),
        (["--views", "4"], 2, "expected --views like 4x3, clips in time x crops in space; got '4'"),
        (["--clip", "32x0"], 2, "expected --clip like 32x2"),
        (["--out", "no/where.json"], 2, "expected --out FILE in a folder that exists"),
    ],
)
def test_what_does_not_fit_is_said(
    arguments: list[str], code: int, hint: str, refused: Refused, published: Path, home: Path
) -> None:
    (home / "two.txt").write_text("one\ntwo\n")
    assert hint in refused("--checkpoint", str(published), *arguments, code=code)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (None, "expected a checkpoint file, found none at"),
        ({"state_dict": {"fc.weight": torch.zeros(2, 2)}}, "its tensors are named (fc.weight)"),
        ({"model": create_model("swin2d_t", embed_dim=8, depths=(1,), num_heads=(1,)).state_dict()}, "for images"),
        ("no head", "2 tensors missing (cls_head.fc_cls.weight, cls_head.fc_cls.bias)"),
        ("pickle", "is cut short or no PyTorch checkpoint"),
    ],
    ids=["missing", "unknown", "image", "headless", "damaged"],
)
def test_files_that_hold_no_classifier_are_refused(
    content: object, hint: str, refused: Refused, tmp_path: Path
) -> None:
    path = tmp_path / "file.pth"
    if content == "no head":
        state = {name: value for name, value in model().state_dict().items() if not name.startswith("cls_head")}
        torch.save({"state_dict": state}, path)
    elif content == "pickle":
        path.write_bytes(b"\x80\x02}q\x00.")
    elif content is not None:
        torch.save(content, path)
    assert hint in refused("--checkpoint", str(path), code=1)


def test_a_run_that_is_not_finished_is_told_apart(refused: Refused, tmp_path: Path) -> None:
    said = refused("--checkpoint", str(tmp_path), code=2)
    assert re.search(r"expected a finished run with weights\.safetensors in .*; vswin status", said)


def test_videos_are_found_in_folders_and_frames_are_one(tmp_path: Path) -> None:
    for name in ("b/2.mp4", "b/1.WEBM", "a/frames/img_00001.jpg", "b/notes.txt", "b/.hidden.mp4", "b/poster.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    found = find_videos([tmp_path, tmp_path / "a" / "frames", tmp_path / "gone.mp4", tmp_path / "empty"])
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        *("a/frames", "b/1.WEBM", "b/2.mp4"),
        *("a/frames", "gone.mp4", "empty"),
    ]
