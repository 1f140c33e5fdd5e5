"""A check finds what is wrong with a data set, says so to people and scripts, and writes lists of the rest."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.command_line import Vswin, vswin_command
from vswin.data.annotations import DataError, Split, VideoList
from vswin.data.encoding import write_video
from vswin.data.formats.layout import Layout
from vswin.data.upkeep.check import Kind, Report, check
from vswin.data.upkeep.check_lists import write_good


def video(path: Path, *, seed: int, frames: int = 12) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    pixels: NDArray[np.uint8] = generator.integers(256, size=(frames, 32, 48, 3), dtype=np.uint8)
    write_video(path, pixels, frame_rate=8)


# what Kinetics has: its test split is published without labels
SPLITS = (Split.TRAIN, Split.VAL)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of class folders without a flaw: four classes, three videos each."""
    folder = tmp_path_factory.mktemp("whole") / "data" / "sports"
    for label, name in enumerate(("dive", "high_jump", "run", "swim")):
        for number in range(2):
            video(folder / "train" / name / f"{number}.mp4", seed=10 * label + number)
        video(folder / "val" / name / "9.mp4", seed=10 * label + 9)
    return folder


@pytest.fixture
def sports(whole: Path, tmp_path: Path) -> Path:
    """A copy of ``whole`` with lists, to be damaged."""
    folder = tmp_path / "data" / "sports"
    shutil.copytree(whole, folder)
    for split in SPLITS:
        videos = VideoList.in_folder(whole, split=split)
        rows = zip(videos.names, videos.labels, strict=True)
        (folder / f"{split}.txt").write_text("".join(f"{name} {label}\n" for name, label in rows))
    (folder / "classes.txt").write_text("dive\nhigh jump\nrun\nswim\n")
    return folder


def checked(folder: Path, *, min_frames: int = 1) -> Report:
    layout = Layout.of(folder)
    return check({split: layout.read(split) for split in SPLITS}, workers=2, min_frames=min_frames)


def found(report: Report) -> Mapping[Kind, list[str]]:
    by: dict[Kind, list[str]] = {}
    for finding in report.findings:
        by.setdefault(finding.kind, []).append(finding.name)
    return by


def test_a_whole_data_set_is_good(whole: Path) -> None:
    report = checked(whole)
    assert report.is_good
    assert report.findings == ()
    assert report.frames == 12 * 12
    assert report.bytes == sum(path.stat().st_size for path in whole.rglob("*.mp4"))


def test_every_kind_of_damage_is_found_and_nothing_else(sports: Path) -> None:
    train = sports / "train"
    (train / "dive" / "0.mp4").unlink()
    (train / "dive" / "1.mp4").write_bytes(b"")
    (train / "high_jump" / "0.mp4").write_text("<html>429 Too Many Requests</html>")
    cut = (train / "high_jump" / "1.mp4").read_bytes()
    (train / "high_jump" / "1.mp4").write_bytes(cut[: len(cut) // 2])
    shutil.copy(train / "run" / "0.mp4", train / "run" / "1.mp4")
    shutil.copy(sports / "val" / "swim" / "9.mp4", train / "swim" / "0.mp4")
    (train / "odd" / "frames").mkdir(parents=True)
    with (sports / "train.txt").open("a") as file:
        file.write("train/odd/frames 0\ntrain/run/2.mp4 4\nnothing\n")
    rows = (sports / "val.txt").read_text()
    (sports / "val.txt").write_text(rows.replace("val/run/9.mp4 2", "val/run/9.mp4 3"))
    report = checked(sports)
    assert not report.is_good
    assert found(report) == {
        Kind.ROW: ["", ""],
        Kind.MISSING: ["train/dive/0.mp4"],
        Kind.UNREADABLE: ["train/dive/1.mp4", "train/high_jump/0.mp4", "train/high_jump/1.mp4", "train/odd/frames"],
        Kind.LABEL: ["val/run/9.mp4"],
        Kind.DUPLICATE: ["train/run/1.mp4"],
        Kind.LEAK: ["train/swim/0.mp4"],
    }
    details = {finding.kind: finding.detail for finding in report.findings}
    assert details[Kind.LABEL] == "listed as 'swim', its folder says 'run'"
    assert details[Kind.DUPLICATE] == "the same content as train/run/0.mp4 of train"
    assert "train.txt:11: expected 'path label'" in details[Kind.ROW]
    good = [report.videos[Split.TRAIN].names[index] for index in report.good(Split.TRAIN)]
    assert good == ["train/run/0.mp4", "train/swim/1.mp4"]


def test_a_video_shorter_than_its_header_says_is_found(sports: Path) -> None:
    # The index first, as in files made for the web: a copy that was cut off opens all the same.
    path = sports / "train" / "run" / "0.mp4"
    content = _index_first(path)
    path.write_bytes(content[: len(content) * 2 // 3])
    report = checked(sports)
    assert found(report) == {Kind.CUT_OFF: ["train/run/0.mp4"]}
    assert report.findings[0].detail.endswith(" frames of 12")


def _index_first(path: Path) -> bytes:
    target = path.with_suffix(".web.mp4")
    with av.open(str(path)) as source, av.open(str(target), "w", options={"movflags": "faststart"}) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    content = target.read_bytes()
    target.unlink()
    return content


def test_labels_are_compared_with_folders_without_class_names_too(sports: Path) -> None:
    (sports / "classes.txt").unlink()
    with (sports / "train.txt").open("a") as file:
        file.write("train/run/2.mp4 3\n")
    video(sports / "train" / "run" / "2.mp4", seed=99)
    assert found(checked(sports)) == {Kind.LABEL: ["train/run/2.mp4"]}


def test_links_to_one_file_are_duplicates(sports: Path) -> None:
    (sports / "train" / "run" / "1.mp4").unlink()
    (sports / "train" / "run" / "1.mp4").symlink_to("0.mp4")
    assert found(checked(sports)) == {Kind.DUPLICATE: ["train/run/1.mp4"]}


def test_two_clips_of_one_youtube_video_are_a_leak_between_splits_only(tmp_path: Path) -> None:
    video(tmp_path / "train" / "run" / "abcdefghijk_000000_000010.mp4", seed=0)
    video(tmp_path / "train" / "run" / "-bcdefghij__000000_000010.mp4", seed=1)
    video(tmp_path / "train" / "run" / "-bcdefghij__000020_000030.mp4", seed=2)
    video(tmp_path / "val" / "run" / "abcdefghijk_000007_000017.mp4", seed=3)
    report = checked(tmp_path)
    assert found(report) == {
        Kind.LEAK: ["train/run/abcdefghijk_000000_000010.mp4"],
        Kind.SAME_SOURCE: ["train/run/-bcdefghij__000020_000030.mp4"],
    }


def test_short_videos_are_a_note_and_no_error(whole: Path) -> None:
    report = checked(whole, min_frames=13)
    assert report.counts() == {Kind.SHORT: 12}
    assert report.is_good
    assert report.findings[0].detail == "12 frames of 13"


def test_lists_of_the_good_rows_make_a_data_set_without_a_flaw(sports: Path) -> None:
    (sports / "train" / "dive" / "0.mp4").unlink()
    report = checked(sports)
    there, beside = sports / "lists", sports.parent / "good"
    for folder in (there, beside):
        write_good(report, folder)
        again = checked(folder)
        assert again.is_good
        assert len(again.videos[Split.TRAIN]) == 7
        assert again.videos[Split.TRAIN].classes == report.videos[Split.TRAIN].classes
    (sports / "train.txt").unlink()
    write_good(report, sports)
    assert (sports / "train.txt").read_text().startswith("train/dive/1.mp4 0\n")


@pytest.mark.slow
def test_the_command_tells_people_and_scripts(sports: Path, vswin: Vswin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWIN_DATA", str(sports.parent))
    assert "nothing is wrong" in vswin("data", "check", "sports").stdout
    (sports / "train" / "dive" / "0.mp4").unlink()
    text = vswin("data", "check", "sports", "--split", "train", code=1).stdout
    assert "1  missing" in text
    assert "train/dive/0.mp4" in text
    assert "1 thing is wrong" in text
    report = sports / "report.json"
    answer = vswin("data", "check", "sports", "--json", "--report", str(report), code=1)
    assert json.loads(answer.stdout) == json.loads(report.read_text())
    content = json.loads(answer.stdout)
    assert (content["good"], content["counts"]["missing"], content["good_videos"]) == (False, 1, {"train": 7, "val": 4})
    vswin("data", "check", "sports", "--write-lists", str(sports.parent / "good"), code=1)
    vswin("data", "check", "good")


def test_other_class_names_are_not_written_over(
    sports: Path, vswin: Vswin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSWIN_DATA", str(sports.parent))
    other = tmp_path / "other"
    other.mkdir()
    (other / "classes.txt").write_text("jump\nrun\n")
    answer = vswin("data", "check", "sports", "--write-lists", str(other), code=2)
    assert "classes.txt is there already" in answer.stderr
    (other / "classes.txt").unlink()
    vswin("data", "check", "sports", "--write-lists", str(other))
    (other / "train.txt").unlink()
    (other / "val.txt").unlink()
    # the same names may stay
    vswin("data", "check", "sports", "--write-lists", str(other))


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["sprots"], "did you mean 'sports'"),
        (["sports", "--split", "half"], "expected --split train, val or test, got 'half'"),
        (["sports", "--write-lists", "."], "is not written over"),
        (["sports", "--report", "nowhere/report.json"], "expected --report FILE in a folder that exists"),
    ],
)
def test_wrong_use_is_exit_code_2(
    sports: Path, vswin: Vswin, monkeypatch: pytest.MonkeyPatch, arguments: list[str], hint: str
) -> None:
    monkeypatch.setenv("VSWIN_DATA", str(sports.parent))
    arguments = [str(sports) if argument == "." else argument for argument in arguments]
    assert hint in vswin("data", "check", *arguments, code=2).stderr


def test_ctrl_c_leaves_no_process_behind(sports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWIN_DATA", str(sports.parent))
    rows = []
    for number in range(400):
        (sports / "train" / f"{number}.mp4").symlink_to(sports / "train" / "run" / "0.mp4")
        rows.append(f"train/{number}.mp4 2\n")
    (sports / "train.txt").write_text("".join(rows))
    command = vswin_command("data", "check", "sports", "--workers", "2")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as it:
        assert it.stdout is not None
        assert it.stdout.readline().startswith("check sports: 1 of 404")
        assert len(session(it.pid)) >= 3
        it.send_signal(signal.SIGINT)
        _, errors = it.communicate(timeout=60)
    assert (it.returncode, errors) == (1, "vswin: stopped; nothing was written\n")
    deadline = time.monotonic() + 20
    while session(it.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert session(it.pid) == []


def session(leader: int) -> list[int]:
    """Processes of the session that ``leader`` began."""
    members = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            members.append(int(path.parent.name))
    return members


def test_rows_that_no_list_can_hold_are_refused(tmp_path: Path) -> None:
    video(tmp_path / "train" / "run" / "a\nb.mp4", seed=0)
    video(tmp_path / "val" / "run" / "c.mp4", seed=1)
    report = checked(tmp_path)
    with pytest.raises(DataError, match="rename the file"):
        write_good(report, tmp_path / "lists")


def test_a_file_that_vanishes_or_that_the_system_refuses_does_not_end_a_check(sports: Path) -> None:
    train = sports / "train"
    shutil.copy(train / "run" / "0.mp4", train / "run" / "1.mp4")
    long = "x" * 300
    with (sports / "train.txt").open("a") as file:
        file.write(f"{long} 0\ntrain/run/0.mp4/more 0\n")
    layout = Layout.of(sports)
    listings = {split: layout.read(split) for split in SPLITS}
    left = sum(len(listing.rows) for listing in listings.values())

    def vanish_in_the_end(videos: int) -> None:
        nonlocal left
        left -= videos
        if not left:
            (train / "run" / "1.mp4").unlink()

    report = check(listings, workers=1, min_frames=1, on_videos=vanish_in_the_end)
    assert found(report) == {Kind.UNREADABLE: [long], Kind.MISSING: ["train/run/0.mp4/more"]}


def test_names_that_are_not_utf_8_are_read_and_fingerprinted_and_refused_in_lists(tmp_path: Path) -> None:
    name = os.fsdecode(b"M\xfcller.mp4")
    video(tmp_path / "train" / "run" / name, seed=0)
    video(tmp_path / "val" / "run" / "c.mp4", seed=1)
    assert VideoList.in_folder(tmp_path, split=Split.TRAIN).fingerprint
    with pytest.raises(DataError, match="rename the file"):
        write_good(checked(tmp_path), tmp_path / "lists")
