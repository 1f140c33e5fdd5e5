"""Videos in one folder per class, and no more: shared out to training and validation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from unicodedata import normalize

import numpy as np

from ..formats import list_file, placed
from ..formats.rows import DataError, Split


def split_classes(folder: Path, *, share: float, seed: int) -> Mapping[Split, int]:
    """Write ``train.txt``, ``val.txt`` and ``classes.txt`` for ``folder/<class>/<video>``; how many videos each has.

    Of every class the ``share`` for validation, at least one and not all, is drawn; the same ``seed`` gives the same
    lists for the same names. A video is a file or a folder of frames. Raises DataError, and writes nothing, where there
    are lists or splits already, where a class has fewer than two videos and where a name fits in no list.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder with one folder of videos per class, found none")
    names = {f"{split}.txt" for split in Split} | {"classes.txt", *placed.SPLIT_WORDS[Split.TRAIN]}
    if taken := sorted(name for name in names if (folder / name).exists()):
        raise DataError(f"{folder / taken[0]}: is there already, so the data set is split; see: vswin data layout")
    classes = {path.name: _videos(path) for path in folder.iterdir() if path.is_dir() and path.name[0] != "."}
    order = sorted((name for name, videos in classes.items() if videos), key=lambda name: normalize("NFC", name))
    if len(order) < 2:
        raise DataError(f"{folder}: expected videos in the folders of two classes or more, got {order or 'none'}")
    rows: dict[Split, list[tuple[str, int]]] = {Split.TRAIN: [], Split.VAL: []}
    for label, name in enumerate(order):
        videos = classes[name]
        if len(videos) < 2:
            raise DataError(f"{folder / name}: expected a video to train on and one to test on, got {len(videos)}")
        held_out = min(len(videos) - 1, max(1, round(share * len(videos))))
        chosen = np.random.default_rng([seed, label]).permutation(len(videos))[:held_out]
        for number, video in enumerate(videos):
            rows[Split.VAL if number in chosen else Split.TRAIN].append((f"{name}/{video}", label))
    written: list[Path] = []
    try:
        for split, listed in rows.items():
            written.append(folder / f"{split}.txt")
            list_file.write(written[-1], rows=listed)
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in order), encoding="utf-8")
    except DataError:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return {split: len(listed) for split, listed in rows.items()}


def _videos(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if placed.is_video(entry))
