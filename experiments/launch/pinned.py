"""Code and tables pinned for jobs, so that later edits do not reach them: a clone of the commit, a copy of tables."""

from __future__ import annotations

import compileall
import hashlib
import shutil
import subprocess
from pathlib import Path

from vswin.errors import ExplainedError

from .. import folders
from ..files import locked
from ..job import provenance
from ..registry import own_tables
from ..words import in_short


class UncommittedCodeError(ExplainedError, RuntimeError):
    """The code differs from its commit; the message names the files and what to do."""


class PinError(ExplainedError, RuntimeError):
    """There is nothing to make a clone of, or git could not; the message says which."""


def folder(*, allow_dirty: bool) -> tuple[Path, str]:
    """Where the clone of the code as it is now belongs, and what it needs beyond its commit (see ``uncommitted``).

    ``$VSWIN_RUNS/code/<commit>``, and for uncommitted code ``<commit>-<digest of the changes>``. Raises PinError
    outside a clone, and UncommittedCodeError unless ``allow_dirty``.
    """
    commit = provenance.commit()
    if not commit.is_known:
        raise PinError(f"{provenance.CLONE} is no git clone, so jobs cannot be pinned to a commit of it; clone it")
    place = folders.runs() / "code"
    if not commit.dirty:
        return place / commit.name, ""
    if not allow_dirty:
        files = in_short(provenance.changed_files())
        raise UncommittedCodeError(
            f"uncommitted code: {files}; commit it, or have the changes stored with every run: --allow-dirty"
        )
    changes = provenance.uncommitted()
    digest = hashlib.sha256(changes.encode(errors="surrogateescape")).hexdigest()[:10]
    return place / f"{commit.name}-{digest}", changes


def pin(*, allow_dirty: bool) -> Path:
    """The clone of the code as it is now, made if there is none yet, its files read-only; raises as ``folder`` does."""
    target, changes = folder(allow_dirty=allow_dirty)
    with locked(target.parent / ".lock"):
        if not target.exists():
            _make(target, changes)
        # for nodes without git, also in a clone of an earlier launch
        provenance.hand_over(target, provenance.Commit(target.name.partition("-")[0], bool(changes)), changes)
    return target


def tables_folder() -> tuple[Path, Path] | None:
    """The user's own tables and where their copy belongs, ``$VSWIN_RUNS/code/tables-<digest>``; None without any.

    Raises OwnTableError where the folder cannot be copied.
    """
    source = folders.own_tables()
    if source is None:
        return None
    return source, folders.runs() / "code" / f"tables-{own_tables.digest(source)}"


def pin_tables() -> Path | None:
    """The copy of the user's own tables as they are now, its files read-only; made if there is none yet.

    None without any. Raises as ``tables_folder`` does, and PinError where they are edited meanwhile.
    """
    places = tables_folder()
    if places is None:
        return None
    source, target = places
    with locked(target.parent / ".lock"):
        if target.exists():
            return target
        partial = target.with_name(f".{target.name}.partial")
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir()
        for name in own_tables.files(source):
            copy = partial / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, copy)
            copy.chmod(0o444)
        if f"tables-{own_tables.digest(partial)}" != target.name:
            shutil.rmtree(partial)
            raise PinError(f"{source} was edited while it was copied; launch again")
        partial.rename(target)
    return target


def _make(target: Path, changes: str) -> None:
    # under its name only when it is whole; what an interrupted launch left is made anew
    partial = target.with_name(f".{target.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    commit = target.name.partition("-")[0]
    # not --local: that insists on hard links, which there are none of between two file systems
    _git("clone", "--quiet", "--no-checkout", str(provenance.CLONE), str(partial))
    _git("-C", str(partial), "checkout", "--quiet", "--detach", commit)
    if changes:
        _git("-C", str(partial), "apply", "--binary", "-", text=changes)
    (partial / ".git" / "info" / "exclude").write_text("__pycache__/\n")
    for package in ("vswin", "experiments"):
        # once, not in every job
        compileall.compile_dir(partial / package, quiet=2, stripdir=str(partial), prependdir=str(target))
    for path in partial.rglob("*"):
        # folders stay as they are, or rm -r could not remove them
        if path.is_file() and not path.is_symlink() and ".git" not in path.relative_to(partial).parts:
            path.chmod(path.stat().st_mode & ~0o222)
    partial.rename(target)


def _git(*arguments: str, text: str = "") -> None:
    answer = subprocess.run(
        ["git", *arguments], input=text.encode(errors="surrogateescape"), capture_output=True, check=False
    )
    if answer.returncode:
        raise PinError(f"git {arguments[0]} failed: {answer.stderr.decode(errors='replace').strip()}")
