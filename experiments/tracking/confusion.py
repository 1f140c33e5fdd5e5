"""Pictures of which classes a model takes for which."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..runs.run import Run

# Beyond that many, names on the axes are no longer readable and the most frequent confusions are listed.
_NAMED_CLASSES = 40
_LISTED = 12


def draw_confusions(run: Run, folder: Path) -> Iterator[Path]:
    """One PNG in ``folder`` per test of ``run``, each named after its views."""
    manifests = json.loads(run.directory.datasets.read_text()) if run.directory.datasets.exists() else {}
    # the same in every split
    classes = next(iter(manifests.values()))["classes"] if manifests else ()
    for signature, protocol in run.experiment.protocols.items():
        predictions = run.directory.result(signature).with_suffix(".npz")
        if not predictions.exists():
            continue
        with np.load(predictions, allow_pickle=False) as archive:
            counts = confusion(archive["scores"], archive["labels"])
        views = f"{protocol.clips}x{protocol.crops}"
        path = folder / f"confusion-{views}-{signature}.png"
        title = f"{run.experiment.name}, seed {run.seed}, scale {run.scale}, {views} views"
        draw(counts, classes=classes, title=title).savefig(path, dpi=100)
        yield path


def confusion(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Counts of videos [class, predicted class] from scores [videos, classes] and labels [videos].

    A video whose scores are not numbers has no prediction and is left out.
    """
    number = scores.shape[1]
    whole = ~np.isnan(scores).any(axis=1)
    pairs = labels[whole].astype(np.int64) * number + scores[whole].argmax(axis=1)
    return np.bincount(pairs, minlength=number * number).reshape(number, number)


def draw(counts: NDArray[np.int64], *, classes: Sequence[str], title: str) -> Figure:
    """A picture of ``counts`` as ``confusion`` gives them, rows in percent of the class's videos."""
    number = len(counts)
    names = list(classes) or [str(index) for index in range(number)]
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    named = number <= _NAMED_CLASSES
    side = max(4.5, 0.42 * number + 2.5) if named else 9.0
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("predicted")
    axes.set_ylabel("class")
    if named:
        axes.set_xticks(range(number), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
        axes.set_yticks(range(number), names, fontsize=8)
        for row, column in np.argwhere(counts):
            colour = "white" if share[row, column] > 55 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=7, color=colour)
    else:
        wrong = counts.copy()
        np.fill_diagonal(wrong, 0)
        worst = np.argsort(-wrong, axis=None, kind="stable")[:_LISTED]
        rows, columns = np.unravel_index(worst, wrong.shape)
        lines = [f"{wrong[a, b]} x {names[a]} taken for {names[b]}" for a, b in zip(rows, columns, strict=True)]
        figure.supxlabel("most frequent:\n" + "\n".join(lines), fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.7, label="% of the class's videos")
    return figure
