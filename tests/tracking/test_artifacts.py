"""Files that a tracking server shows: those below one folder, never through a link."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest

from experiments.tracking.artifacts import ArtifactEntry, Artifacts, OutsideError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "key").write_text("secret")
    run = tmp_path / "root" / "1" / "run" / "artifacts"
    run.mkdir(parents=True)
    (run / "note.md").write_text("a note")
    (run / "tests").mkdir()
    return tmp_path / "root"


RUN = PurePosixPath("1/run/artifacts")


def read(root: Path, path: str) -> bytes:
    with Artifacts(root).open(PurePosixPath(path)) as file:
        return file.read()


def write(root: Path, path: str, content: bytes) -> None:
    with Artifacts(root).replace(PurePosixPath(path)) as file:
        file.write(content)


def test_a_file_is_read_listed_and_replaced(root: Path) -> None:
    assert read(root, "1/run/artifacts/note.md") == b"a note"
    write(root, "1/run/artifacts/tests/new/picture.png", b"a picture")
    assert read(root, "1/run/artifacts/tests/new/picture.png") == b"a picture"
    write(root, "1/run/artifacts/note.md", b"another")
    assert read(root, "1/run/artifacts/note.md") == b"another"
    assert Artifacts(root).entries(RUN) == [ArtifactEntry("note.md", 7), ArtifactEntry("tests", None)]
    assert Artifacts(root).entries(RUN / "none") == []
    assert (root / "1/run/artifacts/tests/new/picture.png").stat().st_mode & 0o777 == 0o600


def test_what_breaks_off_leaves_the_file_as_it_was(root: Path) -> None:
    def write_half() -> None:
        with Artifacts(root).replace(RUN / "note.md") as file:
            file.write(b"half")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        write_half()
    assert [path.name for path in sorted((root / RUN).iterdir())] == ["note.md", "tests"]
    assert read(root, "1/run/artifacts/note.md") == b"a note"


@pytest.mark.parametrize(
    "uri",
    ["mlflow-artifacts:/1/run/artifacts", "file://{root}/1/run/artifacts", "{root}/1/run/artifacts"],
)
def test_a_run_lies_below_the_root(root: Path, uri: str) -> None:
    artifacts = Artifacts(root)
    assert artifacts.within(uri.format(root=root), "tests/a b.png") == RUN / "tests" / "a b.png"
    for path in ("..", "tests/../../x", "./note.md", "tests\\x", "tests/\0", "tests/\n"):
        with pytest.raises(OutsideError, match="may not be part of a path"):
            artifacts.within(uri.format(root=root), path)


@pytest.mark.parametrize(
    "uri",
    [
        "/etc",
        "file:///etc",
        "{root}-2/1",
        "file://{root}/../outside",
        "file://{root}/%2e%2e/outside",
        "{root}/1/../../outside",
        "mlflow-artifacts:/../outside",
        "mlflow-artifacts:/1/%2e%2e/%2e%2e/outside/..",
        "mlflow-artifacts://elsewhere/1",
        "file://elsewhere{root}/1",
        "http://elsewhere/1",
        "s3://bucket/1",
        "relative/1",
    ],
)
def test_a_run_that_lies_elsewhere_is_refused(root: Path, uri: str) -> None:
    with pytest.raises((OutsideError, FileNotFoundError)):
        Artifacts(root).open(Artifacts(root).within(uri.format(root=root), "key"))


def test_links_are_not_followed(root: Path) -> None:
    outside, run = root.parent / "outside", root / RUN
    (run / "key").symlink_to(outside / "key")
    (run / "folder").symlink_to(outside)
    (root / "2").symlink_to(outside)
    for path in (f"{RUN}/key", f"{RUN}/folder/key", "2/key", f"{RUN}/folder/new"):
        with pytest.raises(OutsideError, match="a link is on the way"):
            read(root, path)
    for path in (f"{RUN}/folder/new", "2/new", "2/new/deep"):
        with pytest.raises(OutsideError, match="a link is on the way"):
            write(root, path, b"intruder")
    # in the place of the link, not through it
    write(root, f"{RUN}/key", b"new")
    assert (outside / "key").read_text() == "secret"
    assert [path.name for path in outside.iterdir()] == ["key"]
    for folder in (RUN / "folder", PurePosixPath("2")):
        with pytest.raises(OutsideError):
            Artifacts(root).entries(folder)
    assert [entry.name for entry in Artifacts(root).entries(RUN)] == ["key", "note.md", "tests"]


def test_only_plain_files_are_read(root: Path) -> None:
    os.mkfifo(root / RUN / "pipe")
    for name in ("pipe", "tests", "note.md/x"):
        with pytest.raises(OutsideError):
            read(root, f"{RUN}/{name}")
