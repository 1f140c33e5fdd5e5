"""A table's rows with everything measured of them: registry x records, through statistics and verdicts."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from .record import Curve, Record, RecordError, RecordKind
from .statistics import Estimate, Summary, holm, summarise
from .verdicts import (
    NOT_RUN,
    TEST_VIDEOS,
    TIE_MARGIN,
    TIE_MARGIN_PAPER,
    Judgement,
    against_direction,
    against_printed,
    did_not_learn,
    of_published_weights,
)
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
    # curves(record): those of its training, by the journal's names
    curves: Callable[[Record], Mapping[str, Curve]] = lambda record: {}

    @classmethod
    def load(cls, scale: Scale) -> Results:
        """Those under ``$VSWIN_RESULTS`` that prove themselves: see ``verify``."""
        verified = verify(scale)
        known = {name: {1: found.right, 5: found.among_five} for name, found in verified.details.items()}
        return cls(
            scale,
            verified.records,
            lambda record, k: known[record.name][k],
            verified.damages,
            lambda record: verified.details[record.name].curves,
        )

    @cached_property
    def _by_row(self) -> dict[tuple[RecordKind, str, str], list[Record]]:
        found = defaultdict(list)
        for record in self.records:
            found[record.kind, record.signature, record.protocol].append(record)
        return found

    @cached_property
    def _compared(self) -> dict[str, Comparisons]:
        """Tables that were compared already, by id."""
        return {}

    def comparisons(self, table: Table) -> Comparisons:
        """Everything that ``table`` compares, computed once."""
        if table.id not in self._compared:
            self._compared[table.id] = _comparisons(table, self)
        return self._compared[table.id]

    @cached_property
    def _floors(self) -> dict[str, Floor | None]:
        """Levels that rows were found not to be better than, by their ids."""
        return {}

    def floor(self, variant: Variant) -> Floor | None:
        """The level that trainings of ``variant`` are not shown to be above; None also where there are too few."""
        if variant.id not in self._floors:
            trained = self.trained(variant)
            own = self.estimate(trained) if trained else None
            self._floors[variant.id] = _floor(self, variant, trained, own) if own and own.half() else None
        return self._floors[variant.id]

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
        return Estimate.of(self._answers(records, k))

    def _answers(self, records: Sequence[Record], k: int) -> NDArray[np.int8]:
        return np.stack([self.right(record, k) for record in records]).astype(np.int8)

    def difference(self, here: Sequence[Record], there: Sequence[Record]) -> Estimate | None:
        """Top-1 ``here`` minus ``there``, paired by video, whatever their seeds; None where either is empty.

        Raises RecordError if they were tested on different videos.
        """
        if not here or not there:
            return None
        one = here[0]
        for two in (*here[1:], *there):
            if one.provenance.tested["fingerprint"] != two.provenance.tested["fingerprint"]:
                raise RecordError(f"{one.name}.json and {two.name}.json were tested on different videos")
        return Estimate.between(self._answers(here, 1), self._answers(there, 1))


@dataclass(frozen=True)
class Contrast:
    """The top-1 of a row minus that of one above it, and its p corrected over everything that the table compares.

    ``unlearnt``: True for the row, and for the one above it, if it was not shown to have learnt.
    """

    difference: Estimate
    p: float | None
    unlearnt: tuple[bool, bool] = (False, False)

    def judged(self, printed: float, scale: Scale) -> Judgement:
        """The verdict on it, if the paper prints numbers that differ by ``printed``."""
        row, baseline = self.unlearnt
        if row or baseline:
            return did_not_learn(row=row, baseline=baseline)
        correction = 1.0 if self.p is None or not self.difference.p else self.p / self.difference.p
        margin = TIE_MARGIN_PAPER if scale is Scale.PAPER else TIE_MARGIN
        return against_direction(self.difference, printed, correction=correction, tie_margin=margin)


@dataclass(frozen=True)
class Comparisons:
    """All that one table compares: one family of p. ``twins`` maps a row to the one above it that it repeats.

    ``contrasts`` are by the two rows' names, the upper one first; ``pairs`` names those whose order the paper gives.
    """

    contrasts: Mapping[tuple[str, str], Contrast]
    pairs: Sequence[tuple[Variant, Variant]]
    twins: Mapping[str, str]

    def of(self, first: Variant, second: Variant) -> Contrast | None:
        """``second`` minus ``first``, the baseline or the upper row; None where they cannot be compared."""
        own = (first.name, second.name)
        return self.contrasts.get(own) or self.contrasts.get(
            (self.twins.get(own[0], own[0]), self.twins.get(own[1], own[1]))
        )


@dataclass(frozen=True, kw_only=True)
class ComparedRow:
    """A row of a table and what was measured of it; None where nothing was, or where nothing can be compared.

    ``baseline`` is what it is held against, ``control`` the row without attention in time that it should be above.
    ``videos`` is half the 95 % interval of top-1 over test videos, as against seeds. ``difference`` is top-1 against
    the baseline of the block, ``p`` its p corrected over the table. Verdicts: see ``verdicts``; at scale paper that on
    the difference stands beside that on the number. ``floor``: what it has not been shown to be better than, and so did
    not learn; ``baseline_floor``: what its baseline has not.
    """

    variant: Variant
    baseline: Variant | None = None
    control: Variant | None = None
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
    difference_verdict: Judgement | None = None
    published_verdict: Judgement | None = None
    floor: Floor | None = None
    baseline_floor: Floor | None = None


def printed_difference(row: ComparedRow) -> float | None:
    """Difference of the printed numbers of ``row`` and its baseline; None without them."""
    if row.baseline is None or row.baseline.paper is None or row.variant.paper is None:
        return None
    return row.variant.paper.top1 - row.baseline.paper.top1


def unlearnt(row: ComparedRow) -> str | None:
    """Who did not learn, for programs: row, baseline or both; None if neither or not known."""
    if row.floor and row.baseline_floor:
        return "both"
    return "row" if row.floor else "baseline" if row.baseline_floor else None


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
    return [_row(table, variant, results) for variant in rows_at(table, results.scale)]


def _row(table: Table, variant: Variant, results: Results) -> ComparedRow:
    trained, published, baseline = results.trained(variant), results.published(variant), _baseline(table, variant)
    own = results.estimate(trained) if trained else None
    contrast = results.comparisons(table).of(baseline, variant) if baseline and trained else None
    against_baseline = None
    if variant.recipe and variant.paper and baseline and baseline.paper:
        printed = variant.paper.top1 - baseline.paper.top1
        against_baseline = contrast.judged(printed, results.scale) if contrast else NOT_RUN
    floor = results.floor(variant)
    baseline_floor = results.floor(baseline) if baseline and trained else None
    if floor and against_baseline is None:
        # a baseline, and what the paper has no number for
        against_baseline = did_not_learn(row=True, baseline=baseline_floor is not None)
    top1, top5, published_verdict = against_baseline, None, None
    if results.scale is Scale.PAPER:
        top1, top5 = (_against_printed(variant, results, trained, k) for k in (1, 5))
        published_verdict = _of_published(variant, results, published) if published else None
    recipe = variant.at(results.scale) if results.scale in variant.scales else None
    return ComparedRow(
        variant=variant,
        baseline=baseline,
        control=control_of(recipe, results.scale) if recipe else None,
        trained=trained,
        published=published,
        top1=summarise([record.top1 for record in trained]),
        top5=summarise([record.top5 for record in trained]),
        videos=own.video_half() if own else None,
        is_baseline=any(_baseline(table, other) is variant for other in table.variants),
        difference=contrast.difference if contrast else None,
        p=contrast.p if contrast else None,
        verdict=top1,
        verdict_top5=top5,
        difference_verdict=against_baseline if results.scale is Scale.PAPER else None,
        published_verdict=published_verdict,
        floor=floor,
        baseline_floor=baseline_floor,
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
    return Floor.CONTROL if above and above.half() and not _is_above(above, 0) else None


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
    """The verdict on top-k; None where the paper prints none or none can be trained."""
    printed = (variant.paper.top1 if k == 1 else variant.paper.top5) if variant.paper and variant.recipe else None
    if printed is None:
        return None
    if not trained:
        return NOT_RUN
    return against_printed(results.estimate(trained, k).of_list(_list_size(trained[0])), printed)


def _of_published(variant: Variant, results: Results, published: Record) -> Judgement | None:
    if variant.paper is None:
        return None
    error = results.estimate([published]).of_list(_list_size(published)).fixed_error
    return of_published_weights(published.top1, videos=published.videos, video_error=error, printed=variant.paper.top1)


def _list_size(record: Record) -> int:
    """The number of test videos that the paper had; as many as were tested where it does not say."""
    return TEST_VIDEOS.get(record.recipe["data"]["dataset"], record.videos)


def ordering(table: Table, results: Results) -> list[Pair]:
    """Every pair of rows of a block whose numbers the paper prints and that were measured on the same videos.

    Of rows that are one measurement, the same training on views that show the same frames, only the first counts.
    """
    compared = results.comparisons(table)
    found = []
    for first, second in compared.pairs:
        contrast = compared.of(first, second)
        assert first.paper is not None
        assert second.paper is not None
        assert contrast is not None
        printed = second.paper.top1 - first.paper.top1
        found.append(Pair(first, second, contrast.judged(printed, results.scale)))
    return found


def _comparisons(table: Table, results: Results) -> Comparisons:
    """All differences to baselines, and of every pair of rows of a block that the paper orders."""
    shown = [variant for variant in rows_at(table, results.scale) if results.trained(variant)]
    twins: dict[str, str] = {}
    differences: dict[tuple[str, str], Estimate] = {}
    pairs = []
    for block in table.by_block:
        rows = [variant for variant in block if variant in shown]
        for one, two in itertools.combinations(rows, 2):
            if one.name not in twins and is_same_measurement(one, two, results):
                twins.setdefault(two.name, one.name)
        for first, second in itertools.combinations(rows, 2):
            # what repeats another row is compared where that one is; only a row that repeats its baseline has none
            if (second.name in twins and twins[second.name] != first.name) or first.name in twins:
                continue
            is_ordered = (
                first.paper and second.paper and second.name not in twins and _same_videos(first, second, results)
            )
            if is_ordered:
                pairs.append((first, second))
            if is_ordered or _baseline(table, second) == first:
                difference = results.difference(results.trained(second), results.trained(first))
                assert difference is not None
                differences[first.name, second.name] = difference
    ps = _corrected(differences)
    floors = {variant.name: results.floor(variant) is not None for variant in shown}
    contrasts = {
        (first, second): Contrast(difference, ps.get((first, second)), (floors[second], floors[first]))
        for (first, second), difference in differences.items()
    }
    return Comparisons(contrasts, pairs, twins)


def _same_videos(one: Variant, two: Variant, results: Results) -> bool:
    records = (*results.trained(one), *results.trained(two))
    return len({record.provenance.tested["fingerprint"] for record in records}) == 1


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
