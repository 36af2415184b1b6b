"""What every journey shares: the real playground in a process of its own, and a real Chromium to use it with.

Every page is watched while it is used: a request that would leave this computer, an error in the browser's console or
in the page's own code fails the test, whatever the test was about. A failed test leaves a picture in `failures/`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from tests.e2e.visitor import CHROMIUM_FLAGS, Visitor
from tests.support.playground_process import PlaygroundProcess

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


FAILED = pytest.StashKey[bool]()


# --- the playground ---


@pytest.fixture(scope="session")
def playground_process(
    chromium: str, starter: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PlaygroundProcess]:
    """One playground for all journeys: the starter model on its disk, no Hub to ask."""
    with PlaygroundProcess(tmp_path_factory.mktemp("home")) as running:
        yield running


# --- the browser ---


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's path, from PLAYGROUND_TEST_CHROMIUM or by its usual names."""
    named = os.environ.get("PLAYGROUND_TEST_CHROMIUM")
    path = named or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if path and os.access(path, os.X_OK):
        return path
    missing = f"The journeys need Chromium and {f'{named} is none' if named else 'none was found'}."
    if os.environ.get("PLAYGROUND_TEST_BROWSER") == "required":
        pytest.fail(missing)
    pytest.skip(f"{missing} Install it, or name it in PLAYGROUND_TEST_CHROMIUM.")


# For each file anew: while Playwright is open, nothing else in this process can run an event loop.
@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(chromium: str, playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
    yield browser
    browser.close()


@pytest.fixture
def visit(request: pytest.FixtureRequest, browser: Browser, playground_process: PlaygroundProcess) -> Iterator[Visitor]:
    """`visit(width, height, dark=…)` opens the playground in a fresh context; what it met is judged at the end."""
    visitor = Visitor(browser, playground_process.address)
    printed = len(playground_process.output)
    yield visitor
    if request.node.stash.get(FAILED, True):
        visitor.picture(re.sub(r"\W+", "-", request.node.name))
        print(f"The playground printed:\n{playground_process.output[printed:]}")
    visitor.leave()
    assert not visitor.unexpected, visitor.unexpected


@pytest.fixture
def page(visit: Visitor) -> Page:
    """The playground on a desk, in light, with the model picker filled."""
    return visit()
