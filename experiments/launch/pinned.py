"""Code pinned for jobs: a clone of the commit that a launch was made from, so that later edits do not reach it."""

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
        files = provenance.changed_files()
        named = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        raise UncommittedCodeError(
            f"uncommitted code: {named}; commit it, or have the changes stored with every run: --allow-dirty"
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
