"""Annotation lists: parsed right, or refused with file and line."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vswin.data.annotations import DataError, Split, VideoList
from vswin.data.formats import list_file


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "train.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "names", "labels"),
    [
        ("a.mp4 0\nb.mp4 1\n", ("a.mp4", "b.mp4"), (0, 1)),
        ("a.mp4 0\nb.mp4 1", ("a.mp4", "b.mp4"), (0, 1)),
        ("a.mp4 0\r\nb.mp4 1\r\n", ("a.mp4", "b.mp4"), (0, 1)),
        ("\ufeffa.mp4 0\n\nb.mp4 1\n\n", ("a.mp4", "b.mp4"), (0, 1)),
        ("riding a bike/a b.mp4 2\n", ("riding a bike/a b.mp4",), (2,)),
        ("a.mp4\t3\n", ("a.mp4",), (3,)),
        ("/videos/a,b.mp4 0\n", ("/videos/a,b.mp4",), (0,)),
        ("Übung\u2028ü.mp4 0\n", ("Übung\u2028ü.mp4",), (0,)),
        ("a.mp4,3\nb c.mp4, 2\n", ("a.mp4", "b c.mp4"), (3, 2)),
        ('"a, ""b"".mp4",3\n"c d.mp4" 2\n', ('a, "b".mp4', "c d.mp4"), (3, 2)),
    ],
    ids=["plain", "no end", "Windows", "mark, empty lines", "blanks", "tab", "absolute", "Unicode", "comma", "quoted"],
)
def test_lists_are_parsed(tmp_path: Path, text: str, names: tuple[str, ...], labels: tuple[int, ...]) -> None:
    videos = VideoList.read(written(tmp_path, text))
    assert (videos.names, videos.labels, len(videos)) == (names, labels, len(names))
    assert videos.path(0) == tmp_path / names[0]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a.mp4 0\nb.mp4\n", 2, "expected 'path label' with an integer label, got 'b.mp4'"),
        ("a.mp4 0\nb c.mp4\n", 2, "expected 'path label' with an integer label, got 'b c.mp4'"),
        ("a.mp4 0.5\n", 1, "expected 'path label' with an integer label"),
        ("a.mp4 0\n7\n", 2, "expected 'path label' with an integer label, got '7'"),
        ("a.mp4 0\nb.mp4 3\n", 2, "expected a label from 0 to 2, got 3"),
        ("a.mp4 -1\n", 1, "expected a label from 0 to 2, got -1"),
        ("a.mp4 0\nb.mp4 1\na.mp4 1\n", 3, "expected every video once, got 'a.mp4' again after line 1"),
    ],
    ids=["no label", "no label, blank", "half a label", "no path", "too high", "negative", "twice"],
)
def test_wrong_rows_are_refused_by_file_and_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(DataError) as refusal:
        VideoList.read(path, classes=("run", "jump", "swim"))
    assert str(refusal.value).startswith(f"{path}:{line}: {message}")


def test_negative_labels_are_refused_without_class_names_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.txt:1: expected a label of at least 0, got -1"):
        VideoList.read(written(tmp_path, "a.mp4 -1\n"))


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.txt: expected rows 'path label', got an empty file"):
        VideoList.read(written(tmp_path, "\n\n"))


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.txt: expected UTF-8 text, got byte 0xff"):
        VideoList.read(written(tmp_path, b"\xff\xfe"))


def test_a_missing_list_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"kinetics400/train\.txt: no such file.*\$VSWIN_DATA"):
        VideoList.of_split(tmp_path, dataset="kinetics400", split=Split.VAL)
    with pytest.raises(DataError, match=r"moving-digits/colour-order/train\.txt: .*: vswin data generate"):
        VideoList.of_split(tmp_path, dataset="moving-digits/colour-order", split=Split.VAL)
    written(tmp_path, "a.mp4 0\n")
    with pytest.raises(DataError, match=r"val\.txt: cannot be opened: there is no val split, only .*train\.txt"):
        VideoList.in_folder(tmp_path, split=Split.VAL)


def test_class_names_lie_beside_the_lists(tmp_path: Path) -> None:
    folder = tmp_path / "sports"
    folder.mkdir()
    written(folder, "a.mp4 1\n")
    assert VideoList.of_split(tmp_path, dataset="sports", split=Split.TRAIN).classes == ()
    (folder / "classes.txt").write_text("run\nhigh jump\n")
    assert VideoList.of_split(tmp_path, dataset="sports", split=Split.TRAIN).classes == ("run", "high jump")


@pytest.mark.parametrize(
    ("text", "message"),
    [("run\n\nswim\n", ":2: .*got an empty line"), ("run\nswim\nrun\n", ":3: .*got 'run' again after line 1")],
)
def test_wrong_class_names_are_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    written(tmp_path, "a.mp4 0\n")
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=r"classes\.txt" + message):
        VideoList.in_folder(tmp_path, split=Split.TRAIN)


def test_the_fingerprint_sees_rows_sizes_and_class_order(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"1234")

    def fingerprint(text: str = "a.mp4 0\nb.mp4 1\n", classes: tuple[str, ...] = ("run", "swim")) -> str:
        return VideoList.read(written(tmp_path, text), classes=classes).fingerprint

    before = fingerprint()
    assert len(before) == 64
    assert fingerprint() == before
    assert fingerprint("a.mp4 0\r\nb.mp4 1\r\n") == before
    assert fingerprint("a.mp4 1\nb.mp4 0\n") != before
    assert fingerprint("b.mp4 1\na.mp4 0\n") != before
    assert fingerprint(classes=("swim", "run")) != before
    (tmp_path / "b.mp4").write_bytes(b"12345")
    assert fingerprint() != before


def test_the_fingerprint_misses_no_missing_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"1234")
    videos = VideoList.read(written(tmp_path, "a.mp4 0\nb.mp4 1\n"))
    with pytest.raises(DataError, match=r"b\.mp4: cannot be opened"):
        _ = videos.fingerprint


def test_letters_composed_in_another_way_are_named(tmp_path: Path) -> None:
    (tmp_path / "Ba\u0308lle.mp4").write_bytes(b"1234")
    videos = VideoList.read(written(tmp_path, "B\u00e4lle.mp4 0\n"))
    with pytest.raises(DataError, match=r"a file whose name looks the same is there, .* other way of Unicode"):
        _ = videos.fingerprint


def test_the_fingerprint_keeps_its_value(tmp_path: Path) -> None:
    """Results are recorded under it: however it is computed, it is the same for the same data."""
    rows = [f"{number:05d}.mp4 {number % 3}\n" for number in range(1500)]
    for number in range(1500):
        (tmp_path / f"{number:05d}.mp4").write_bytes(b"x" * (number % 7))
    videos = VideoList.read(written(tmp_path, "".join(rows)), classes=("run", "swim", "jump"))
    expected = hashlib.sha256(b"run\nswim\njump\n\n")
    for number in range(1500):
        expected.update(f"{number:05d}.mp4\t{number % 3}\t{number % 7}\n".encode())
    assert videos.fingerprint == expected.hexdigest()


def test_of_a_folder_of_frames_the_number_counts(tmp_path: Path) -> None:
    frames = tmp_path / "clip"
    frames.mkdir()
    for number in range(3):
        (frames / f"img_{number:05d}.jpg").write_bytes(b"1")
    (frames / "notes.txt").write_text("")
    assert VideoList.read(written(tmp_path, "clip 0\n")).sizes == (3,)


def test_a_manifest_says_what_was_measured_on(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"1234")
    videos = VideoList.read(written(tmp_path, "a.mp4 0\nb.mp4 1\n"), classes=("run", "swim"))
    assert json.loads(json.dumps(videos.manifest())) == {
        "format": "path label list",
        "source": "train.txt",
        "videos": 2,
        "classes": ["run", "swim"],
        "num_classes": 2,
        "bytes": 8,
        "fingerprint": videos.fingerprint,
    }


# Names that a list can hold: no line end, no blank at either end, no comma at the end, no quote at the start. And none
# that ends like a number of frames, unless it is quoted.
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), min_size=1).filter(
    lambda name: name == name.strip() and name[0] not in '"\ufeff' and name[-1] != ","
)
PLAIN_NAMES = NAMES.filter(lambda name: not re.search(r"[\s,][0-9]+$", name))


@given(
    st.dictionaries(PLAIN_NAMES, st.integers(0, 400), min_size=1),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(" \t,"),
)
def test_whatever_others_write_is_read(rows: dict[str, int], end: str, blank: str) -> None:
    with TemporaryDirectory() as folder:
        text = "".join(f"{name}{blank}{label}{end}" for name, label in rows.items())
        videos = VideoList.read(written(Path(folder), text))
        assert dict(zip(videos.names, videos.labels, strict=True)) == rows


@given(st.dictionaries(NAMES | st.from_regex(r"[a-z]+ [0-9]{1,3}", fullmatch=True), st.integers(0, 400), min_size=1))
def test_whatever_is_written_is_read_back(rows: dict[str, int]) -> None:
    with TemporaryDirectory() as folder:
        list_file.write(Path(folder) / "train.txt", rows=list(rows.items()))
        videos = VideoList.read(Path(folder) / "train.txt")
        assert dict(zip(videos.names, videos.labels, strict=True)) == rows


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with TemporaryDirectory() as folder:
        path = written(Path(folder), text.encode("utf-8", errors="surrogatepass"))
        try:
            videos = VideoList.read(path, classes=("run", "swim"))
        except DataError as error:
            refusal = str(error)
        else:
            refusal = ""
            assert len(videos) > 0
            assert set(videos.labels) <= {0, 1}
        assert refusal == "" or refusal.startswith(str(path))


@pytest.mark.parametrize(
    "rows",
    [
        "frames/v1 8 0\nframes/v2 8 1\n",
        "frames/v1,8,0\nframes/v2,8,1\n",
        "frames/v1\t0\t8\t0\nframes/v2\t0\t8\t1\n",
    ],
)
def test_columns_are_told_by_the_rows(rows: str, tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text(rows)
    gathering = list_file.read(path, classes=())
    assert [(row.name, row.label) for row in gathering.rows.values()] == [("frames/v1", 0), ("frames/v2", 1)]
    # a folder that is called so is no number of frames
    (tmp_path / "frames" / "v1 8").mkdir(parents=True)
    path.write_text("frames/v1 8 0\nframes/v2 8 1\n")
    assert list(list_file.read(path, classes=()).rows) == ["frames/v1 8", "frames/v2 8"]


def test_an_offset_is_refused_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("v1 0 8 0\nv1 8 8 1\n")
    gathering = list_file.read(path, classes=())
    assert list(gathering.rows) == ["v1"]
    assert "train.txt:2: expected a video from its first frame, got offset 8" in gathering.problems[0]


def test_names_that_end_like_a_number_of_frames_are_quoted(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    list_file.write(path, rows=[("walk 1", 0), ('a "walk" 2', 1)])
    assert path.read_text() == '"walk 1" 0\n"a ""walk"" 2" 1\n'
    assert list(list_file.read(path, classes=()).rows) == ["walk 1", 'a "walk" 2']
