"""MLflow's pages in a real browser; as a command, the README's picture of a table:

``python -m tests.support.mlflow_pages table6 results/pictures/mlflow-table6.png``
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.support.command_line import vswin_command
from tests.support.patience import eventually

SECONDS = 120
CHROMIUM = "/usr/bin/chromium"


@contextlib.contextmanager
def a_page(*, width: int = 1600, height: int = 900) -> Iterator[Page]:
    """A page of a fresh browser that reaches nothing but what it is sent to."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        page = browser.new_page(viewport={"width": width, "height": height})
        # MLflow opens a chat window the first time it sees a browser
        page.add_init_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
        page.set_default_timeout(1000 * SECONDS)
        yield page
        browser.close()


@contextlib.contextmanager
def addresses(*arguments: str) -> Iterator[list[str]]:
    """The addresses that ``vswin ui`` prints, while it runs."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as output:
            # what it prints is for a terminal: not to be folded
            server = subprocess.Popen(vswin_command("ui", *arguments), stdout=output, stderr=output)
        try:
            eventually(
                "all addresses are printed", lambda: len(_found(log)) == 3 or server.poll() is not None, seconds=600
            )
            if server.poll() is not None:
                raise RuntimeError(log.read_text())
            yield _found(log)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()


def _found(log: Path) -> list[str]:
    return re.findall(r"^http://\S+$", log.read_text(), re.M)


def picture(table: str, file: Path) -> None:
    """Table and charts of ``table``, as its saved view opens them."""
    with addresses(table, "--records") as (view, *_), a_page(width=1440, height=810) as page:
        page.goto(f"{view}&compareRunsMode=CHART")
        page.get_by_text("matching runs").wait_for()
        page.get_by_text("Exit shared view").first.wait_for()
        page.locator("svg.main-svg").first.wait_for()
        # the lines come one after another
        page.wait_for_timeout(8_000)
        file.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=file)


if __name__ == "__main__":
    picture(sys.argv[1], Path(sys.argv[2]))
