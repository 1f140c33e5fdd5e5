"""The report is one page that fetches nothing, fits every screen, and says what the records say."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments import folders
from experiments.cli.main import app
from experiments.registry.catalogue import find_variant, tables_at
from experiments.registry.recipe import Scale
from experiments.results import collect
from experiments.results.comparison import Results, compare
from experiments.results.drawings import Axis, number
from experiments.results.report import report
from tests.support.finished_runs import finished_run
from tests.support.mlflow_pages import a_page
from tests.support.places import CLONE

MINI = CLONE / "results" / "mini"


@pytest.fixture(scope="module")
def measured() -> Iterator[Results]:
    """The committed records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VSWIN_RESULTS", str(MINI.parent))
        yield Results.load(Scale.MINI)


@pytest.fixture(scope="module")
def committed(measured: Results) -> str:
    """The report on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VSWIN_RESULTS", str(MINI.parent))
        return report(measured, beside=MINI)


def test_axes_have_round_ticks() -> None:
    assert Axis("", 8.0, 100.0).ticks == [20, 40, 60, 80, 100]
    assert Axis("", -0.62, 0.02).ticks == pytest.approx([-0.6, -0.4, -0.2, 0.0])
    assert Axis("", 0, 200).at(50) == "25.00%"
    alone = Axis.around("", [75.0])
    assert alone.low < 75 < alone.high
    assert Axis.around("", [99.9, 100.0], within=(0, 100)).high == 100


def test_numbers_have_real_minus_signs() -> None:
    assert [number(-29.44, sign=True), number(-0.01), number(3, sign=True)] == ["\u221229.4", "0.0", "+3.0"]


def test_every_measured_row_stands_in_its_table_with_verdict_and_links(committed: str, measured: Results) -> None:
    for table in tables_at(Scale.MINI):
        [section] = re.findall(rf'<section id="{table.id}".*?</section>', committed, flags=re.DOTALL)
        rows = compare(table, measured)
        # every seed a dot, once in the figure and never elsewhere
        assert section.count('class="seed" cx="12"') == 1
        assert section.count('class="seed"') - 1 == sum(len(row.trained) for row in rows)
        for name in {record.name for row in rows for record in row.trained}:
            assert (MINI / "runs" / f"{name}.json").exists()
            assert f'href="runs/{name}.json"' in section
        marked = re.findall(r"<td [^>]*-ours-verdict\"[^>]*>(.*?)</td>", section, flags=re.DOTALL)
        for row, cell in zip(rows, marked, strict=False):
            # a control stands against a baseline that the paper does not have: it has no verdict to lose
            judged = row.floor is not None or (row.baseline_floor is not None and row.verdict is not None)
            assert ("did not learn" in cell) == judged
            assert ("its baseline" in cell) == (row.baseline_floor is not None and row.verdict is not None)


def test_verdicts_come_first(committed: str) -> None:
    strip, _, rest = committed.partition("<section")
    assert re.search(r"<strong>\d+</strong><b>✓</b> agrees", strip)
    assert re.search(r"<strong>\d+</strong><b>∅</b> did not learn", strip)
    assert "Nothing is concluded from it or against it." in strip
    assert "the paper cannot tell" in strip
    assert rest.index('id="provenance"') < rest.index('id="checklist"')


class _Outside(HTMLParser):
    """Collects every address that a browser would fetch by itself, and scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe", "object"):
            self.found.append(tag)
        self.found += [f"{tag} {name}" for name, _ in attrs if name in ("src", "srcset", "onclick", "onload")]


def test_nothing_is_fetched(committed: str) -> None:
    parser = _Outside()
    parser.feed(committed)
    assert parser.found == []
    assert "url(" not in committed
    assert "@import" not in committed


def test_text_of_records_is_no_html(home: Path) -> None:
    for seed in range(2):
        list(collect.collect([finished_run(find_variant("table4/joint"), seed=seed, top1=70.0 + seed)]))
    results = Results.load(Scale.MINI)
    spiced = tuple(
        dataclasses.replace(item, provenance=dataclasses.replace(item.provenance, device="<b onclick='x'>GPU</b>"))
        for item in results.records
    )
    found = report(dataclasses.replace(results, records=spiced), beside=folders.results() / "mini")
    assert "&lt;b onclick=&#x27;x&#x27;&gt;GPU&lt;/b&gt;" in found
    assert "<b onclick" not in found


def test_what_was_not_run_is_one_line(home: Path) -> None:
    found = report(Results.load(Scale.PAPER), beside=home)
    names = re.findall(r"Not run: (.*?)\.</p>", found)
    assert names == [", ".join(table.id for table in tables_at(Scale.PAPER))]
    assert "Nothing was run at this scale yet." in found
    assert "gt_table" not in found.partition("</style>")[2]


def test_the_command_says_where_it_is(home: Path) -> None:
    for seed in range(2):
        list(collect.collect([finished_run(find_variant("table4/joint"), seed=seed, top1=70.0 + seed)]))
    answer = CliRunner().invoke(app, ["report"])
    assert answer.exit_code == 0, answer.output
    target = folders.results() / "mini" / "report.html"
    assert target.as_uri() in answer.stdout
    elsewhere = home / "else where" / "r.html"
    answer = CliRunner().invoke(app, ["report", "--output", str(elsewhere), "--json"])
    assert answer.exit_code == 0, answer.output
    [link] = set(re.findall(r'href="([^"]*runs/[^"]*seed0\.json)"', elsewhere.read_text()))
    assert (elsewhere.parent / link).resolve().exists()
    assert CliRunner().invoke(app, ["report", "--scale", "tiny"]).exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(committed: str, tmp_path: Path, width: int, scheme: str) -> None:
    """Nothing sticks out, verdicts are seen at once, and no text is too pale."""
    target = tmp_path / "report.html"
    target.write_text(committed)
    with a_page(width=width, height=900) as page:
        asked: list[str] = []
        wrong: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: wrong.append(message.text))
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(target.as_uri())
        page.wait_for_load_state("networkidle")
        assert asked == [target.as_uri()]
        assert wrong == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for verdict in ("agrees", "did not learn", "the paper cannot tell"):
            box = page.locator(".counts li", has_text=verdict).first.bounding_box()
            assert box is not None
            assert box["y"] + box["height"] < 900
        # tables that are wider than a phone can be scrolled with the keyboard
        assert page.evaluate("[...document.querySelectorAll('.scroll')].every(item => item.tabIndex === 0)")
        pale = page.evaluate(_PALE)
        assert pale == []
        # a mean leads to its records, which unfold
        page.locator("#table4 td a[href^='#records-']").first.click()
        page.locator("#records-table4-joint").wait_for(state="visible")
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 688, "height": 1000})
        assert page.evaluate("document.documentElement.scrollWidth") == 688
        assert page.pdf(prefer_css_page_size=True)[:5] == b"%PDF-"


# Texts whose colour has less than WCAG's contrast of 4.5 against what is behind them.
_PALE = """() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
  const behind = item => { for (; item; item = item.parentElement) {
      const found = parse(getComputedStyle(item).backgroundColor); if (found.length === 3) return found; }
    return [255, 255, 255]; };
  const pale = new Set();
  for (const item of document.querySelectorAll('body *')) {
    if (![...item.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const style = getComputedStyle(item), svg = item instanceof SVGElement;
    const [one, two] = [light(parse(svg ? style.fill : style.color)), light(behind(item))];
    const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (contrast < 4.5) pale.add(`${item.tagName} ${item.className} ${contrast.toFixed(2)}`); }
  return [...pale]; }"""
