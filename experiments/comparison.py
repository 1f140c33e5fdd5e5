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

from . import folders
from .collect import load_records
from .recipe import Scale
from .record import Kind, Record, RecordError, load_right
from .registry import Table, Variant, find_variant
from .statistics import Estimate, Summary, holm, summarise
from .verdicts import NOT_RUN, TEST_VIDEOS, Judgement, against_direction, against_printed, of_published_weights

Key = TypeVar("Key", bound=Hashable)
# right(record, k) [videos]: which test videos have their label among the k highest scores
Right = Callable[[Record, int], NDArray[np.bool_]]
# Without temporal attention: what is no better has shown no sense of time.
CONTROL = "baselines/space-only"


class Floor(StrEnum):
    """What a row may be no better than: its 95 % interval over seeds and videos does not lie above it."""

    GUESSING = "guessing"
    CONTROL = f"the control that cannot see time ({CONTROL})"


@dataclass(frozen=True)
class Results:
    """The records of one scale, found by row."""

    scale: Scale
    records: tuple[Record, ...]
    right: Right

    @classmethod
    def load(cls, scale: Scale) -> Results:
        """Those under ``$VSWIN_RESULTS``; raises RecordError for what is none."""
        folder = folders.records(scale)
        known: dict[tuple[str, int], NDArray[np.bool_]] = {}

        def right(record: Record, k: int) -> NDArray[np.bool_]:
            key = (record.name, k)
            if key not in known:
                known[key] = load_right(folder / f"{record.name}.json", k)
            return known[key]

        return cls(scale, tuple(load_records(scale)), right)

    @cached_property
    def _by_row(self) -> dict[tuple[Kind, str, str], list[Record]]:
        found = defaultdict(list)
        for record in self.records:
            found[record.kind, record.signature, record.protocol].append(record)
        return found

    def _of(self, kind: Kind, variant: Variant) -> list[Record]:
        if self.scale not in variant.scales:
            return []
        recipe = variant.at(self.scale)
        return self._by_row.get((kind, recipe.signature, recipe.protocol_signature), [])

    def trained(self, variant: Variant) -> list[Record]:
        """The records of trainings of ``variant``, by seed: same training, same protocol, same videos.

        Raises RecordError if some were made on other videos: their numbers must not be averaged.
        """
        mine = self._of(Kind.TRAINED, variant)
        if len({tuple(sorted(record.provenance.videos.items())) for record in mine}) > 1:
            raise RecordError(
                f"the records of {variant.id} were made on different videos; keep one kind of {_files(mine)}"
            )
        return sorted(mine, key=lambda record: record.seed or 0)

    def published(self, variant: Variant) -> Record | None:
        """The record of published weights of ``variant``, tested here; None if there is none.

        Raises RecordError where there are several: only one can stand in the table.
        """
        mine = self._of(Kind.PUBLISHED_WEIGHTS, variant)
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
class Row:
    """A row of a table and what was measured of it; None where nothing was, or where nothing can be compared.

    ``videos`` is half the 95 % interval of top-1 over test videos, as against seeds. ``difference`` is top-1 against
    the baseline of the block, ``p`` its p corrected over the table. Verdicts: see ``verdicts``. ``floor``: what it has
    not been shown to be better than, however its difference turned out.
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


@dataclass(frozen=True)
class Pair:
    """Two rows of a block that the paper orders, and whether ours have that order."""

    first: Variant
    second: Variant
    judgement: Judgement


def rows_at(table: Table, scale: Scale) -> tuple[Variant, ...]:
    """What ``table`` shows at ``scale``: the rows that can be run there, at scale paper all."""
    return table.variants if scale is Scale.PAPER else table.at(scale)


def compare(table: Table, results: Results) -> list[Row]:
    """``table``'s rows in the paper's order."""
    variants = rows_at(table, results.scale)
    trained = {variant: results.trained(variant) for variant in variants}
    differences: dict[Variant, Estimate] = {}
    for variant in variants:
        baseline = _baseline(table, variant)
        if baseline and trained[variant] and (found := results.difference(trained[variant], trained[baseline])):
            differences[variant] = found
    corrected = _corrected(differences)
    return [
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


def _row(
    table: Table,
    variant: Variant,
    results: Results,
    *,
    trained: list[Record],
    difference: Estimate | None,
    p: float | None,
) -> Row:
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
    return Row(
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
        floor=_floor(results, trained, own) if own and own.seeds > 1 else None,
    )


def _floor(results: Results, trained: list[Record], own: Estimate) -> Floor | None:
    """What ``trained``, whose top-1 is ``own``, are not shown to be better than; None for the control itself."""
    chance = 100 / trained[0].recipe["model"]["num_classes"]
    if not _is_above(own, chance):
        return Floor.GUESSING
    control = results.trained(find_variant(CONTROL))
    same = {record.provenance.tested["fingerprint"] for record in (*trained, *control)}
    if not control or len(same) > 1 or control[0].signature == trained[0].signature:
        return None
    above = results.difference(trained, control)
    return Floor.CONTROL if above and above.seeds > 1 and not _is_above(above, 0) else None


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
    """How many test videos the paper had; as many as were tested where it does not say."""
    return TEST_VIDEOS.get(record.recipe["data"]["dataset"], record.videos)


def ordering(table: Table, results: Results) -> list[Pair]:
    """Every pair of rows of a block whose numbers the paper prints and that were measured on the same videos."""
    found: list[tuple[Variant, Variant, Estimate]] = []
    shown = rows_at(table, results.scale)
    for block in table.by_block:
        for first, second in itertools.combinations([item for item in block if item in shown and item.paper], 2):
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


def _corrected(differences: Mapping[Key, Estimate]) -> dict[Key, float]:
    ps = {key: difference.p for key, difference in differences.items()}
    known = {key: p for key, p in ps.items() if p is not None}
    return dict(zip(known, holm(list(known.values())), strict=True))


def _baseline(table: Table, variant: Variant) -> Variant | None:
    """What ``variant`` is compared with; None for the baseline itself."""
    baseline = table.baseline_of(variant)
    return None if baseline == variant else baseline


def _files(records: Iterable[Record]) -> str:
    return ", ".join(f"{record.name}.json" for record in records)
