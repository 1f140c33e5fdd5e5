"""A reproducibility checklist after that of NeurIPS, filled in from registry and records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import folders
from ..registry.catalogue import experiments, tables
from ..registry.recipe import Scale
from .comparison import ComparedRow, Results, compare
from .record import Record, RecordKind
from .verdicts import Verdict

# Only what was read where it says so; the data sets themselves are not redistributed here.
_LICENCES = (
    ("this suite", "Apache-2.0", "LICENSE"),
    (
        "Video Swin Transformer, weights and configs",
        "Apache-2.0",
        "github.com/SwinTransformer/Video-Swin-Transformer",
    ),
    ("Swin Transformer, image weights", "MIT", "github.com/microsoft/Swin-Transformer"),
    ("TimeSformer (rebuilt from its paper, no code taken)", "CC-BY-NC 4.0", "github.com/facebookresearch/TimeSformer"),
    ("Perceiver (its configuration)", "MIT", "github.com/lucidrains/perceiver-pytorch"),
    ("Kinetics-400 and -600, Something-Something v2", "their owners' terms", "not part of this repository"),
    ("handwritten digits of the generated videos", "BSD-3-Clause", "scikit-learn"),
)


@dataclass(frozen=True)
class Answers:
    """Lines of the checklist that answer one ``question``, as Markdown."""

    title: str
    question: str
    lines: tuple[str, ...]


def checklist(every: Mapping[Scale, Results] | None = None) -> str:
    """The checklist as Markdown, byte-stable for the same records; default: of all scales."""
    parts = [
        "# Reproducibility checklist",
        "After the questions of the NeurIPS paper checklist. Generated from the registry and the records under this "
        "folder by `make results`; not edited by hand.",
    ]
    for item in answers(every or {scale: Results.load(scale) for scale in Scale if scale is not Scale.TINY}):
        lines = "\n".join(f"- {line}" for line in item.lines)
        parts.append(f"## {item.title}\n\n*{item.question}*\n\n{lines}")
    return "\n\n".join(parts) + "\n"


def answers(every: Mapping[Scale, Results]) -> list[Answers]:
    """The checklist about the scales of ``every``, filled in."""
    return [
        _section(
            "Claims and limits",
            "Do the claims match the results, and are the limits stated?",
            [_verdicts(results) for results in every.values()],
        ),
        _section(
            "Reproducibility",
            "Is everything there to run it again?",
            [
                f"{len(tables())} tables with {sum(len(item.variants) for item in tables().values())} rows are data in "
                "`experiments/registry/paper/`; `vswin show VARIANT` prints every field of a row's recipe and its "
                "command.",
                *(_trainings(scale) for scale in every),
                "A record names the recipe in full, its signature, the commit and whether code differed from it.",
                "What was chosen where the paper is silent or contradicts itself stands under its table, and "
                "numbered in `vswin/models/swin3d.py`.",
            ],
        ),
        _section("Seeds", "How many runs is a number?", [_seeds(results) for results in every.values()]),
        _section(
            "Error bars",
            "What do the intervals cover, and how were they computed?",
            [
                "Mean ± is the 95 % interval over seeds, within 0 to 100. Differences are paired by video; intervals "
                "and p (corrected by Holm within a table) cover seeds and test videos. One seed has no interval. "
                "`experiments/results/statistics.py` says it in full.",
                "Verdicts follow a rule that is stated in `experiments/results/verdicts.py`. Its error rates are "
                "measured by simulation: `tests/results/test_verdicts.py`.",
            ],
        ),
        _section(
            "Compute",
            "On what, and how long?",
            [line for results in every.values() for line in _compute(results)],
        ),
        _section("Data", "Which data, exactly?", [line for results in every.values() for line in _data(results)]),
        _section(
            "Licences",
            "Whose work is used, and under which terms?",
            [f"{what}: {licence} ({where})" for what, licence, where in _LICENCES],
        ),
        _section(
            "Not applicable",
            "Theory, people, and release of risky models",
            ["No theorems, no human subjects or crowd work; no weights are released but those of the miniature."],
        ),
    ]


def files(every: Mapping[Scale, Results] | None = None) -> dict[Path, str]:
    """The checklist by its path."""
    return {folders.results() / "CHECKLIST.md": checklist(every)}


def _section(title: str, question: str, lines: Iterable[str]) -> Answers:
    return Answers(title, question, tuple(lines))


def _rows(results: Results) -> list[ComparedRow]:
    return [row for table in tables().values() for row in compare(table, results)]


def _trainings(scale: Scale) -> str:
    once = sum(experiment.is_upstream for experiment in experiments(scale))
    every_seed = len(experiments(scale)) - once
    first = f", and {once} once that they start from" if once else ""
    return f"Scale {scale}: {every_seed} trainings a seed{first}, by `vswin launch TABLE... --scale {scale}`."


def _verdicts(results: Results) -> str:
    rows = _rows(results)
    given = [row.verdict.verdict for row in rows if row.verdict]
    counts = ", ".join(f"{verdict}: {given.count(verdict)}" for verdict in Verdict if verdict in given)
    claim = (
        "a verdict compares a number with the printed one"
        if results.scale is Scale.PAPER
        else "a verdict compares the direction of a difference with the paper's, never a number"
    )
    text = f"Scale {results.scale}, rows by verdict: {counts or 'none'}. Here {claim}."
    if Verdict.DID_NOT_LEARN in given:
        text += (
            " A row did not learn if it, or its baseline, was not shown to be better than guessing or than the control "
            "without attention in time; the notes under the tables name them."
        )
    return text


def _seeds(results: Results) -> str:
    counts = sorted({len(row.trained) for row in _rows(results) if row.trained})
    if not counts:
        return f"Scale {results.scale}: nothing was run."
    span = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    runs = sum(record.kind is RecordKind.TRAINED for record in results.records)
    return f"Scale {results.scale}: {span} seeds a row, {runs} tests of trainings; none is left out of the tables."


def _compute(results: Results) -> list[str]:
    if not results.records:
        return [f"Scale {results.scale}: nothing was run."]
    provenances = [record.provenance for record in _once(results.records)]
    hours = sum(item.wall_seconds * item.processes for item in provenances) / 3600
    devices = " and ".join(sorted({item.device for item in provenances}))
    versions = " and ".join(sorted({item.torch for item in provenances}))
    precision = " and ".join(sorted({item.precision for item in provenances}))
    joules = [item.energy_joules for item in provenances]
    known = [value for value in joules if value is not None]
    energy = f"{sum(known) / 3.6e6:.3f} kWh, counted for {len(known)} of them" if known else "not counted"
    dirty = sum(item.dirty for item in provenances)
    return [
        f"Scale {results.scale}: {hours:.1f} process hours of {devices}, for {len(provenances)} trainings or tests of "
        f"published weights; torch {versions}, {precision}; energy of GPUs: {energy}; {dirty} with uncommitted changes."
    ]


def _once(records: Sequence[Record]) -> list[Record]:
    """One record of every training: it may have been tested under several protocols, and each names the whole time."""
    longest: dict[tuple[str, object], Record] = {}
    for record in records:
        key = (record.signature, record.seed if record.provenance.checkpoint is None else record.name)
        if key not in longest or longest[key].provenance.wall_seconds < record.provenance.wall_seconds:
            longest[key] = record
    return list(longest.values())


def _data(results: Results) -> list[str]:
    found = {
        (record.recipe["data"]["dataset"], split): manifest
        for record in results.records
        for split, manifest in record.provenance.dataset.items()
    }
    if not found:
        return [f"Scale {results.scale}: nothing was run."]
    return [
        f"Scale {results.scale}: {dataset}, {split}: {manifest['videos']} videos, `{manifest['fingerprint'][:16]}`"
        for (dataset, split), manifest in sorted(found.items())
    ]
