"""Data frames and figures of what was measured, for notebooks and README."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vswin.config import family_of_fields

from .. import folders
from ..registry.recipe import Scale
from ..registry.table import Table, Variant
from ..results.comparison import Results, compare, printed_difference, rows_at
from ..results.record import load_details
from ..results.verdicts import Verdict

_PALETTE = "colorblind"


def seeds(tables: Iterable[Table], results: Results) -> pd.DataFrame:
    """One line per run: ``table``, ``row``, ``seed``, ``top1``, ``top5``."""
    return pd.DataFrame(
        [
            {
                "table": table.id,
                "row": variant.title,
                "seed": record.seed,
                "top1": record.top1,
                "top5": record.top5,
            }
            for table in tables
            for variant in rows_at(table, results.scale)
            for record in results.trained(variant)
        ],
        columns=["table", "row", "seed", "top1", "top5"],
    )


def curves(tables: Iterable[Table], results: Results, *, metric: str, smooth: int = 1, every: int = 1) -> pd.DataFrame:
    """A metric of the journal over ``step``, averaged over the last ``smooth`` values, of which every ``every``-th is
    kept: ``table``, ``row``, ``seed``, ``value``. Runs that lack the metric are left out; steps that a journal has lost
    have NaN.
    """
    parts = []
    for table in tables:
        for variant in rows_at(table, results.scale):
            for record in results.trained(variant):
                details = load_details(folders.records(results.scale) / f"{record.name}.json")
                if metric in details.curves:
                    curve = details.curves[metric]
                    values = pd.Series(curve.values).rolling(smooth, min_periods=1).mean()
                    part = pd.DataFrame({"step": curve.steps, "value": values}).iloc[::every]
                    gaps = [step for ends in record.provenance.missing_steps for step in ends]
                    part = pd.concat([part, pd.DataFrame({"step": gaps, "value": np.nan})]) if gaps else part
                    parts.append(part.assign(table=table.id, row=variant.title, seed=record.seed))
    empty = pd.DataFrame(columns=["table", "row", "seed", "step", "value"])
    return pd.concat(parts, ignore_index=True) if parts else empty


def effects(tables: Iterable[Table], results: Results) -> pd.DataFrame:
    """Top-1 against the block's baseline: ``table``, ``row``, ``difference``, ``half`` (95 %, seeds and videos; NaN for
    one seed), ``verdict``, and the difference of the printed numbers as ``paper``.
    """
    content = []
    for table in tables:
        for row in compare(table, results):
            if row.difference is None:
                continue
            # at scale paper a row has a verdict on its number, too
            judgement = row.difference_verdict if results.scale is Scale.PAPER else row.verdict
            printed = printed_difference(row)
            content.append(
                {
                    "table": table.id,
                    "row": row.variant.title,
                    "difference": row.difference.mean,
                    "half": row.difference.half() or np.nan,
                    "verdict": judgement.verdict.value if judgement else "",
                    "paper": np.nan if printed is None else printed,
                }
            )
    return pd.DataFrame(content, columns=["table", "row", "difference", "half", "verdict", "paper"])


def draw_effects(frame: pd.DataFrame) -> Figure:
    """``effects`` as points with intervals, a panel per table, and the paper's as diamonds; verdicts go by p."""
    names = list(dict.fromkeys(frame["table"]))
    heights = [int((frame["table"] == name).sum()) for name in names]
    palette = sns.color_palette(_PALETTE)
    colours = {
        Verdict.AGREES: palette[2],
        Verdict.DISAGREES: palette[3],
        Verdict.UNDERPOWERED: palette[7],
        Verdict.PAPER_CANNOT_TELL: palette[4],
        Verdict.DID_NOT_LEARN: palette[5],
        # the paper has no such row
        "": palette[0],
    }
    figure, axes = plt.subplots(
        len(names),
        1,
        figsize=(8, 0.38 * sum(heights) + 0.75 * len(names) + 0.5),
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": [height + 0.6 for height in heights]},
    )
    for axis, name in zip(axes[:, 0], names, strict=True):
        part = frame[frame["table"] == name].iloc[::-1].reset_index(drop=True)
        for verdict, group in part.groupby("verdict"):
            half = group["half"].fillna(0)
            axis.errorbar(
                group["difference"],
                group.index,
                xerr=half,
                fmt="o",
                color=colours[str(verdict)],
                capsize=3,
                markersize=5,
            )
        axis.plot(part["paper"], part.index, "D", color="0.2", markerfacecolor="none", markersize=6)
        axis.axvline(0, color="0.4", linewidth=1)
        axis.set_yticks(range(len(part)), part["row"])
        axis.set(ylim=(-0.7, len(part) - 0.3))
        axis.set_title(name, loc="left", fontsize=10)
        axis.grid(axis="x", color="0.9")
        sns.despine(ax=axis, left=True)
        axis.tick_params(left=False)
    axes[-1, 0].set_xlabel("top-1 against the block's baseline, points (95 % over seeds and test videos)")
    used = [verdict for verdict in colours if (frame["verdict"] == verdict).any()]
    handles = [Line2D([], [], marker="o", linestyle="", color=colours[verdict]) for verdict in used]
    handles.append(Line2D([], [], marker="D", linestyle="", color="0.2", markerfacecolor="none"))
    figure.legend(
        handles,
        [*(verdict or "not in the paper" for verdict in used), "the paper's"],
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=len(handles),
        frameon=False,
    )
    figure.tight_layout()
    return figure


def costs(tables: Iterable[Table], results: Results) -> pd.DataFrame:
    """Cost and accuracy of what was trained, once each.

    Columns: ``row``, ``model``, ``top1`` (mean), ``low`` and ``high`` (95 % over seeds), ``gflops`` of a view in the
    paper's convention, ``params`` in millions.
    """
    content: dict[tuple[str, str], dict[str, object]] = {}
    for table in tables:
        for row in compare(table, results):
            if row.trained and row.top1:
                record = row.trained[0]
                content.setdefault(
                    (record.signature, record.protocol),
                    {
                        "row": f"{table.id}: {row.variant.label}",
                        "model": family_of_fields(record.recipe["model"]),
                        "top1": row.top1.mean,
                        "low": np.nan if row.top1.low is None else row.top1.low,
                        "high": np.nan if row.top1.high is None else row.top1.high,
                        "gflops": record.flops / 1e9,
                        "params": record.params / 1e6,
                    },
                )
    return pd.DataFrame(list(content.values()), columns=["row", "model", "top1", "low", "high", "gflops", "params"])


def draw_costs(frame: pd.DataFrame) -> Figure:
    """Top-1 over FLOPs of a view and over parameters; bars are 95 % over seeds."""
    scaled = frame.assign(
        **{f"{name}, {unit}": frame[column] * factor for column, (name, unit, factor) in _units(frame).items()}
    )
    models = list(dict.fromkeys(frame["model"]))
    looks = dict(zip(models, zip(sns.color_palette(_PALETTE), "osD^vP", strict=False), strict=False))
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True)
    for axis, label in zip(axes, list(scaled.columns)[-2:], strict=True):
        for model, (colour, marker) in looks.items():
            part = scaled[scaled["model"] == model]
            axis.errorbar(
                part[label],
                part["top1"],
                yerr=[(part["top1"] - part["low"]).fillna(0), (part["high"] - part["top1"]).fillna(0)],
                fmt=marker,
                color=colour,
                elinewidth=1,
                alpha=0.85,
                label=model,
            )
        # from one size of model to the next is a factor, between variants of one size a difference
        axis.set(xscale="log" if scaled[label].max() > 10 * scaled[label].min() else "linear", xlabel=label)
        axis.grid(color="0.92")
        sns.despine(ax=axis)
    axes[0].set_ylabel("top-1, percent")
    axes[0].set_ylim(max(0, frame["top1"].min() - 15), min(102, frame["top1"].max() + 12))
    axes[1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure


def _units(frame: pd.DataFrame) -> dict[str, tuple[str, str, float]]:
    """By column of ``costs``: what it is, in a unit that makes whole numbers of it, and the factor to that unit."""
    small_flops, small_params = (bool(frame[column].max() < 1) for column in ("gflops", "params"))
    return {
        "gflops": ("FLOPs of a view", "millions", 1e3) if small_flops else ("FLOPs of a view", "billions", 1.0),
        "params": ("parameters", "thousands", 1e3) if small_params else ("parameters", "millions", 1.0),
    }


def draw_curves(frame: pd.DataFrame, *, label: str, legend: str = "upper right") -> Figure:
    """``curves`` of several tables, a panel each: the mean over seeds, the band from the lowest to the highest seed.

    The line of a row has a gap where a seed has lost steps: the mean there is that of fewer seeds, or of none.
    Tables with fewer than two rows have nothing to compare and are left out; ``legend`` is where curves leave room.
    """
    rows = frame.groupby("table", sort=False)["row"].nunique()
    names = list(rows[rows > 1].index)
    columns = min(2, max(1, len(names)))
    lines = max(1, -(-len(names) // columns))
    figure, axes = plt.subplots(lines, columns, figsize=(4.8 * columns, 3.1 * lines), sharey=True, squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    for axis, name in zip(axes.flat, names, strict=False):
        part = frame[frame["table"] == name]
        sns.lineplot(
            part,
            x="step",
            y="value",
            hue="row",
            style="row",
            palette=_PALETTE if part["row"].nunique() <= 10 else "viridis",
            errorbar=("pi", 100),
            err_kws={"alpha": 0.15},
            ax=axis,
        )
        _break_lines(axis, part)
        axis.set_title(name, loc="left", fontsize=10)
        axis.set(xlabel="step", ylabel=label)
        axis.grid(color="0.92")
        axis.legend(title="", frameon=False, fontsize=7, loc=legend)
        sns.despine(ax=axis)
    figure.tight_layout()
    return figure


def _break_lines(axis: Axes, part: pd.DataFrame) -> None:
    """Break the line of each row of ``part`` where its values are missing, which seaborn draws a line across."""
    for row, line in zip(part["row"].unique(), axis.get_lines(), strict=False):
        lost = part[(part["row"] == row) & part["value"].isna()].sort_values(["seed", "step"])["step"].to_numpy()
        steps, values = (np.asarray(data, dtype=float) for data in line.get_data())
        for first, last in zip(lost[::2], lost[1::2], strict=True):
            values[(steps >= first) & (steps <= last)] = np.nan
            place = np.searchsorted(steps, first)
            steps, values = np.insert(steps, place, first), np.insert(values, place, np.nan)
        line.set_data(steps, values)


def confusion(variant: Variant, results: Results) -> tuple[pd.DataFrame, int] | None:
    """Test videos of a class (row) taken for a class (column), percent of the row, over all seeds, and how many seeds;
    None where nothing was measured. Broken videos were taken for nothing and are left out.
    """
    records = results.trained(variant)
    if not records:
        return None
    classes = list(records[0].provenance.tested["classes"])
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for record in records:
        details = load_details(folders.records(results.scale) / f"{record.name}.json")
        taken = details.classes[~details.broken, 0]
        np.add.at(counts, (details.labels[~details.broken], taken), 1)
    shares = 100 * counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    return pd.DataFrame(shares, index=classes, columns=classes), len(records)


def draw_confusions(variants: Sequence[Variant], results: Results) -> Figure:
    """``confusion`` of several rows side by side; rows of the table that were not run are left out."""
    found = {variant: item for variant in variants if (item := confusion(variant, results)) is not None}
    size = 0.42 * max((len(shares) for shares, _ in found.values()), default=1) + 1.2
    columns = min(3, max(1, len(found)))
    lines = -(-max(1, len(found)) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(columns * size + 0.8, lines * (size + 0.3)), squeeze=False)
    for axis in axes.flat[len(found) :]:
        axis.axis("off")
    for number, (axis, (variant, (shares, seeds))) in enumerate(zip(axes.flat, found.items(), strict=False)):
        _draw_shares(axis, shares, ylabel="class" if number % columns == 0 else "")
        axis.set_title(f"{variant.label}, {seeds} seed{'s' * (seeds > 1)}", fontsize=10)
    figure.tight_layout()
    return figure


def _draw_shares(axis: Axes, shares: pd.DataFrame, *, ylabel: str) -> None:
    few = len(shares) <= 16
    sns.heatmap(
        shares,
        ax=axis,
        cmap="Blues",
        vmin=0,
        vmax=100,
        square=True,
        annot=few,
        fmt=".0f",
        annot_kws={"fontsize": 7},
        cbar=False,
        linewidths=0.5 if few else 0,
        yticklabels=bool(ylabel),
    )
    axis.set(xlabel="taken for", ylabel=ylabel)
    axis.tick_params(axis="both", labelsize=7, length=0)
