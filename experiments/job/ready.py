"""Readiness: data sets and weights that runs read, looked for before any job starts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from vswin.config import Split

from .. import folders
from ..registry.catalogue import Experiment
from ..registry.stand_ins import SEED, origin, weights_name
from ..runs.directory import RunDirectory
from ..runs.weights import weights_file, where_to_get
from .errors import UpstreamError

if TYPE_CHECKING:
    from vswin.data.annotations import VideoList


def check_ready(experiments: Collection[Experiment]) -> None:
    """Raise vswin.data's DataError for the first thing that ``experiments`` read and that is missing."""
    from vswin.data.annotations import DataError

    for message in missing(experiments):
        raise DataError(message)


def missing(experiments: Collection[Experiment]) -> Iterator[str]:
    """A message for everything that ``experiments`` read and that is missing, each with the way to get it."""
    from vswin.data.annotations import DataError, VideoList
    from vswin.data.moving_digits import is_outdated

    names = {weights_name(experiment.recipe.init) or "" for experiment in experiments} - {""}
    for name in sorted(names):
        # the launch itself trains upstream weights
        if origin(name) is None and not weights_file(name).exists():
            yield f"{weights_file(name)}: the weights to start from are missing; {where_to_get(name)}"
    read = {(experiment.recipe.data.dataset, split) for experiment in experiments for split in _splits(experiment)}
    for dataset in sorted({dataset for dataset, _ in read}):
        if is_outdated(folders.data(), dataset=dataset):
            yield (
                f"{folders.data() / dataset}: made by another version of this code, with other videos; make it again: "
                f"vswin data generate {dataset}"
            )
    for dataset, split in sorted(read):
        try:
            videos = VideoList.of_split(folders.data(), dataset=dataset, split=split)
            _ = videos.fingerprint
            for experiment in experiments:
                if experiment.recipe.data.dataset == dataset:
                    _check_fits(experiment, videos, training=split is Split.TRAIN)
        except DataError as error:
            yield str(error)


def _splits(experiment: Experiment) -> list[Split]:
    """The splits that a run reads: to train, to validate along the way, and to test."""
    tested = {protocol.split for protocol in experiment.protocols.values()}
    return [split for split in Split if split in tested | {Split.TRAIN, Split.VAL}]


def read_videos(experiment: Experiment) -> dict[Split, VideoList]:
    """The videos of every split that a run reads; raises DataError."""
    from vswin.data.annotations import VideoList

    dataset = experiment.recipe.data.dataset
    return {split: VideoList.of_split(folders.data(), dataset=dataset, split=split) for split in _splits(experiment)}


def check_upstream(experiment: Experiment) -> None:
    """Raise UpstreamError unless the runs that ``experiment`` starts from have left their weights."""
    for source in experiment.upstream:
        run = RunDirectory(experiment.scale, source.recipe.signature, SEED)
        if not run.weights.exists():
            raise UpstreamError(
                f"{experiment.name} starts from {source.name}, which is not trained yet; "
                f"vswin run {source.name} --scale {experiment.scale}"
            )


def _check_fits(experiment: Experiment, videos: VideoList, *, training: bool) -> None:
    """Raise DataError where there are too few of these videos, or more classes than the model has."""
    from vswin.data.annotations import DataError

    recipe = experiment.recipe
    classes = len(videos.classes) or max(videos.labels) + 1
    if classes > recipe.model.num_classes:
        raise DataError(
            f"{videos.source}: {classes} classes, but {experiment.name} tells {recipe.model.num_classes} apart; set "
            "model.num_classes in its recipe"
        )
    if training and len(videos) < recipe.optim.batch_size:
        raise DataError(
            f"{videos.source}: {len(videos)} videos, fewer than a batch of {experiment.name}, "
            f"{recipe.optim.batch_size}; set optim.batch_size in its recipe"
        )
