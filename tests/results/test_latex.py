"""Tables fit a page of one column and a column of two, as a real TeX sets them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from experiments.registry.catalogue import find_table, tables_at
from experiments.registry.recipe import Scale
from experiments.results import pages as tables
from experiments.results.comparison import Results
from experiments.results.latex import Width, escape
from experiments.tools.bench_tables import write_records
from tests.support.places import CLONE


def test_signs_are_those_of_tex() -> None:
    assert escape("a_b & 5 %") == r"a\_b \& 5 \%"
    assert escape("-1.2 ± 0.3") == r"$-$1.2 $\pm$ 0.3"
    assert escape("Swin-B, 4-5") == "Swin-B, 4-5"


@pytest.mark.parametrize("scale", [Scale.MINI, Scale.PAPER])
@pytest.mark.parametrize("width", list(Width))
def test_latex_is_sound(scale: Scale, width: Width, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a TeX: what it stumbles over most is counted."""
    monkeypatch.setenv("VSWIN_RESULTS", str(CLONE / "results"))
    results = Results.load(scale)
    for table in tables_at(scale):
        text = tables.to_latex(tables.page(table, results), width)
        code = re.sub(r"^%.*$", "", text, flags=re.MULTILINE)
        body = re.sub(r"\\\\|\\[&%$#_{}]", "", code)
        assert body.count("{") == body.count("}")
        assert body.count("$") % 2 == 0
        for opened in re.findall(r"\\begin\{(\w+)\}", code):
            assert f"\\end{{{opened}}}" in code
        assert not re.search(r"[^\x00-\x7f]", code), set(re.findall(r"[^\x00-\x7f]", code))
        # what is long stands after the float, and runs are not printed at all
        float_, _, rest = code.partition(r"\end{table}")
        assert "Protocol" not in float_
        assert "Protocol" in rest or not table.at(scale)


def test_a_verdict_has_its_sign_and_a_difference_its_minus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSWIN_RESULTS", str(CLONE / "results"))
    page = tables.page(find_table("table4"), Results.load(Scale.MINI))
    [line] = [line for line in tables.to_latex(page, Width.PAGE).splitlines() if line.startswith("split")]
    assert r"42.5 & $\pm$ 2.0 & $-$29.4 & $\pm$ 5.0 & $<$0.001 & not learnt & 76.4 & $-$2.4" in line
    [line] = [line for line in tables.to_latex(page, Width.COLUMN).splitlines() if line.startswith("factorized")]
    assert r"& $\emptyset$ & 78.5 & $-$0.3" in line
    assert any(line.startswith("% split: `") for line in tables.to_latex(page, Width.PAGE).splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("records", ["committed", "all of the paper's"])
@pytest.mark.parametrize("width", list(Width))
def test_tex_finds_room_for_every_table(
    records: str, width: Width, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line sticks out by more than a point and no table is higher than its page."""
    assert shutil.which("pdflatex"), "apt-get install texlive-latex-base texlive-latex-recommended"
    if records == "committed":
        monkeypatch.setenv("VSWIN_RESULTS", str(CLONE / "results"))
    else:
        write_records(Scale.PAPER, count=200)
    texts = []
    for scale in (Scale.PAPER, Scale.MINI):
        results = Results.load(scale)
        texts += [tables.to_latex(tables.page(table, results), width) for table in tables_at(scale)]
    option = "[twocolumn]" if width is Width.COLUMN else ""
    document = rf"\documentclass{option}{{article}}\usepackage{{array,booktabs}}\begin{{document}}"
    (tmp_path / "all.tex").write_text(document + "\n\\clearpage\n".join(texts) + r"\end{document}")
    for _ in range(2):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"], cwd=tmp_path, capture_output=True
        )
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    log = (tmp_path / "all.log").read_text(errors="replace")
    assert [found for found in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log) if float(found) > 1] == []
    assert re.findall(r"Overfull \\vbox.*|Float too large.*|undefined.*", log) == []
    assert log.count("Output written") == 1
