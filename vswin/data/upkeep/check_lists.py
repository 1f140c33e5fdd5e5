"""Lists of the videos that a check found good."""

from __future__ import annotations

from pathlib import Path

from ..formats import list_file
from .check import Report


def write_good(report: Report, folder: Path) -> None:
    """Write ``train.txt``, ``val.txt``, or the one that was checked, and ``classes.txt`` to ``folder``.

    Paths are relative where videos lie below ``folder``. DataError for a name that no list can hold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = folder.resolve()
    for split, videos in report.videos.items():
        rows = []
        for index in report.good(split):
            # The folder of a split may be a link out of the data set; its name is what counts then.
            path = videos.folder.resolve() / videos.names[index]
            name = path.relative_to(there) if path.is_relative_to(there) else path
            rows.append((str(name), videos.labels[index]))
        list_file.write(folder / f"{split}.txt", rows=rows)
        if videos.classes:
            (folder / "classes.txt").write_text("".join(f"{name}\n" for name in videos.classes), encoding="utf-8")
