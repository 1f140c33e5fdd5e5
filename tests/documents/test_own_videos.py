"""From a folder of clips to a fine-tuned model, a table and predictions, as docs/your-own-videos.md says it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.registry.own_tables import OwnTableError, own_tables
from experiments.registry.paper import TABLES
from tests.support.command_line import Vswin
from tests.support.places import CLONE
from tests.support.video_files import encode, moving_blobs
from vswin.data.annotations import DataError, Split, VideoList
from vswin.data.upkeep.split import split_classes
from vswin.models import create_model

PAGE = (CLONE / "docs" / "your-own-videos.md").read_text()
[TABLE] = re.findall(r'(?s)```python\n("""Swin-T, fine-tuned.*?)```', PAGE)
WEIGHTS = "swin_tiny_patch244_window877_kinetics400_1k"
# What makes that page's recipe small enough for a processor; everything else stays.
SMALL = """
    "model.embed_dim": 8, "model.depths": (2, 2), "model.num_heads": (1, 2), "model.window": Extent(4, 3, 3),
    "data.clip": ClipConfig(length=4, interval=2), "data.short_side": (32, 32), "data.crop": 32,
    "protocol": Protocol(clips=2, crops=3, short_side=32, crop=32),
    "optim.epochs": 40, "optim.batch_size": 6, "optim.lr": 1e-2,
"""


def make_clips(folder: Path, *, videos: int = 5, classes: tuple[str, ...] = ("blue", "green", "red")) -> None:
    """Blobs tinted in the colour of their class."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(videos):
            frames = moving_blobs(14 + number) // 3
            frames[..., 2 - label % 3] += 150
            encode(folder / name / f"clip {number}.mp4", frames)


def split_names(folder: Path, split: Split) -> set[str]:
    return set(VideoList.in_folder(folder, split=split).names)


def test_a_folder_per_class_is_split_once_and_for_all(tmp_path: Path) -> None:
    for name, number in (("yoga", 10), ("air drumming", 3), ("zumba", 2)):
        (tmp_path / name).mkdir()
        for video in range(number):
            (tmp_path / name / f"{video}.mp4").touch()
    done = split_classes(tmp_path, share=0.2, seed=0)
    assert (dict(done.videos), done.groups, done.left_out) == ({Split.TRAIN: 11, Split.VAL: 4}, 0, {})
    train, val = split_names(tmp_path, Split.TRAIN), split_names(tmp_path, Split.VAL)
    assert not train & val
    assert len(train | val) == 15
    assert sorted(name.split("/")[0] for name in val) == ["air drumming", "yoga", "yoga", "zumba"]
    assert VideoList.in_folder(tmp_path, split=Split.VAL).classes == ("air drumming", "yoga", "zumba")
    with pytest.raises(DataError, match=r"classes\.txt: is there already, so the data set is split"):
        split_classes(tmp_path, share=0.2, seed=0)
    for name in ("train.txt", "val.txt", "classes.txt"):
        (tmp_path / name).unlink()
    split_classes(tmp_path, share=0.2, seed=1)
    assert split_names(tmp_path, Split.VAL) != val


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_every_file_is_in_a_list_or_named(tmp_path: Path) -> None:
    videos = [f"jump/{stem}" for stem in ("a.mp4", "b.MP4", "c.3gp", "d.ts", "e.m2ts", "f.ogv", "g.asf")]
    videos += [f"swim/person{person}/{stem}" for person in (1, 2) for stem in ("a.mkv", "b.mp4")]
    videos += ["swim/frames 1", "swim/frames 2"]
    touch(tmp_path, *(name for name in videos if "frames" not in name))
    touch(tmp_path, "swim/frames 1/0.jpg", "swim/frames 2/0.jpg")
    touch(tmp_path, "notes.txt", "jump/thumb.jpg", "jump/more.zip", "jump/.hidden.mp4", "empty/x.txt", "all.tar.gz")
    done = split_classes(tmp_path, share=0.2, seed=0)
    listed = split_names(tmp_path, Split.TRAIN) | split_names(tmp_path, Split.VAL)
    assert listed == set(videos)
    assert done.left_out == {
        "archives, to be unpacked": ["all.tar.gz", "jump/more.zip"],
        "beside the folders of classes": ["notes.txt"],
        "folders without videos": ["empty"],
        "hidden": ["jump/.hidden.mp4"],
        "no suffix of a video": ["empty/x.txt", "jump/thumb.jpg"],
    }


def test_clips_of_one_recording_stay_together(tmp_path: Path) -> None:
    names = [
        f"{kind}/v_{kind}_g{group:02d}_c{clip:02d}.avi"
        for kind in ("Bike", "Dive")
        for group in range(1, 11)
        for clip in (1, 2)
    ]
    touch(tmp_path, *names)
    done = split_classes(tmp_path, share=0.2, seed=0)
    assert (done.groups, sum(done.videos.values()), done.videos[Split.VAL]) == (10, 40, 8)
    groups = {
        split: {name.split("_")[2] for name in split_names(tmp_path, split)} for split in (Split.TRAIN, Split.VAL)
    }
    assert not groups[Split.TRAIN] & groups[Split.VAL]


def test_groups_are_what_a_pattern_says(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"{kind}/person{person}_d{day}.avi" for kind in ("run", "walk") for person in range(6) for day in (1, 2)),
    )
    done = split_classes(tmp_path, share=0.3, seed=3, group_by=r"(person\d)_")
    persons = {
        split: {name.split("/")[1][:7] for name in split_names(tmp_path, split)} for split in (Split.TRAIN, Split.VAL)
    }
    assert (done.groups, len(persons[Split.VAL])) == (6, 2)
    assert not persons[Split.TRAIN] & persons[Split.VAL]
    for name in ("train.txt", "val.txt", "classes.txt"):
        (tmp_path / name).unlink()
    for pattern, message in (
        ("(", "expected a regular expression"),
        ("dog", "belongs to no group"),
        ("walk|run", "1 group there, and no choice"),
    ):
        with pytest.raises(DataError, match=message):
            split_classes(tmp_path, share=0.3, seed=3, group_by=pattern)
    assert not list(tmp_path.glob("*.txt"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "expected videos in the folders of two classes or more, got none"),
        (["a/1.mp4", "a/2.mp4", "b/notes.txt"], r"two classes or more, got \['a'\]"),
        (["a/1.mp4", "b/1.mp4", "b/2.mp4"], "a: expected a video to train on and one to test on, got 1"),
        (["a/1.mp4", "a/2.mp4", "train/x/1.mp4"], "train: is there already"),
        (["a\nb/1.mp4", "a\nb/2.mp4", "c/1.mp4", "c/2.mp4"], "expected a path that a row 'path label' can hold"),
    ],
)
def test_what_cannot_be_split_is_left_alone(files: list[str], message: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=message):
        split_classes(tmp_path, share=0.2, seed=0)
    assert not list(tmp_path.glob("*.txt"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("TABLE = 1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit()", "SystemExit: "),
        ("table = 1", r"expected TABLE = Table\(\.\.\.\) in it, got NoneType"),
        (TABLE.replace('"model.num_classes"', '"model.classes"'), "ValueError: no field 'model.classes' in a recipe"),
    ],
)
def test_a_file_that_is_no_table_is_named(
    content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSWIN_TABLES", str(tmp_path))
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(OwnTableError, match=rf"mine\.py: {message}"):
        own_tables()


def test_the_table_of_the_readme_stands_behind_the_papers(
    vswin: Vswin, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSWIN_TABLES", str(home / "nowhere"))
    assert "expected $VSWIN_TABLES to name a folder of tables" in vswin("list", code=1).stderr
    monkeypatch.setenv("VSWIN_TABLES", str(home))
    (home / "mine.py").write_text(TABLE)
    (home / "_shared.py").write_text("TABLE = 1 / 0")
    assert list(json.loads(vswin("list", "--json").stdout)) == [*(table.id for table in TABLES), "mine"]
    (home / "other.py").write_text(TABLE.replace('id="mine"', 'id="table4"'))
    assert "there are two tables called 'table4'" in vswin("list", code=1).stderr


@pytest.mark.slow
def test_the_whole_way_from_clips_to_predictions(vswin: Vswin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "own-data"
    monkeypatch.setenv("VSWIN_DATA", str(data))
    monkeypatch.setenv("VSWIN_TABLES", str(tmp_path / "my-tables"))
    make_clips(data / "my-clips")
    (tmp_path / "my-tables").mkdir()
    small = TABLE.replace('"optim.batch_size": 16,', SMALL).replace(
        "import Precision", "import ClipConfig, Extent, Precision, Protocol"
    )
    (tmp_path / "my-tables" / "mine.py").write_text(small)
    assert "weights to start from are missing" in vswin("launch", "mine", "--scale", "paper", "--cpu", code=1).stderr
    torch.manual_seed(0)
    before = create_model("swin_t", num_classes=400, embed_dim=8, depths=(2, 2), num_heads=(1, 2), window=(4, 3, 3))
    (data / "weights").mkdir()
    torch.save({"meta": {}, "state_dict": before.state_dict()}, data / "weights" / f"{WEIGHTS}.pth")

    vswin("data", "split", "my-clips")
    for wrong, said in (
        (('"model.num_classes": 3', '"model.num_classes": 2'), "3 classes, but mine/slow tells 2 apart; set model.num"),
        (('"optim.batch_size": 6', '"optim.batch_size": 16'), "12 videos, fewer than a batch of mine/slow, 16; set"),
    ):
        (tmp_path / "my-tables" / "mine.py").write_text(small.replace(*wrong))
        assert said in vswin("run", "mine/slow", "--scale", "paper", "--cpu", code=1).stderr
    (tmp_path / "my-tables" / "mine.py").write_text(small)
    assert "nothing is wrong" in vswin("data", "check", "my-clips").stdout
    if not torch.cuda.is_available():
        failed = vswin("run", "mine/slow", "--scale", "paper", "--workers", "0", code=1)
        assert "or --cpu for a model of your own" in failed.stderr
    # one of the two has failed above, of its own error
    vswin("launch", "mine", "--scale", "paper", "--seeds", "1", "--cpu", "--workers", "0", "--mode", "retry")
    vswin("collect", "--scale", "paper")
    rows = json.loads(vswin("tables", "mine", "--scale", "paper", "--json").stdout)["mine"]
    assert len(rows) == 2
    steps = json.loads(vswin("status", "mine", "--scale", "paper", "--seeds", "1", "--json").stdout)
    assert {step["action"] for step in steps} == {"DONE"}

    make_clips(tmp_path / "new", videos=2)
    answer = vswin("predict", str(tmp_path / "new"), "--checkpoint", steps[0]["directory"], "--json")
    content = json.loads(answer.stdout)
    right = [item["predictions"][0]["class"] == Path(item["video"]).parent.name for item in content]
    assert len(right) == 6
    # colours are easy: it has learnt something, under the names of the folders
    assert np.mean(right) > 0.6
