"""Takes pictures of the running page: `python -m scripts.take_pictures`.

Two for README.md, light and dark, and the one that other sites show beside a link to the page.

A playground of its own, with nothing but the starter model, answers the first example of the tab Compare.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import Page, expect, sync_playwright

from playground.resources import asset
from playground.web.server import page_file
from scripts.run_tests import installed_browser
from tests.e2e.visitor import CHROMIUM_FLAGS, Visitor
from tests.support.playground_process import PlaygroundProcess

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
WIDTH, HEIGHT = 1280, 760  # CSS pixels, each one pixel of the picture
LARGEST_BYTES: Final = 300_000
ANSWER_MILLISECONDS: Final = 300_000  # both levels are made on the way


def main() -> int:
    browser_path = installed_browser()
    if browser_path is None:
        print("No Chromium was found; `make test INSTALL=1` installs one.", file=sys.stderr)
        return 1
    with (
        tempfile.TemporaryDirectory() as home,
        PlaygroundProcess(Path(home)) as playground,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=browser_path, args=CHROMIUM_FLAGS) as browser,
    ):
        visit = Visitor(browser, playground.address)
        for look in ("light", "dark"):
            take(visit(WIDTH, HEIGHT, dark=look == "dark", tab="Compare"), DOCS / f"front-{look}.png")
        take(visit(page_file.WIDTH, page_file.HEIGHT, tab="Compare"), asset(page_file.PICTURE))
        visit.leave()
    return 0


def take(page: Page, target: Path) -> None:
    """A comparison of two levels, answered."""
    recorded = page.locator(".gp-recorded")  # has a result, too
    expect(recorded).to_be_visible()
    page.locator("#compare-example-1").click()
    expect(recorded).to_be_hidden()
    expect(page.locator("#compare-result .gp-verdict")).to_be_visible(timeout=ANSWER_MILLISECONDS)
    expect(page.locator("#compare-result .gp-tile").last).to_contain_text("of A’s words", timeout=ANSWER_MILLISECONDS)
    page.mouse.move(0, 0)
    page.evaluate("window.scrollTo(0, 0)")
    page.screenshot(path=target, animations="disabled")
    size = os.path.getsize(target)
    assert size <= LARGEST_BYTES, f"{target.name} has {size} bytes; a README's picture may have {LARGEST_BYTES}"
    print(f"{target.name}: {size} bytes")


if __name__ == "__main__":
    sys.exit(main())
