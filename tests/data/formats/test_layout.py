"""Every way in which the field keeps data sets is read as its publishers mean it, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vswin.data.annotations import DataError, Format, Split, VideoList
from vswin.data.formats.layout import Layout, data_sets


def put(folder: Path, **files: str) -> None:
    """Write files; ``__`` in a name stands for a slash."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"1234")


def both(folder: Path) -> dict[Split, VideoList]:
    return {split: VideoList.in_folder(folder, split=split) for split in (Split.TRAIN, Split.VAL)}


HEADER = "label,youtube_id,time_start,time_end,split"


@pytest.fixture
def kinetics(tmp_path: Path) -> Path:
    (tmp_path / "train.csv").write_text(
        f"{HEADER},is_cc\r\n"
        '"tying knot (not on a tie)",--07WQ2iBlw,1,11,train,0\r\n'
        "abseiling,-0zXgvZJ8RU,120,130,train,0\r\n"
        '"zumba",abcdefghijk,10.0,20.0,train,1\r\n'
    )
    (tmp_path / "validate.csv").write_text(f"\ufeff{HEADER}\nabseiling,0wR5jVB-WPk,417,427,validate\n")
    return tmp_path


@pytest.mark.parametrize(
    "names",
    [
        [
            "train/--07WQ2iBlw_000001_000011.mp4",
            "train/-0zXgvZJ8RU_000120_000130.mp4",
            "train/abcdefghijk_000010_000020.webm",
        ],
        [
            "train/tying_knot_(not_on_a_tie)/--07WQ2iBlw_000001_000011.mp4",
            "train/abseiling/-0zXgvZJ8RU_000120_000130.mp4",
            "train/zumba/abcdefghijk_000010_000020.mkv",
        ],
        [
            "videos_train/tying knot (not on a tie)/--07WQ2iBlw_000001_000011.mp4",
            "videos_train/abseiling/-0zXgvZJ8RU_000120_000130.MP4",
            "rawframes_train/zumba/abcdefghijk_000010_000020/img_00001.jpg",
        ],
        ["train/--07WQ2iBlw.mp4", "train/-0zXgvZJ8RU.mp4", "train/abcdefghijk.mp4"],
    ],
    ids=["flat", "underscores", "blanks, frames", "by id"],
)
def test_kinetics_as_published(kinetics: Path, names: list[str]) -> None:
    touch(kinetics, *names, "val/0wR5jVB-WPk_000417_000427.mp4")
    videos = both(kinetics)
    train, val = videos[Split.TRAIN], videos[Split.VAL]
    assert train.format is Format.KINETICS
    assert list(train.names) == [name.removesuffix("/img_00001.jpg") for name in names]
    assert all(train.path(index).exists() for index in range(3))
    assert train.classes == val.classes == ("abseiling", "tying knot (not on a tie)", "zumba")
    assert (train.labels, val.labels) == ((1, 0, 2), (0,))
    assert val.names == ("val/0wR5jVB-WPk_000417_000427.mp4",)


def test_kinetics_videos_that_are_gone_are_named(kinetics: Path) -> None:
    train = VideoList.in_folder(kinetics, split=Split.TRAIN)
    with pytest.raises(DataError, match=r"train/--07WQ2iBlw_000001_000011\.mp4: cannot be opened .* \(and 2 more"):
        _ = train.fingerprint


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("abseiling,abc", r"train\.csv:5: expected 4 or more fields"),
        (",abcdefghijX,1,11,train", r"train\.csv:5: expected one of 4 class names, got none"),
        ("abseiling,abcdefghijX,1.5,11,train", r"train\.csv:5: expected whole seconds, got '1\.5' and '11'"),
        ("abseiling,abcdefghijX,-1,11,train", r"train\.csv:5: expected whole seconds"),
        ("abseiling,,1,11,train", r"train\.csv:5: expected a YouTube id, got none"),
        ("zumba,abcdefghijk,10,20,train", r"train\.csv:5: expected every video once, got .* again after line 4"),
    ],
)
def test_wrong_kinetics_rows_are_refused_by_line(kinetics: Path, row: str, message: str) -> None:
    (kinetics / "classes.txt").write_text("abseiling\ntying knot (not on a tie)\nzumba\nyoga\n")
    with (kinetics / "train.csv").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(DataError, match=message):
        VideoList.in_folder(kinetics, split=Split.TRAIN)


def test_a_video_in_two_class_folders_is_refused(kinetics: Path) -> None:
    name = "-0zXgvZJ8RU_000120_000130.mp4"
    touch(kinetics, f"train/abseiling/{name}", f"train/zumba/{name}")
    with pytest.raises(DataError, match=r"train\.csv:3: expected one video of this name, got train/abseiling/"):
        VideoList.in_folder(kinetics, split=Split.TRAIN)


def test_classes_are_never_numbered_by_one_split_alone(kinetics: Path) -> None:
    (kinetics / "train.csv").rename(kinetics / "kept")
    with pytest.raises(DataError, match=r"expected the CSV of both splits.* none for train; .* classes\.txt"):
        VideoList.in_folder(kinetics, split=Split.VAL)
    (kinetics / "classes.txt").write_text("yoga\nabseiling\n")
    assert VideoList.in_folder(kinetics, split=Split.VAL).labels == (1,)


@pytest.fixture(params=["", "labels", "annotations"])
def something(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    place = tmp_path / request.param
    place.mkdir(exist_ok=True)
    prefix = "" if request.param == "labels" else "something-something-v2-"
    labels = {"Holding something": "1", "Pushing something so that it falls off of something": "0", "Turning": "2"}
    train = [
        {"id": "78687", "label": "holding potato", "template": "Holding [something]", "placeholders": ["potato"]},
        {"id": 42, "label": "", "template": "Pushing [something] so that it falls off of [something]"},
    ]
    val = [{"id": "5", "label": "", "template": "Turning"}]
    (place / f"{prefix}labels.json").write_text(json.dumps(labels))
    (place / f"{prefix}train.json").write_text(json.dumps(train))
    (place / f"{prefix}validation.json").write_text(json.dumps(val, indent=2))
    (place / f"{prefix}test.json").write_text(json.dumps([{"id": "1"}]))
    touch(tmp_path, *(f"20bn-something-something-v2/{name}.webm" for name in ("78687", "42", "5", "1")))
    return tmp_path


def test_something_something_as_published(something: Path) -> None:
    videos = both(something)
    train, val = videos[Split.TRAIN], videos[Split.VAL]
    assert train.format is Format.SOMETHING
    assert train.names == ("20bn-something-something-v2/78687.webm", "20bn-something-something-v2/42.webm")
    assert (train.labels, val.labels) == ((1, 0), (2,))
    assert train.classes == val.classes
    assert train.classes[0] == "Pushing something so that it falls off of something"
    assert train.manifest()["num_classes"] == 3


def test_wrong_something_something_files_are_refused(tmp_path: Path) -> None:
    put(tmp_path, **{"train.json": '[{"id": "1", "template": "Lifting [x]"}]', "labels.json": '{"Holding x": "0"}'})
    with pytest.raises(
        DataError, match=r"train\.json:entry 1: video 1: expected one of 1 templates, got 'Lifting \[x\]'"
    ):
        VideoList.in_folder(tmp_path, split=Split.TRAIN)
    put(tmp_path, **{"labels.json": '{"Holding x": "1"}'})
    with pytest.raises(DataError, match=r"labels\.json: expected the numbers 0 to 0, each once"):
        VideoList.in_folder(tmp_path, split=Split.TRAIN)
    put(tmp_path, **{"train.json": '[{"id": "1",\n', "labels.json": '{"Holding x": "0"}'})
    with pytest.raises(DataError, match=r"train\.json:\d: expected JSON"):
        VideoList.in_folder(tmp_path, split=Split.TRAIN)


def test_class_folders(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "train/run/b.mp4",
        "train/run/a.avi",
        "train/high jump/c.webm",
        "train/run/.DS_Store",
        "train/run/x.txt",
    )
    touch(tmp_path, "train/high jump/d/img_00001.jpg", "val/swim/e.mkv", "val/run/f.mp4")
    videos = both(tmp_path)
    train, val = videos[Split.TRAIN], videos[Split.VAL]
    assert train.format is Format.CLASS_FOLDERS
    # Swimming has no training video, and keeps its number all the same.
    assert train.classes == val.classes == ("high jump", "run", "swim")
    assert train.names == ("train/high jump/c.webm", "train/high jump/d", "train/run/a.avi", "train/run/b.mp4")
    assert (train.labels, val.labels) == ((0, 0, 1, 1), (1, 2))
    assert train.fingerprint != val.fingerprint


def test_class_folders_of_one_split_alone_need_class_names(tmp_path: Path) -> None:
    touch(tmp_path, "val/run/f.mp4")
    with pytest.raises(DataError, match=r"expected class folders for both splits.* none for train"):
        VideoList.in_folder(tmp_path, split=Split.VAL)
    (tmp_path / "classes.txt").write_text("jump\nrun\n")
    assert VideoList.in_folder(tmp_path, split=Split.VAL).labels == (1,)


def test_class_folders_whose_letters_a_file_system_decomposed_are_one_class(tmp_path: Path) -> None:
    touch(tmp_path, "train/Ba\u0308lle/a.mp4", "val/B\u00e4lle/b.mp4")
    videos = both(tmp_path)
    assert videos[Split.TRAIN].classes == ("B\u00e4lle",)
    assert videos[Split.TRAIN].path(0).exists()


@pytest.mark.parametrize(
    ("name", "text", "video"),
    [
        ("kinetics400_train_list_videos.txt", "abseiling/a.mp4 7\n", "videos_train/abseiling/a.mp4"),
        ("k400_train.txt", "a.mp4 7\n", "train/a.mp4"),
        ("annotations/train.csv", "train/a.mp4,7\n", "train/a.mp4"),
        ("train.csv", '"train/a, b.mp4" 7\n', "train/a, b.mp4"),
        ("sthv2_train_list_rawframes.txt", "1234 37 7\n", "rawframes/1234/img_00001.jpg"),
        ("train.txt", "a.mp4 7\n", "a.mp4"),
    ],
)
def test_lists_are_found_by_their_published_names(tmp_path: Path, name: str, text: str, video: str) -> None:
    touch(tmp_path, video)
    touch(tmp_path, name)
    (tmp_path / name).write_text(text)
    videos = VideoList.in_folder(tmp_path, split=Split.TRAIN)
    assert (videos.format, videos.labels) == (Format.LIST, (7,))
    assert videos.path(0) == tmp_path / video.removesuffix("/img_00001.jpg")
    assert videos.sizes == ((1,) if "rawframes" in name else (4,))


def test_label_maps_of_mmaction_name_the_classes(tmp_path: Path) -> None:
    put(tmp_path, **{"k400_val.txt": "a.mp4 1\n", "label_map_k400.txt": "abseiling\nair drumming\n"})
    assert VideoList.in_folder(tmp_path, split=Split.VAL).classes == ("abseiling", "air drumming")
    put(tmp_path, **{"label_map_k600.txt": "x\n"})
    with pytest.raises(
        DataError, match=r"expected one file of class names, got label_map_k400\.txt, label_map_k600\.txt"
    ):
        VideoList.in_folder(tmp_path, split=Split.VAL)


def test_several_ways_to_read_a_folder_are_refused_by_name(kinetics: Path) -> None:
    put(kinetics, **{"k400_train.txt": "a.mp4 0\n"})
    with pytest.raises(
        DataError, match=r"one annotation file per split.*k400_train\.txt \(path label list, train\), train\.csv"
    ):
        VideoList.in_folder(kinetics, split=Split.TRAIN)
    # What the message says helps.
    put(kinetics, **{"train.txt": "a.mp4 0\n"})
    assert VideoList.in_folder(kinetics, split=Split.TRAIN).names == ("a.mp4",)


def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.txt: no such file.*looked for .*Kinetics CSVs.*\$VSWIN_DATA"):
        Layout.of(tmp_path)


def test_data_sets_are_found_two_levels_deep(tmp_path: Path) -> None:
    put(
        tmp_path, **{"a__train.txt": "x 0\n", "b__c__val.txt": "x 0\n", "weights__readme": "", ".d__train.txt": "x 0\n"}
    )
    touch(tmp_path, "e/train/run/x.mp4")
    assert data_sets(tmp_path) == ["a", "b/c", "e"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a.mp4 0\nb\0.mp4 1\n", r"train\.txt:2: expected text, got a NUL byte"),
        (b"a.mp4 0\rb.mp4 1\rc.mp4 0\r", r"train\.txt: expected lines that end in a line feed"),
        (b"a.mp4 " + 5000 * b"9" + b"\n", r"train\.txt:1: expected 'path label' with an integer label"),
    ],
    ids=["NUL", "carriage returns", "a huge label"],
)
def test_lists_that_no_program_writes_are_named_errors(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        VideoList.in_folder(tmp_path, split=Split.TRAIN)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a": ' + "9" * 5000 + "}"], ids=["deep", "a huge number"])
def test_json_that_cannot_be_read_is_a_named_error(something: Path, content: str) -> None:
    [labels] = something.rglob("*labels.json")
    labels.write_text(content)
    with pytest.raises(DataError, match=r"labels\.json: expected a list of videos, got JSON that cannot be read"):
        VideoList.in_folder(something, split=Split.TRAIN)
