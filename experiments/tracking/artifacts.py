"""Files of runs, below one folder, for callers who are not to reach anything else.

Every step of a path is opened in the folder before it and never followed if it is a link, so there is no moment at
which a link could be put in the way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

# MLflow's scheme for files that its server keeps.
_PROXIED = "mlflow-artifacts"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a named pipe must not make anybody wait
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PARTIAL = ".partial"


class OutsideError(ValueError):
    """A path that leads out of the folder, through a link, or to something that is no plain file."""


@dataclass(frozen=True)
class ArtifactEntry:
    """A file or folder; ``size`` is None for a folder."""

    name: str
    size: int | None


class Artifacts:
    """The files below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def within(self, uri: str, path: str = "") -> PurePosixPath:
        """``path`` at the location ``uri`` of a run, relative to the root. Raises OutsideError."""
        parsed = urllib.parse.urlsplit(uri)
        place = Path(urllib.parse.unquote(parsed.path) if parsed.scheme else uri)
        if parsed.netloc or parsed.scheme not in ("", "file", _PROXIED):
            raise OutsideError(f"{uri} is no folder of this server")
        if parsed.scheme == _PROXIED:
            place = self._root / parsed.path.lstrip("/")
        if not place.is_relative_to(self._root):
            raise OutsideError(f"{uri} lies outside the folder of artifacts that is served")
        return relative(*place.relative_to(self._root).parts, *path.split("/"))

    def open(self, path: PurePosixPath) -> BinaryIO:
        """Open a file for reading."""
        with self._folder(path.parent) as folder, _refusing(path):
            descriptor = os.open(path.name, _READ, dir_fd=folder)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise OutsideError(f"{path} is no plain file")
            return os.fdopen(descriptor, "rb")

    def entries(self, path: PurePosixPath) -> list[ArtifactEntry]:
        """Files and folders in the folder at ``path``, by name; links are left out. Empty if there is none."""
        found = []
        try:
            with self._folder(path) as folder, os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        found.append(ArtifactEntry(entry.name, None))
                    elif entry.is_file(follow_symlinks=False) and not entry.name.endswith(_PARTIAL):
                        found.append(ArtifactEntry(entry.name, entry.stat(follow_symlinks=False).st_size))
        except FileNotFoundError:
            return []
        return sorted(found, key=lambda entry: entry.name)

    @contextlib.contextmanager
    def replace(self, path: PurePosixPath) -> Iterator[BinaryIO]:
        """Write the file at ``path`` anew, with the folders it needs: whole or not at all."""
        with self._folder(path.parent, make=True) as folder, _refusing(path):
            partial = f".{path.name[:200]}.{secrets.token_hex(4)}{_PARTIAL}"
            descriptor = os.open(partial, _CREATE, 0o600, dir_fd=folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    yield file
                # takes the place of a link, and does not follow it
                os.rename(partial, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                os.unlink(partial, dir_fd=folder)
                raise

    @contextlib.contextmanager
    def _folder(self, path: PurePosixPath, *, make: bool = False) -> Iterator[int]:
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in path.parts:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o700, dir_fd=descriptor)
                with _refusing(path):
                    inner = os.open(part, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)


def relative(*parts: str) -> PurePosixPath:
    """A relative path of ``parts``, none of which leads upwards. Raises OutsideError."""
    steps = [part for part in parts if part]
    for part in steps:
        if part in (".", "..") or "/" in part or "\\" in part or not part.isprintable():
            raise OutsideError(f"{part!r} may not be part of a path")
    return PurePosixPath(*steps)


@contextlib.contextmanager
def _refusing(path: PurePosixPath) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # what opening a link without following it gives, as a file and as a folder
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO):
            raise OutsideError(f"{path} is no plain file, or a link is on the way to it") from None
        raise
