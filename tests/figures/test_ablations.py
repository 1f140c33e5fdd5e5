"""Figures of what was measured: every verdict that a difference can have is drawn."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from experiments.figures.ablations import draw_effects, effects
from experiments.registry.catalogue import tables_at
from experiments.registry.recipe import Scale
from experiments.results.comparison import Results, compare
from experiments.results.verdicts import Verdict


def test_every_verdict_on_a_difference_has_a_colour_and_the_papers_is_drawn() -> None:
    about_numbers = (Verdict.REPRODUCED, Verdict.NOT_REPRODUCED, Verdict.NOT_RUN)
    verdicts = [*(verdict for verdict in Verdict if verdict not in about_numbers), ""]
    frame = pd.DataFrame(
        {
            "table": "table4",
            "row": [f"row {number}" for number in range(len(verdicts))],
            "difference": np.linspace(-2, 2, len(verdicts)),
            "half": 1.0,
            "verdict": [str(verdict) for verdict in verdicts],
            "paper": [-1.0, 1.0, 0.6, 0.3, 0.0, np.nan],
        }
    )
    figure = draw_effects(frame)
    [legend] = figure.legends
    told = [text.get_text() for text in legend.get_texts()]
    assert told == [*(str(verdict) for verdict in verdicts[:-1]), "not in the paper", "the paper's"]
    [axis] = figure.axes
    [papers] = [line for line in axis.lines if line.get_marker() == "D"]
    assert np.nansum(papers.get_xdata()) == pytest.approx(0.9)
    plt.close(figure)


def test_the_committed_effects_are_drawn() -> None:
    results = Results.load(Scale.MINI)
    tables = tables_at(Scale.MINI)
    found = effects(tables, results)
    judged = [row for table in tables for row in compare(table, results) if row.difference is not None]
    assert len(found) == len(judged)
    plt.close(draw_effects(found))
