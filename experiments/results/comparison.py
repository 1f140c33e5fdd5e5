"""A table's rows with everything measured of them: registry x records, through statistics and verdicts."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vswin.config import Swin3DConfig

from ..files import Damage
from ..registry.catalogue import find_table
from ..registry.recipe import Recipe, Scale
from ..registry.table import Table, Variant
from .record import Record, RecordError, RecordKind
from .statistics import Estimate, Summary, holm, summarise
from .verdicts import NOT_RUN, TEST_VIDEOS, Judgement, against_direction, against_printed, of_published_weights
from .verify import verify

Key = TypeVar("Key", bound=Hashable)
# right(record, k) [videos]: which test videos have their label among the k highest scores
Right = Callable[[Record, int], NDArray[np.bool_]]
# The rows of table baselines without attention in time: what is no better than its own has shown no use of it.
CONTROLS = "space-only"


class Floor(StrEnum):
    """A level that a row may be no better than: its 95 % interval over seeds and videos does not lie above it."""

    GUESSING = "guessing"
    CONTROL = "the control without attention in time (space-only in table baselines, same data and clips)"


@dataclass(frozen=True)
class Results:
    """The intact records of one scale, found by row; ``damages`` is what is wrong with those that are left out."""

    scale: Scale
    records: tuple[Record, ...]
    right: Right
    damages: tuple[Damage, ...] = ()

    @classmethod
    def load(cls, scale: Scale) -> Results:
        """Those under ``$VSWIN_RESULTS`` that prove themselves: see ``verify``."""
        verified = verify(scale)
        known = {name: {1: found.right, 5: found.among_five} for name, found in verified.details.items()}
        return cls(scale, verified.records, lambda record, k: known[record.name][k], verified.damages)

    @cached_property
    def _by_row(self) -> dict[tuple[RecordKind, str, str], list[Record]]:
        found = defaultdict(list)
        for record in self.records:
            found[record.kind, record.signature, record.protocol].append(record)
        return found

    def _of(self, kind: RecordKind, variant: Variant) -> list[Record]:
        if self.scale not in variant.scales:
            return []
        recipe = variant.at(self.scale)
        return self._by_row.get((kind, recipe.signature, recipe.protocol_signature), [])

    def trained(self, variant: Variant) -> list[Record]:
        """The records of trainings of ``variant``, by seed: same training, same protocol, same videos.

        Raises RecordError if some were made on other videos: their numbers must not be averaged.
        """
        mine = self._of(RecordKind.TRAINED, variant)
        if len({tuple(sorted(record.provenance.videos.items())) for record in mine}) > 1:
            raise RecordError(
                f"the records of {variant.id} were made on different videos; keep one kind of {_files(mine)}"
            )
        return sorted(mine, key=lambda record: record.seed or 0)

    def published(self, variant: Variant) -> Record | None:
        """The record of published weights of ``variant``, tested here; None if there is none.

        Raises RecordError where there are several: only one can stand in the table.
        """
        mine = self._of(RecordKind.PUBLISHED_WEIGHTS, variant)
        if len(mine) > 1:
            raise RecordError(
                f"{variant.id} has published weights from several files or on several data; keep one of {_files(mine)}"
            )
        return mine[0] if mine else None

    def strangers(self, tables: Iterable[Table]) -> list[Record]:
        """Records that belong to no row of ``tables``: made by other code, and in no table."""
        rows = {
            (recipe.signature, recipe.protocol_signature)
            for table in tables
            for recipe in (variant.at(self.scale) for variant in table.at(self.scale))
        }
        return [record for record in self.records if (record.signature, record.protocol) not in rows]

    def estimate(self, records: Sequence[Record], k: int = 1) -> Estimate:
        """Top-k of a row over seeds and videos."""
        return Estimate.of(np.stack([self.right(record, k) for record in records]).astype(np.int8))

    def difference(self, here: Sequence[Record], there: Sequence[Record]) -> Estimate | None:
        """Top-1 ``here`` minus ``there``, paired by seed and video; None without a seed that both have.

        Raises RecordError if they were tested on different videos.
        """
        other = {record.seed: record for record in there}
        pairs = [(record, other[record.seed]) for record in here if record.seed in other]
        if not pairs:
            return None
        for one, two in pairs:
            if one.provenance.tested["fingerprint"] != two.provenance.tested["fingerprint"]:
                raise RecordError(f"{one.name}.json and {two.name}.json were tested on different videos")
        return Estimate.of(
            np.stack([self.right(one, 1).astype(np.int8) - self.right(two, 1).astype(np.int8) for one, two in pairs])
        )


@dataclass(frozen=True, kw_only=True)
class ComparedRow:
    """A row of a table and what was measured of it; None where nothing was, or where nothing can be compared.

    ``videos`` is half the 95 % interval of top-1 over test videos, as against seeds. ``difference`` is top-1 against
    the baseline of the block, ``p`` its p corrected over the table. Verdicts: see ``verdicts``. ``floor``: what it has
    not been shown to be better than, however its difference turned out; ``baseline_floor``: what its baseline has not.
    """

    variant: Variant
    trained: Sequence[Record] = ()
    published: Record | None = None
    top1: Summary | None = None
    top5: Summary | None = None
    videos: float | None = None
    is_baseline: bool = False
    difference: Estimate | None = None
    p: float | None = None
    verdict: Judgement | None = None
    verdict_top5: Judgement | None = None
    published_verdict: Judgement | None = None
    floor: Floor | None = None
    baseline_floor: Floor | None = None


@dataclass(frozen=True)
class Pair:
    """Two rows of a block that the paper orders, and whether ours have that order."""

    first: Variant
    second: Variant
    judgement: Judgement


def rows_at(table: Table, scale: Scale) -> tuple[Variant, ...]:
    """The variants that ``table`` shows at ``scale``: those that can be run there, at scale paper all."""
    return table.variants if scale is Scale.PAPER else table.at(scale)


def compare(table: Table, results: Results) -> list[ComparedRow]:
    """``table``'s rows in the paper's order."""
    variants = rows_at(table, results.scale)
    trained = {variant: results.trained(variant) for variant in variants}
    differences: dict[Variant, Estimate] = {}
    for variant in variants:
        baseline = _baseline(table, variant)
        if baseline and trained[variant] and (found := results.difference(trained[variant], trained[baseline])):
            differences[variant] = found
    corrected = _corrected(differences)
    rows = [
        _row(
            table,
            variant,
            results,
            trained=trained[variant],
            difference=differences.get(variant),
            p=corrected.get(variant),
        )
        for variant in variants
    ]
    floors = {row.variant: row.floor for row in rows}
    return [
        replace(row, baseline_floor=floors[baseline]) if (baseline := _baseline(table, row.variant)) else row
        for row in rows
    ]


def _row(
    table: Table,
    variant: Variant,
    results: Results,
    *,
    trained: list[Record],
    difference: Estimate | None,
    p: float | None,
) -> ComparedRow:
    published, baseline = results.published(variant), _baseline(table, variant)
    own = results.estimate(trained) if trained else None
    top1 = top5 = published_verdict = None
    if results.scale is Scale.PAPER and variant.recipe and variant.paper:
        top1, top5 = (_against_printed(variant, results, trained, k) for k in (1, 5))
        if published:
            published_verdict = _of_published(variant, results, published)
    elif baseline and baseline.paper and variant.paper:
        top1 = NOT_RUN
        if difference:
            correction = 1.0 if p is None or not difference.p else p / difference.p
            printed = variant.paper.top1 - baseline.paper.top1
            top1 = against_direction(difference, printed, correction=correction)
    return ComparedRow(
        variant=variant,
        trained=trained,
        published=published,
        top1=summarise([record.top1 for record in trained]),
        top5=summarise([record.top5 for record in trained]),
        videos=own.video_half() if own else None,
        is_baseline=any(_baseline(table, other) is variant for other in table.variants),
        difference=difference,
        p=p,
        verdict=top1,
        verdict_top5=top5,
        published_verdict=published_verdict,
        floor=_floor(results, variant, trained, own) if own and own.seeds > 1 else None,
    )


def _floor(results: Results, variant: Variant, trained: list[Record], own: Estimate) -> Floor | None:
    """The floor that ``trained``, whose top-1 is ``own``, are not shown to be above; None for a control itself."""
    recipe = variant.at(results.scale)
    if not _is_above(own, 100 / recipe.model.num_classes):
        return Floor.GUESSING
    control = control_of(recipe, results.scale)
    if control is None or control.at(results.scale).signature == recipe.signature:
        return None
    there = results.trained(control)
    if len({record.provenance.tested["fingerprint"] for record in (*trained, *there)}) > 1:
        return None
    above = results.difference(trained, there)
    return Floor.CONTROL if above and above.seeds > 1 and not _is_above(above, 0) else None


def control_of(recipe: Recipe, scale: Scale) -> Variant | None:
    """The control of ``recipe``, without attention in time: the same data and, of a Video Swin, tokens.

    Other architectures have the data set's first control. None for images and where there is none.
    """
    if recipe.data.clip.length == 1:
        return None
    controls = [row for row in find_table("baselines").at(scale) if row.name.startswith(CONTROLS)]
    of_data = [row for row in controls if row.at(scale).data.dataset == recipe.data.dataset]
    if not isinstance(recipe.model, Swin3DConfig):
        return next(iter(of_data), None)
    return next((row for row in of_data if _tokens(row.at(scale)) == _tokens(recipe)), None)


def _tokens(recipe: Recipe) -> tuple[object, ...]:
    """Fields that decide which pixels a Video Swin's tokens hold, but for the size of the crop."""
    assert isinstance(recipe.model, Swin3DConfig)
    return recipe.data.clip, recipe.model.patch


def _is_above(estimate: Estimate, value: float) -> bool:
    half = estimate.half()
    return half is not None and estimate.mean - half > value


def _against_printed(variant: Variant, results: Results, trained: list[Record], k: int) -> Judgement | None:
    assert variant.paper is not None
    printed = variant.paper.top1 if k == 1 else variant.paper.top5
    if printed is None:
        return None
    if not trained:
        return NOT_RUN
    return against_printed(results.estimate(trained, k).of_list(_list_size(trained[0])), printed)


def _of_published(variant: Variant, results: Results, published: Record) -> Judgement:
    assert variant.paper is not None
    error = results.estimate([published]).of_list(_list_size(published)).video_error
    return of_published_weights(published.top1, videos=published.videos, video_error=error, printed=variant.paper.top1)


def _list_size(record: Record) -> int:
    """The number of test videos that the paper had; as many as were tested where it does not say."""
    return TEST_VIDEOS.get(record.recipe["data"]["dataset"], record.videos)


def ordering(table: Table, results: Results) -> list[Pair]:
    """Every pair of rows of a block whose numbers the paper prints and that were measured on the same videos.

    Of rows that are one measurement, the same training on views that show the same frames, only the first counts.
    """
    found: list[tuple[Variant, Variant, Estimate]] = []
    shown = rows_at(table, results.scale)
    for block in table.by_block:
        printed_rows = [item for item in block if item in shown and item.paper]
        twins = {two for one, two in itertools.combinations(printed_rows, 2) if is_same_measurement(one, two, results)}
        for first, second in itertools.combinations([item for item in printed_rows if item not in twins], 2):
            here, there = results.trained(second), results.trained(first)
            same = {record.provenance.tested["fingerprint"] for record in (*here, *there)}
            if len(same) == 1 and (difference := results.difference(here, there)):
                found.append((first, second, difference))
    corrected = _corrected({(first, second): difference for first, second, difference in found})
    pairs = []
    for first, second, difference in found:
        assert first.paper is not None
        assert second.paper is not None
        p = corrected.get((first, second))
        correction = 1.0 if p is None or not difference.p else p / difference.p
        printed = second.paper.top1 - first.paper.top1
        pairs.append(Pair(first, second, against_direction(difference, printed, correction=correction)))
    return pairs


def is_same_measurement(one: Variant, two: Variant, results: Results) -> bool:
    """True where two rows are the same trainings and were right about the same videos."""
    here, there = results.trained(one), results.trained(two)
    if not here or [(record.signature, record.seed) for record in here] != [
        (record.signature, record.seed) for record in there
    ]:
        return False
    return all(
        np.array_equal(results.right(mine, 1), results.right(yours, 1)) for mine, yours in zip(here, there, strict=True)
    )


def _corrected(differences: Mapping[Key, Estimate]) -> dict[Key, float]:
    ps = {key: difference.p for key, difference in differences.items()}
    known = {key: p for key, p in ps.items() if p is not None}
    return dict(zip(known, holm(list(known.values())), strict=True))


def _baseline(table: Table, variant: Variant) -> Variant | None:
    """The baseline of ``variant``; None for the baseline itself."""
    baseline = table.baseline_of(variant)
    return None if baseline == variant else baseline


def _files(records: Iterable[Record]) -> str:
    return ", ".join(f"{record.name}.json" for record in records)
