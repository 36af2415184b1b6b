"""What every journey shares: the real playground in a process of its own, and a real Chromium to use it with.

Every page is watched while it is used: a request that would leave this computer, an error in the browser's console or
in the page's own code fails the test, whatever the test was about. A failed test leaves a picture in `failures/`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playground_process import PlaygroundProcess
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, expect, sync_playwright

FAILURES = Path(__file__).parent / "failures"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",  # nothing can leave, not even once
]
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PATIENCE_SECONDS = 30  # for what a slow computer may take; nothing waits so long when all is well

expect.set_options(timeout=PATIENCE_SECONDS * 1000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
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


class Visitor:
    """Opens pages, each in a browser context of its own as if by another person, and watches them all.

    `expected` holds patterns of console lines that a test causes on purpose.
    """

    def __init__(self, browser: Browser, address: str) -> None:
        self._browser = browser
        self._address = address
        self.contexts: list[BrowserContext] = []
        self.complaints: list[str] = []
        self.expected: list[str] = []

    def __call__(
        self, width: int = 1280, height: int = 900, *, dark: bool = False, at: str = "", wait: bool = True
    ) -> Page:
        """The page at a path such as "?tab=fit" or an address, open in a window of this size.

        wait False returns as soon as the document is there; else the model picker is filled too.
        """
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            accept_downloads=True,
            locale="en-GB",
        )
        context.set_default_timeout(PATIENCE_SECONDS * 1000)
        self.contexts.append(context)
        page = context.new_page()
        self._watch(page)
        page.goto(at if at.startswith("http") else f"{self._address}/{at}", wait_until="domcontentloaded")
        if wait:
            expect(page.locator("#chat-memory .gp-memory-head b").first).to_be_attached()
        return page

    def _watch(self, page: Page) -> None:
        page.on("request", lambda request: self._look_at(request.url))
        page.on("websocket", lambda socket: self._look_at(socket.url))
        page.on("pageerror", lambda error: self.complaints.append(f"error in the page: {error}"))
        page.on("console", self._hear)

    def _look_at(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in LOOPBACK:
            self.complaints.append(f"a request left for {url}")

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"console: {message.text} ({message.location.get('url')})")

    @property
    def unexpected(self) -> list[str]:
        return [said for said in self.complaints if not any(re.search(pattern, said) for pattern in self.expected)]

    def picture(self, name: str) -> None:
        FAILURES.mkdir(exist_ok=True)
        pages = [page for context in self.contexts for page in context.pages]
        for number, page in enumerate(pages, 1):
            page.screenshot(path=FAILURES / f"{name}-{number}.png")

    def leave(self) -> None:
        for context in self.contexts:
            context.close()


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
