"""A prepared data set has the same videos, smaller, whenever and however often its making was interrupted."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.command_line import Vswin, vswin_command
from vswin.data.annotations import DataError, Split, VideoList
from vswin.data.decoding.orientation import Orientation
from vswin.data.drifting_digit import VideoStyle
from vswin.data.moving_digits import Task, generate
from vswin.data.upkeep.prepare import Prepared, prepare
from vswin.data.upkeep.reencode import reencode
from vswin.data.video import probe, read_frames


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a data set to prepare."""
    data = tmp_path_factory.mktemp("source")
    generate(data, task=Task(name="large", train=12, val=6, test=6, style=VideoStyle.scaled(side=64, frames=18)))
    return data


def videos_of(folder: Path) -> dict[Split, VideoList]:
    return {split: VideoList.in_folder(folder, split=split) for split in Split if (folder / f"{split}.txt").exists()}


def prepared(source: Path, data: Path, *, short_side: int = 32) -> Prepared:
    return prepare(
        videos_of(source / "moving-digits" / "large"), data=data, name="small", short_side=short_side, workers=2
    )


def content(folder: Path) -> dict[str, str]:
    """sha256 of every file of a data set; the journal is in the order in which files happened to be done."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "done.jsonl")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="session")
def small(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(source, tmp_path_factory.mktemp("prepared")).folder


def test_it_has_the_same_rows_and_smaller_videos(source: Path, small: Path) -> None:
    before, after = videos_of(source / "moving-digits" / "large"), videos_of(small)
    for split in Split:
        assert after[split].names == before[split].names
        assert after[split].labels == before[split].labels
        assert after[split].classes == before[split].classes
        for index in range(len(after[split])):
            info = probe(after[split].path(index))
            assert (info.num_frames, info.height, info.width, info.frame_rate) == (18, 32, 32, 8)
    assert {path.name for path in small.iterdir()} == {
        "train", "val", "test", "train.txt", "val.txt", "test.txt", "classes.txt", "manifest.json", "done.jsonl",
    }  # fmt: skip


def test_the_second_call_encodes_nothing(source: Path, small: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*.mp4")}
    again = prepared(source, small.parent)
    assert (again.new, again.videos, again.broken) == (0, {Split.TRAIN: 12, Split.VAL: 6, Split.TEST: 6}, ())
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*.mp4")} == before


def test_other_parameters_are_refused(source: Path, small: Path) -> None:
    with pytest.raises(
        DataError, match=r"expected a data set prepared with these parameters, got others \(short_side\)"
    ):
        prepared(source, small.parent, short_side=34)
    with pytest.raises(DataError, match="even and at least 16 pixels, got 33"):
        prepared(source, small.parent, short_side=33)


def test_a_folder_that_is_something_else_is_left_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "thesis.tex").write_text("done")
    with pytest.raises(DataError, match="choose another name"):
        prepared(source, tmp_path)
    assert [path.name for path in (tmp_path / "small").iterdir()] == ["thesis.tex"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_stopped_again_and_again_it_gives_the_same_data_set(
    source: Path, small: Path, tmp_path: Path, number: signal.Signals
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "large").symlink_to(source / "moving-digits" / "large")
    environment = {**os.environ, "VSWIN_DATA": str(data)}
    arguments = vswin_command("data", "prepare", "large", "--to", "small", "--short-side", "32")
    journal = data / ".small.part" / "done.jsonl"
    for wanted in (1, 7):
        with subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as it:
            while it.poll() is None and (not journal.exists() or journal.read_text().count("\n") < wanted):
                time.sleep(0.01)
            it.send_signal(number)
        assert not (data / "small").exists()
    subprocess.run(arguments, env=environment, check=True, stdout=subprocess.DEVNULL)
    found, expected = content(data / "small"), content(small)
    # The manifest names where the videos came from.
    assert found.pop("manifest.json") != expected.pop("manifest.json")
    assert found == expected


def test_a_journal_cut_off_in_the_middle_costs_one_video(source: Path, small: Path, tmp_path: Path) -> None:
    folder = prepared(source, tmp_path).folder
    journal = folder / "done.jsonl"
    journal.write_text(journal.read_text()[:-20])
    again = prepared(source, tmp_path)
    assert again.new == 1
    assert content(folder) == content(small)
    assert prepared(source, tmp_path).new == 0


def test_a_line_of_the_journal_lost_with_the_power_costs_one_video(source: Path, small: Path, tmp_path: Path) -> None:
    folder = prepared(source, tmp_path).folder
    journal = folder / "done.jsonl"
    first, rest = journal.read_text().split("\n", 1)
    journal.write_text("\0" * len(first) + "\n" + rest)
    assert prepared(source, tmp_path).new == 1
    assert content(folder) == content(small)


def test_a_target_that_cannot_be_written_is_not_blamed_on_the_video(source: Path, tmp_path: Path) -> None:
    video = source / "moving-digits" / "large" / "train" / "00000.mp4"
    with pytest.raises(DataError, match=r"small\.mp4: cannot be written \(No such file"):
        reencode(video, tmp_path / "nowhere" / "small.mp4", short_side=32)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(DataError, match=r"small\.mp4: cannot be written \(File too large"):
            reencode(video, tmp_path / "small.mp4", short_side=32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_files_that_were_damaged_or_changed_are_made_again(source: Path, small: Path, tmp_path: Path) -> None:
    folder = prepared(source, tmp_path).folder
    (folder / "train" / "00003.mp4").write_bytes(b"")
    (folder / "val" / "00003.mp4").unlink()
    assert prepared(source, tmp_path).new == 2
    assert content(folder) == content(small)


def test_broken_videos_are_named_left_out_and_added_when_they_are_whole(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "source")
    victim = tmp_path / "source" / "moving-digits" / "large" / "train" / "00005.mp4"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:1000])
    done = prepared(tmp_path / "source", tmp_path)
    [broken] = done.broken
    assert (broken.split, broken.source) == (Split.TRAIN, victim)
    assert done.videos == {Split.TRAIN: 11, Split.VAL: 6, Split.TEST: 6}
    assert "train/00005.mp4" not in (done.folder / "train.txt").read_text()
    assert str(victim) in (done.folder / "broken.txt").read_text()
    assert not list(done.folder.rglob(".*.part"))
    victim.write_bytes(whole)
    again = prepared(tmp_path / "source", tmp_path)
    assert (again.new, again.videos[Split.TRAIN], again.broken) == (1, 12, ())
    assert not (done.folder / "broken.txt").exists()


def test_names_from_anywhere_find_places_of_their_own(source: Path, tmp_path: Path) -> None:
    large = source / "moving-digits" / "large" / "train"
    folder = tmp_path / "mixed"
    (folder / "run" / "a").mkdir(parents=True)
    for name in ("run/1.mp4", "run/1.mkv", "run/a/x.y.webm"):
        with av.open(str(large / "00000.mp4")) as read, av.open(str(folder / name), "w", format="matroska") as write:
            stream = write.add_stream_from_template(read.streams.video[0])
            for packet in read.demux(read.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    write.mux(packet)
    (folder / "train.txt").write_text("run/1.mp4 0\nrun/1.mkv 0\nrun/a/x.y.webm 0\n")
    (folder / "val.txt").write_text(f"{large / '00001.mp4'} 0\n{large.parent / 'val' / '00001.mp4'} 1\n")
    done = prepare(videos_of(folder), data=tmp_path, name="small", short_side=16, workers=1)
    after = videos_of(done.folder)
    assert after[Split.TRAIN].names == ("train/run/1.mp4.mp4", "train/run/1.mkv.mp4", "train/run/a/x.y.mp4")
    assert after[Split.VAL].names == ("val/train/00001.mp4", "val/val/00001.mp4")


def film(path: Path, times: list[int], *, width: int, height: int, pix_fmt: str = "yuv420p") -> None:
    """A video of a smooth moving gradient with frames at ``times``, in milliseconds, and a sound track."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=16000)
        rows, columns = np.mgrid[:height, :width]
        for number, pts in enumerate(times):
            levels = 60 + 1.5 * rows + 1.0 * columns + 5 * number
            pixels = np.stack([levels, levels[::-1], np.full_like(levels, 128)], axis=-1).clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), dtype=np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        silence.pts = 0
        container.mux(sound.encode(silence))
        container.mux(sound.encode())


def shown(path: Path) -> list[Fraction]:
    """When each frame is shown, in seconds after the first."""
    with av.open(str(path)) as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    return [time - times[0] for time in times]


def test_frames_keep_their_number_and_times_and_pictures(tmp_path: Path) -> None:
    times = [0, 40, 80, 200, 233, 300, 333, 400, 1000, 1040]
    film(tmp_path / "a.mkv", times, width=51, height=39, pix_fmt="yuv444p")
    encoded = reencode(tmp_path / "a.mkv", tmp_path / "b.mp4", short_side=64)
    assert (encoded.num_frames, encoded.height, encoded.width) == (10, 64, 84)
    assert shown(tmp_path / "b.mp4") == shown(tmp_path / "a.mkv") == [Fraction(time, 1000) for time in times]
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    before, after = (read_frames(tmp_path / name, range(10)) for name in ("a.mkv", "b.mp4"))
    small = np.stack(
        [
            av.VideoFrame.from_ndarray(frame, format="rgb24")
            .reformat(84, 64, "rgb24", interpolation="BICUBIC")
            .to_ndarray()
            for frame in before
        ]
    )
    # A frame more or less would differ by 5 levels, limited range taken for full by 16.
    assert np.abs(small.astype(float) - after).mean() < 1.5


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (0, 1, 1, 0)])
def test_phone_videos_are_written_upright(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    a, b, c, d = (number << 16 for number in matrix)
    film(tmp_path / "a.mp4", [0, 40, 80], width=96, height=64)
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    # The display matrix of the first track (ISO/IEC 14496-12, 8.3.2) stands 44 bytes behind the name of its box.
    place = content.index(b"tkhd") + 44
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(content)
    reencode(tmp_path / "a.mp4", tmp_path / "b.mp4", short_side=64)
    before, after = (read_frames(tmp_path / name, range(3)) for name in ("a.mp4", "b.mp4"))
    assert after.shape == before.shape == ((3, 96, 64, 3) if matrix[0] == 0 else (3, 64, 96, 3))
    assert np.abs(before.astype(float) - after).mean() < 1.5
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert all(Orientation.of(frame) == Orientation() for frame in container.decode(video=0))


def test_the_same_video_gives_the_same_bytes(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv", list(range(0, 2000, 40)), width=96, height=64)
    for name in ("b.mp4", "c.mp4"):
        reencode(tmp_path / "a.mkv", tmp_path / name, short_side=32)
    assert (tmp_path / "b.mp4").read_bytes() == (tmp_path / "c.mp4").read_bytes()


@pytest.mark.slow
def test_the_command_tells_people_and_scripts(
    source: Path, vswin: Vswin, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = home / "data"
    shutil.copytree(source / "moving-digits" / "large", data / "large")
    monkeypatch.setenv("VSWIN_DATA", str(data))
    (data / "large" / "val" / "00002.mp4").write_bytes(b"no video")
    text = vswin("data", "prepare", "large", "--to", "small", "--short-side", "32", code=1).stdout
    assert "small: 12 train + 5 val + 6 test videos, 23 of them new" in text
    assert "val/00002.mp4: cannot be decoded" in text
    answer = vswin("data", "prepare", "large", "--to", "small", "--short-side", "32", "--json", code=1)
    assert (content := json.loads(answer.stdout))["new"] == 0
    assert [item["split"] for item in content["broken"]] == ["val"]
    for wrong, hint in (("large", "another data set"), ("../x", "another data set"), ("small", "even")):
        odd = "33" if hint == "even" else "32"
        assert hint in vswin("data", "prepare", "large", "--to", wrong, "--short-side", odd, code=2).stderr
    assert "did you mean 'large'" in vswin("data", "prepare", "lagre", "--to", "x", code=2).stderr
