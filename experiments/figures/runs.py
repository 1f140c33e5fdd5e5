"""Two runs beside each other, as MLflow has them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ..tracking.mirror import metric_history


def parameters_that_differ(runs: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """The parameters in which two of ``runs`` (as ``search_runs`` gives them, by run id) differ, a column per run."""
    names = [name for name in runs.columns if name.startswith("params.")]
    both = runs.loc[[first, second], names].T
    both.index = pd.Index([name.removeprefix("params.") for name in names], name="parameter")
    both.columns = pd.Index(runs.loc[[first, second], "name"])
    return both[both.iloc[:, 0] != both.iloc[:, 1]]


def draw_histories(uri: str, runs: pd.DataFrame, *, metrics: list[str]) -> Figure:
    """A panel per metric that any of ``runs`` (as ``search_runs`` gives them) has, a line per run."""
    found = {
        metric: [metric_history(uri, str(run), metric).assign(run=name) for run, name in runs["name"].items()]
        for metric in metrics
    }
    histories = {metric: pd.concat(parts) for metric, parts in found.items() if any(len(part) for part in parts)}
    figure, axes = plt.subplots(1, len(histories), figsize=(4.6 * len(histories), 3.2), squeeze=False)
    for axis, (metric, history) in zip(axes[0], histories.items(), strict=True):
        sns.lineplot(
            history.reset_index(drop=True), x="step", y="value", hue="run", style="run", palette="colorblind", ax=axis
        )
        axis.set_title(metric, loc="left", fontsize=10)
        axis.set(xlabel="step", ylabel="")
        axis.grid(color="0.92")
        axis.legend(title="", frameon=False, fontsize=8)
        sns.despine(ax=axis)
    figure.tight_layout()
    return figure
