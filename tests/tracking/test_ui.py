"""MLflow's own pages in a real browser: a table opened by the address that ``vswin ui`` prints, and compared."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from experiments.registry.catalogue import experiments, find_table
from experiments.registry.recipe import Scale
from experiments.results.comparison import Results
from experiments.results.pages import page as tables_page
from experiments.runs.run import Run
from experiments.tracking.card import card
from experiments.tracking.groups import color_of, group_of
from tests.support.command_line import vswin_command
from tests.support.made_up_runs import make_up_run
from tests.support.mlflow_pages import SECONDS, a_page, addresses
from tests.support.mlflow_points import client
from tests.support.patience import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def page() -> Iterator[Page]:
    expect.set_options(timeout=1000 * SECONDS)
    with a_page() as page:
        yield page


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VSWIN_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "runs"


@pytest.fixture
def opened(runs: Path) -> Iterator[list[str]]:
    """The addresses that ``vswin ui table4`` prints: runs by row, the rows, the runs one by one."""
    for experiment in experiments(Scale.TINY):
        for seed in range(2):
            make_up_run(experiment.name, seed=seed, steps=20)
    subprocess.run(vswin_command("sync", "--scale", "tiny"), check=True)
    with addresses("table4", "--scale", "tiny") as found:
        yield found


def run_names(page: Page) -> list[str]:
    return sorted(page.locator("a[href*='/runs/']").filter(has_text="seed").all_inner_texts())


def expect_rows(page: Page, expected: Callable[[list[str]], bool]) -> None:
    """Wait until the runs shown are as ``expected``: the page says "0 matching runs" while it asks for them."""
    eventually("the page shows the runs", lambda: expected(run_names(page)), seconds=SECONDS)


ROWS = sorted(
    f"{variant.title}, seed {seed} (table4)" for variant in find_table("table4").variants for seed in range(2)
)
GROUPS = [group_of("table4", [variant.id], Scale.TINY) for variant in find_table("table4").variants]


def test_table_4_is_opened_filtered_and_compared(page: Page, opened: list[str]) -> None:
    view, _, filtered = opened
    # the saved view: exactly the table's rows, grouped over seeds
    page.goto(view)
    for group in GROUPS:
        expect(page.get_by_text(f"Group: {group}")).to_be_visible()
    # in the paper's order, each in a colour of its own
    shown = page.locator("[role=gridcell]").filter(has_text="Group: ").all_inner_texts()
    assert [cell.splitlines()[:2] for cell in shown] == [
        [color_of("table4", group), f"Group: {group}"] for group in GROUPS
    ]
    expect(page.get_by_text("6 matching runs")).to_be_visible()
    expect_rows(page, lambda shown: shown == ROWS)
    expect(page.get_by_text("table4.differs")).to_be_visible()

    # the bare filter shows the same, one by one
    page.goto("about:blank")
    page.goto(filtered)
    expect(page.get_by_text("6 matching runs")).to_be_visible()
    expect_rows(page, lambda shown: shown == ROWS)

    # two of them compared: what differs between them is what the table isolates
    boxes = page.locator(".ag-selection-checkbox input[type=checkbox]")
    boxes.nth(0).check()
    boxes.nth(2).check()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_text(re.compile("Comparing 2 Runs"))).to_be_visible()
    expect(page.get_by_text("model.attention").first).to_be_visible()
    expect(page.get_by_text("train/loss").first).to_be_visible()


def test_the_filter_still_works_among_a_thousand_runs(page: Page, runs: Path, opened: list[str]) -> None:
    chosen = experiments(Scale.TINY)
    store = client()
    [experiment_id] = [item.experiment_id for item in store.search_experiments() if item.name == "vswin-tiny"]
    for number in range(1000):
        experiment = chosen[number % len(chosen)]
        run = Run(experiment, 2 + number // len(chosen))
        told = card(run)
        store.create_run(experiment_id, run_name=told.name, tags=dict(told.tags))
    labels = [variant.title for variant in find_table("table4").variants]
    page.goto(opened[0])
    for group in GROUPS:
        expect(page.get_by_text(f"Group: {group}").first).to_be_visible()
    page.goto("about:blank")
    page.goto(opened[2])
    # the page shows the first ones and scrolls
    expect_rows(page, lambda shown: len(shown) > 10 and {name.partition(",")[0] for name in shown} == set(labels))


def test_the_committed_records_are_shown_in_a_throw_away_store(page: Page, runs: Path) -> None:
    with addresses("table6", "--records") as (view, rows, _):
        page.goto(view)
        for variant in find_table("table6").variants:
            expect(page.get_by_text(f"Group: {group_of('table6', [variant.id], Scale.MINI)}")).to_be_visible()
        expect(page.get_by_text("15 matching runs")).to_be_visible()
        # the other view is the table itself, in the paper's order
        page.goto("about:blank")
        page.goto(rows)
        expect(page.get_by_text("3 matching runs")).to_be_visible()
        printed = tables_page(find_table("table6"), Results.load(Scale.MINI)).cells
        expected = [f"{row['']}: {row['top-1, ours (mini)']}" for _, row in printed.iterrows()]
        links = page.locator("a[href*='/runs/']").filter(has_text=": ")
        eventually("the rows are shown", lambda: links.all_inner_texts() == expected, seconds=SECONDS)
        for difference in printed["difference"]:
            expect(page.get_by_text(difference, exact=True)).to_be_visible()
    # nothing is left of it, and the user's own runs folder was not touched
    assert not runs.exists()
