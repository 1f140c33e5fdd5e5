"""Forecasts count what is known and say where the rest is from."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.cli.main import app
from experiments.launch import forecast as forecasts
from experiments.launch.forecast import (
    Actual,
    Basis,
    NothingMeasuredError,
    Place,
    Rate,
    forecast,
    given_rate,
    measured_rate,
    total,
    work,
)
from experiments.registry.catalogue import Experiment, experiments, find_experiment, find_table, find_variant
from experiments.registry.cost import view_cost
from experiments.registry.recipe import Scale
from experiments.runs.run import existing
from tests.support.command_line import Vswin

HOURLY = Rate(1e15 / 3600, Basis.GIVEN, "1e15 FLOPs an hour")


def experiment(name: str, scale: Scale = Scale.PAPER) -> Experiment:
    return find_experiment(scale, find_variant(name))


def test_work_of_the_paper_by_hand(home: Path) -> None:
    """Section 4.1: 240k and 20k videos, batches of 64, 30 epochs; 4x3 views; a validation every five epochs."""
    [swin_t] = work([experiment("table1/swin-t")])
    assert (swin_t.steps, swin_t.clips) == (30 * 3750, 30 * 240_000)
    assert swin_t.views == 20_000 * (12 + 6)
    per_view = view_cost(experiment("table1/swin-t").recipe).flops
    assert swin_t.flops == per_view * (3 * 30 * 240_000 + 20_000 * 18)
    # weights and two moments, three times, and the weights alone
    assert 10 * 4 * 28.1e6 < swin_t.disk < 13 * 4 * 28.2e6 + 112_500 * 500

    # one training, two tests
    [large] = work([experiment("table1/swin-l-384-4x3")])
    assert large.views == 20_000 * (12 + 50 + 6)


def test_runs_side_by_side_take_as_long_as_the_fullest_place(home: Path) -> None:
    chosen = experiments(Scale.PAPER, [find_table("table8"), find_table("table9")])
    assert len(chosen) == 3

    def wall(place: Place, seeds: int) -> float:
        estimates = forecast(chosen, seeds=seeds, place=place, rate=HOURLY, actual={})
        return total(estimates, place=place).wall_hours

    one = wall(Place(name="x"), 1)
    assert wall(Place(name="x"), 5) == one
    assert wall(Place(name="x", at_once=1), 1) == pytest.approx(3 * one)
    assert wall(Place(name="x", at_once=2), 1) == pytest.approx(2 * one)
    assert wall(Place(name="x", at_once=4), 3) == pytest.approx(3 * one)
    assert wall(Place(name="x", devices=8), 1) == pytest.approx(one / 8)


def test_a_throughput_is_of_swin_t_and_others_follow_by_their_flops(home: Path) -> None:
    rate = given_rate(50, scale=Scale.PAPER)
    flops = view_cost(experiment("table4/joint").recipe).flops
    assert rate.flops == 3 * flops * 50
    small, big = forecast(
        [experiment("table4/joint"), experiment("table7/ratio-1-1k")],
        seeds=1,
        place=Place(name="x"),
        rate=rate,
        actual={},
    )
    training = 30 * 240_000 / 50 / 3600
    assert small.device_hours == pytest.approx(training * (1 + 18 * 20_000 / (3 * 30 * 240_000)))
    assert big.device_hours / small.device_hours == pytest.approx(big.work.flops / small.work.flops)


def test_what_ran_is_the_rate_of_what_will(home: Path) -> None:
    chosen = experiments(Scale.TINY, [find_table("table6")])
    one, other, _ = work(chosen)
    signature, second = (item.recipe.signature for item in chosen[:2])
    actual = {signature: Actual(2, 1.0, 1.0), second: Actual(1, 3.0, 3.0)}
    rate = measured_rate(chosen, actual)
    assert rate is not None
    assert rate.flops == pytest.approx((one.flops + other.flops / 3) / 2 / 3600)
    assert (rate.basis, rate.source) == (Basis.MEASURED, "the median of 3 finished runs of 2 rows")
    assert measured_rate(chosen, {}) is None


def vswin_here(*arguments: str, code: int = 0) -> str:
    """The command line in this process, which has torch already."""
    answer = CliRunner().invoke(app, list(arguments))
    assert answer.exit_code == code, answer.output
    return answer.stdout


def test_without_a_measurement_it_says_that_it_guesses(home: Path) -> None:
    content = json.loads(vswin_here("forecast", "table8", "table9", "--scale", "paper", "--seeds", "5", "--json"))
    assert content["rate"]["basis"] == "assumed"
    # the baseline is counted in both tables, and once in all
    assert {name: item["runs"] for name, item in content["tables"].items()} == {"table8": 10, "table9": 10}
    assert content["total"]["runs"] == 15
    assert "assumed, a tenth of the peak of an A100" in vswin_here("forecast", "table8", "--scale", "paper")
    with pytest.raises(NothingMeasuredError, match="no run at scale paper has measured anything yet"):
        CliRunner().invoke(
            app, ["forecast", "table8", "--scale", "paper", "--throughput", "measured"], catch_exceptions=False
        )
    vswin_here("forecast", "--throughput", "0", code=2)


def test_forecast_and_what_it_took(vswin: Vswin, home: Path) -> None:
    # of a row that starts from nothing, so that nothing else was measured
    shutil.rmtree(home / "runs")
    vswin("run", "baselines/perceiver", "--scale", "tiny")
    content = json.loads(vswin_here("forecast", "baselines", "--scale", "tiny", "--json"))
    assert content["rate"]["basis"] == "measured"
    [ran] = [item for item in content["experiments"] if item["actual"]]
    assert ran["variants"] == ["baselines/perceiver"]
    assert ran["actual"]["done"] == 1
    # the only run is what the rate is from
    assert ran["device_hours"] == pytest.approx(ran["actual"]["device_hours"])
    assert content["total"]["done"] == 1
    assert "(100%)" in vswin_here("forecast", "baselines", "--scale", "tiny")
    # the journal of a run that is not done is a measurement, too
    found = experiment("baselines/perceiver", Scale.TINY)
    assert forecasts._so_far(next(existing([found])))
