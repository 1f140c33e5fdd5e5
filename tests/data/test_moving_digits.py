"""Moving Digits: the same seed gives the same videos, and a half data set never looks complete."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import resource
from collections import Counter
from collections.abc import Callable
from itertools import combinations, groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.command_line import Vswin
from vswin.data import moving_digits
from vswin.data.annotations import DataError, Split, VideoList
from vswin.data.drifting_digit import _RGB, Colour, VideoStyle, _beats, _places, _timeline, render
from vswin.data.moving_digits import (
    GENERATOR_VERSION,
    KINETICS_400,
    MINI_TASKS,
    SOMETHING,
    TINY,
    TINY_TASKS,
    Task,
    generate,
    is_complete,
    paces,
)
from vswin.data.video import probe, read_frames

TASK = Task(name="test", train=18, val=6, test=6)


def decoded(folder: Path) -> str:
    """sha256 of every decoded pixel, in the order of the lists."""
    digest = hashlib.sha256()
    for split in Split:
        videos = VideoList.in_folder(folder, split=split)
        for index in range(len(videos)):
            digest.update(read_frames(videos.path(index), range(probe(videos.path(index)).num_frames)).tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("data"), task=TASK)


def test_it_has_the_layout_of_kinetics_lists(folder: Path) -> None:
    assert folder.parts[-2:] == ("moving-digits", "test")
    train = VideoList.of_split(folder.parents[1], dataset="moving-digits/test", split=Split.TRAIN)
    val = VideoList.of_split(folder.parents[1], dataset="moving-digits/test", split=Split.VAL)
    assert train.classes == val.classes == tuple(each.name for each in TASK.classes)
    assert Counter(train.labels) == dict.fromkeys(range(6), 3)
    assert Counter(val.labels) == dict.fromkeys(range(6), 1)
    info = probe(val.path(0))
    assert (info.num_frames, info.height, info.width) == (TASK.style.frames, TASK.style.side, TASK.style.side)
    manifest = json.loads((folder / "manifest.json").read_text())
    test = VideoList.in_folder(folder, split=Split.TEST)
    assert manifest["fingerprint"] == {"train": train.fingerprint, "val": val.fingerprint, "test": test.fingerprint}


def test_the_same_seed_gives_the_same_pixels_for_any_number_of_processes(folder: Path, tmp_path: Path) -> None:
    written: list[int] = []
    again = generate(tmp_path, task=TASK, workers=2, on_videos=written.append)
    assert sum(written) == sum(TASK.videos.values())
    assert decoded(again) == decoded(folder)
    for name in ("train.txt", "val.txt", "classes.txt", "manifest.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


# sha256 of the frames of the first training video of KINETICS_400 and of SOMETHING, by version of the generator.
RENDERED = {3: "1f1958e883714d9d061e25b32bb5ffd92fe6625ae94644bcee7f0aa2346d1679"}


def test_the_generator_makes_the_videos_of_its_version() -> None:
    digest = hashlib.sha256()
    for task in (KINETICS_400, SOMETHING):
        generator = np.random.default_rng([0, 0, 0])
        shown = task.classes[0]
        glyph = moving_digits._glyphs()[Split.TRAIN].pick(shown.digit, generator=generator)
        frames = render(glyph, shown=shown, style=task.style, generator=generator)
        digest.update(frames.tobytes())
    assert digest.hexdigest() == RENDERED.get(GENERATOR_VERSION), "other videos than before: raise GENERATOR_VERSION"


def test_another_seed_gives_other_pixels(folder: Path, tmp_path: Path) -> None:
    assert decoded(generate(tmp_path, task=TASK, seed=1)) != decoded(folder)


def test_the_second_call_does_nothing(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    written: list[int] = []
    generate(folder.parents[1], task=TASK, on_videos=written.append)
    assert written == []
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def remove_a_video(folder: Path) -> None:
    (folder / "val" / "00003.mp4").unlink()


def cut_a_video(folder: Path) -> None:
    (folder / "val" / "00003.mp4").write_bytes(b"")


def remove_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def spoil_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"generator": ')


def change_a_label(folder: Path) -> None:
    path = folder / "train.txt"
    path.write_text(path.read_text().replace("00000.mp4 0", "00000.mp4 1"))


@pytest.mark.parametrize("damage", [remove_a_video, cut_a_video, remove_manifest, spoil_manifest, change_a_label])
def test_what_is_damaged_is_made_again(tmp_path: Path, folder: Path, damage: Callable[[Path], None]) -> None:
    mine = generate(tmp_path, task=TASK)
    damage(mine)
    assert not is_complete(tmp_path, task=TASK)
    generate(tmp_path, task=TASK)
    assert is_complete(tmp_path, task=TASK)
    assert decoded(mine) == decoded(folder)
    assert [path.name for path in mine.parent.iterdir() if path.is_dir()] == ["test"]


def test_other_parameters_replace_what_is_there(tmp_path: Path) -> None:
    generate(tmp_path, task=TASK)
    fewer = Task(name="test", train=6, val=6, test=6)
    assert not is_complete(tmp_path, task=fewer)
    folder = generate(tmp_path, task=fewer)
    assert len(list(folder.rglob("*.mp4"))) == 18


def test_an_interrupted_generation_shows_nothing_and_is_made_by_the_next(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, task=TASK, on_videos=interrupt)
    assert not (tmp_path / "moving-digits" / "test").exists()
    assert not is_complete(tmp_path, task=TASK)
    assert decoded(generate(tmp_path, task=TASK)) == decoded(folder)


def test_finished_videos_survive_an_interruption_and_nothing_else_does(tmp_path: Path, folder: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    part = tmp_path / "moving-digits" / ".test.part"
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, task=TASK, on_videos=interrupt)
    kept = {path: path.stat().st_ino for path in part.rglob("*.mp4")}
    assert len(kept) == 16
    (part / "train" / ".77-00017.mp4").write_bytes(b"half a video")
    made = generate(tmp_path, task=TASK)
    assert {made / path.relative_to(part): number for path, number in kept.items()}.items() <= {
        path: path.stat().st_ino for path in made.rglob("*.mp4")
    }.items()
    assert decoded(made) == decoded(folder)
    assert {path.name for path in made.iterdir()} == {path.name for path in folder.iterdir()}
    assert len(list(made.rglob("*.mp4"))) == sum(TASK.videos.values())


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"task": Task(name="test", train=18, val=6, test=6, style=VideoStyle(noise=0.0))}]
)
def test_videos_of_other_parameters_are_not_kept(tmp_path: Path, folder: Path, other: dict[str, Any]) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, **{"task": TASK, **other}, on_videos=interrupt)
    assert decoded(generate(tmp_path, task=TASK)) == decoded(folder)


@pytest.mark.slow
def test_killed_generations_end_with_the_same_data_set(tmp_path: Path, folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    part = tmp_path / "moving-digits" / ".test.part"
    for wanted in (1, 5):
        process = context.Process(target=_generate, args=(tmp_path,))
        process.start()
        while process.is_alive() and len(list(part.glob("*/[!.]*.mp4"))) < wanted:
            pass
        process.kill()
        process.join()
    assert decoded(generate(tmp_path, task=TASK)) == decoded(folder)


def test_sizes_scale_and_the_usual_ones_stay() -> None:
    assert VideoStyle.scaled(side=24, frames=16) == VideoStyle()
    style = VideoStyle.scaled(side=48, frames=32)
    assert (style.frames, style.digit, style.hop) == (32, 32, 3.0)
    for side, frames, message in ((25, 18, "even side"), (14, 18, "at least 16"), (24, 5, "at least 8 frames")):
        with pytest.raises(ValueError, match=message):
            VideoStyle.scaled(side=side, frames=frames)


@pytest.mark.slow
def test_the_command_makes_any_size(vswin: Vswin, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWIN_DATA", str(home / "data"))
    sizes = ("--train", "12", "--val", "6", "--size", "32", "--frames", "10")
    vswin("data", "generate", "--name", "own", *sizes)
    videos = VideoList.of_split(home / "data", dataset="moving-digits/own", split=Split.TRAIN)
    info = probe(videos.path(11))
    assert (len(videos), info.num_frames, info.height, info.width) == (12, 10, 32, 32)
    for wrong in (sizes, ("--name", "tiny"), ("--name", "../x"), ("--name", "own", "--size", "33"), ("--seed", "1")):
        assert "expected" in vswin("data", "generate", *wrong, code=2).stderr


def _generate(data: Path) -> None:
    generate(data, task=TASK)


def test_a_full_disk_is_named_with_the_file(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2500, limits[1]))
    try:
        for workers in (1, 2):
            with pytest.raises(DataError, match=r"00000\.mp4: cannot be written \(File too large\); make room"):
                generate(tmp_path, task=Task(name="full", train=6, val=6, test=6), workers=workers)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_two_at_once_end_with_one_complete_data_set(tmp_path: Path, folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_generate, args=(tmp_path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(timeout=60)
    assert [process.exitcode for process in both] == [0, 0]
    assert is_complete(tmp_path, task=TASK)
    assert decoded(tmp_path / "moving-digits" / "test") == decoded(folder)


def test_no_two_splits_share_a_handwritten_digit() -> None:
    glyphs = moving_digits._glyphs()
    images = {split: {image.tobytes() for image in glyphs[split].images} for split in Split}
    assert len(images[Split.TRAIN]) > 800
    for one, other in combinations(Split, 2):
        assert not images[one] & images[other]
    for split in Split:
        assert set(glyphs[split].digits) == set(range(10))


VIDEO_TASKS = [task for task in (*MINI_TASKS, *TINY_TASKS) if task.style.frames > 1]


@pytest.mark.parametrize("task", VIDEO_TASKS, ids=lambda task: task.name)
def test_only_the_order_of_beats_tells_a_class(task: Task) -> None:
    """Whatever the class, half of the beats are in one colour and half in another, of every pair it may have alike."""
    for digit, colours in {(shown.digit, frozenset(shown.colours)) for shown in task.classes}:
        counts = []
        for shown in (each for each in task.classes if (each.digit, frozenset(each.colours)) == (digit, colours)):
            generator = np.random.default_rng(0)
            videos = [_beats(shown, beats=task.style.beats, generator=generator) for _ in range(300)]
            least, most = shown.changes
            assert {int((beats[1:] != beats[:-1]).sum()) for beats in videos} == set(range(least, most + 1))
            counts.append(Counter(tuple(np.bincount(beats, minlength=3).tolist()) for beats in videos))
        assert len(counts) == 2
        pairs = {tuple(4 * (colour in pair) for colour in range(3)) for pair in combinations(sorted(colours), 2)}
        for count in counts:
            assert set(count) == pairs
            # four standard deviations of a third of 300
            assert all(abs(number - 300 / len(pairs)) < 4 * (300 * 2 / 9) ** 0.5 for number in count.values())


def test_colours_come_in_the_order_that_names_the_class() -> None:
    generator = np.random.default_rng(0)
    for shown in SOMETHING.classes:
        for _ in range(50):
            seen = [Colour(int(beat)).name.lower() for beat, _ in groupby(_beats(shown, beats=8, generator=generator))]
            assert "-then-".join(seen) == shown.name


def test_rests_are_neutral_and_between_beats() -> None:
    beats = np.array([Colour.RED, Colour.GREEN, Colour.BLUE])
    rest = [Colour.NEUTRAL]
    seen = _timeline(beats, style=VideoStyle(frames=10, beats=3, rests=True)).tolist()
    assert seen == [*rest, *[Colour.RED] * 2, *rest, *[Colour.GREEN] * 2, *rest, *[Colour.BLUE] * 2, *rest]


def test_frames_could_come_in_any_order() -> None:
    """Where the digit is in a frame says nothing of where it is in the next but what its place says."""
    style = VideoStyle()
    paths = np.stack([_places(style=style, generator=np.random.default_rng(seed)) for seed in range(4000)])
    assert paths.min() >= 0
    assert paths.max() <= style.side - style.digit
    hops = paths - paths.mean(axis=1, keepdims=True)
    # the mean is of these frames, too, so all pairs have the same small negative correlation
    later = [np.mean(hops[:, :-lag] * hops[:, lag:]) / np.mean(hops**2) for lag in (1, 2, 9)]
    assert np.ptp(later) < 0.02


def test_a_digit_shows_its_colours() -> None:
    style = VideoStyle(noise=0.0, texture=0.0, saturation=(1.0, 1.0))
    for shown in paces((1, 1), (2, 3), (4, 7)):
        frames = render(np.ones((8, 8)), shown=shown, style=style, generator=np.random.default_rng(0))
        assert frames.dtype == np.uint8
        assert frames.shape == (style.frames, style.side, style.side, 3)
        brightest = frames.reshape(style.frames, -1, 3).max(axis=1) / 255
        seen = [int(np.abs(_RGB - rgb).sum(axis=1).argmin()) for rgb in brightest]
        assert len(set(seen)) == 2
        assert Colour.NEUTRAL not in seen
        least, most = shown.changes
        assert least <= sum(one != other for one, other in pairwise(seen)) <= most


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 8 frames, one for every beat, got 7"):
        VideoStyle(frames=7)
    for frames in (9, 16, 32):
        with pytest.raises(ValueError, match=f"beats of equal length of at least 2 and one frame more, got {frames}"):
            VideoStyle(frames=frames, rests=True)


def test_tiny_is_tiny(tmp_path: Path) -> None:
    folder = generate(tmp_path, task=TINY)
    assert sum(path.stat().st_size for path in folder.rglob("*.mp4")) < 1_000_000
