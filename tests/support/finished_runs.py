"""Runs that are trained and tested, with numbers that follow from their scores: for tests of records and tables."""

import dataclasses

import numpy as np

from experiments.files import write_text
from experiments.registry.catalogue import find_experiment
from experiments.registry.recipe import Scale, to_dict
from experiments.registry.table import Variant
from experiments.results import record
from experiments.results.record import Provenance, Record, RecordKind
from experiments.results.recorded import SCHEMA
from experiments.runs.attempts import Ownership
from experiments.runs.journal import Journal
from experiments.runs.run import Run
from vswin.config import Precision

PROVENANCE = Provenance(
    commit="0" * 40,
    dirty=False,
    finished="2021-06-24T00:00:00Z",
    python="3.11.7",
    torch="2.13.0",
    cuda=None,
    software="0" * 16,
    device="a processor",
    precision=Precision.FP32,
    processes=1,
    nodes=1,
    threads=1,
    dataset={
        "train": {"fingerprint": "1" * 64, "videos": 800},
        "val": {"fingerprint": "2" * 64, "videos": 200, "source": "val.txt", "classes": list("abcdef")},
    },
    attempts=1,
    steps=3,
    wall_seconds=1.0,
    cpu_seconds=1.0,
)


def make_record(variant: Variant, *, seed: int, top1: float, scale: Scale = Scale.MINI) -> Record:
    recipe = variant.at(scale)
    return Record(
        schema=SCHEMA,
        kind=RecordKind.TRAINED,
        scale=scale,
        signature=recipe.signature,
        protocol=recipe.protocol_signature,
        seed=seed,
        top1=top1,
        top5=99.0,
        class_accuracy=top1,
        videos=4,
        broken=0,
        params=1000,
        flops=10**6,
        recipe=to_dict(recipe),
        provenance=PROVENANCE,
    )


def finished_run(variant: Variant, *, seed: int, top1: float, scale: Scale = Scale.MINI) -> Run:
    """A run whose test is right about ``top1`` percent of 200 videos of four of six classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(200) % 4
    right = np.arange(200) < 2 * top1
    scores = np.sort(rng.dirichlet(np.ones(6), size=200).astype(np.float32), axis=1)
    # the highest score for the label, or the second highest
    for video in range(200):
        place = 5 if right[video] else 4
        others = [column for column in range(6) if column != labels[video]]
        scores[video, [*others, labels[video]]] = np.append(np.delete(scores[video], place), scores[video, place])
    result = dataclasses.replace(
        make_record(variant, seed=seed, top1=100 * float(right.mean()), scale=scale),
        top5=100.0,
        class_accuracy=float(100 * np.mean([right[labels == label].mean() for label in range(4)])),
        videos=200,
    )
    finished = Run(find_experiment(scale, variant), seed)
    run = finished.directory
    Ownership(run)
    with Journal(run.journal) as journal:
        for step in (1, 2, 3):
            journal.write(step, {"train/loss": 1 / step})
        journal.write(4, {"test/2x1/top1": top1})
    target = run.result(result.protocol)
    target.parent.mkdir()
    np.savez_compressed(target.with_suffix(".npz"), scores=scores, labels=labels, broken=np.zeros(200, dtype=bool))
    write_text(target, record.dump(result))
    return finished
