"""A person with a browser: opens pages of the playground and watches them all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

FAILURES = Path(__file__).parent / "failures"
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
CUT_BY_A_RELOAD = ["AbortError", "signal is aborted", "Connection errored out", "404: Not Found"]  # streams of events
_KEEP_ONCE = """kept => {
  if (sessionStorage.getItem('kept-before')) return;
  for (const [name, text] of Object.entries({...kept, 'kept-before': 'yes'})) sessionStorage.setItem(name, text);
}"""
PATIENCE_SECONDS = 60  # for what a slow computer may take; nothing waits so long when all is well

expect.set_options(timeout=PATIENCE_SECONDS * 1000)


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
        self,
        width: int = 1280,
        height: int = 900,
        *,
        dark: bool = False,
        at: str = "",
        wait: bool = True,
        tab: str = "Chat",
        kept: Mapping[str, str] | None = None,
    ) -> Page:
        """The page at a path such as "?tab=fit" or an address, open on a tab in a window of this size.

        wait False returns as soon as the document is there; else what the tab needs is filled in, too.
        kept: what the browser's tab has kept of a visit before this one, by name.
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
        if kept:
            context.add_init_script(f"({_KEEP_ONCE})({json.dumps(dict(kept))})")
        page = context.new_page()
        self._watch(page)
        page.goto(at if at.startswith("http") else f"{self._address}/{at}", wait_until="domcontentloaded")
        if wait:
            self.open_tab(page, tab)
        return page

    def open_tab(self, page: Page, tab: str = "Chat") -> None:
        """Go to a tab of a page that has just opened, and wait until nothing there redraws by itself any more."""
        page.wait_for_function("window.chatIsOpen && window.compareIsOpen")  # what was before is back
        page.get_by_role("tab", name=tab, exact=True).click()
        if tab == "Chat":
            expect(page.locator("#chat-memory .gp-memory-head b").first).to_be_attached()
        elif tab == "Compare":
            expect(page.locator("#compare-dial .gp-handle")).to_have_count(2)

    def reload(self, page: Page) -> None:
        """As a person does it, back on the tab that was open.

        The page says of what it then lets go of that it was cut off.
        """
        self.expected += CUT_BY_A_RELOAD
        page.reload(wait_until="domcontentloaded")

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


def without_dice(page: Page) -> None:
    """Temperature 0: the starter then says that it is 4, and ends."""
    page.get_by_role("button", name="Sampling settings").click()
    temperature = page.get_by_role("spinbutton", name="Temperature")
    temperature.fill("0")
    temperature.press("Tab")
