"""The playground ended by its service manager while somebody reads: a process of its own, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.test_chat import STORY, ask, wait_until_it_writes
from tests.e2e.visitor import Visitor
from tests.support.playground_process import PlaygroundProcess

CHILDREN_SECONDS = 20  # for a process to be gone, which it is at once


@pytest.fixture
def process(starter: Path, tmp_path: Path) -> Iterator[PlaygroundProcess]:
    """Not the one that all journeys share: this one is ended."""
    with PlaygroundProcess(tmp_path) as running:
        yield running


@pytest.fixture
def page(browser: Browser, process: PlaygroundProcess) -> Iterator[Page]:
    visitor = Visitor(browser, process.address)
    yield visitor()
    visitor.leave()


def test_a_reply_cut_off_by_a_shutdown_says_so_and_keeps_its_words(page: Page, process: PlaygroundProcess) -> None:
    ask(page, STORY)
    wait_until_it_writes(page)
    reply = page.get_by_test_id("bot").last
    early = reply.inner_text().strip()
    children = psutil.Process(process.pid).children(recursive=True)
    assert process.end() == 0
    assert "Ending the playground." in process.output and "Traceback" not in process.output
    expect(page.locator("#chat-problem")).to_contain_text("The playground is shutting down.")
    expect(page.locator("#chat-problem")).to_contain_text("What was written is kept on this page.")
    expect(page.locator("#chat-live")).to_contain_text("the playground is shutting down")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(reply).to_contain_text(early)
    kept = page.evaluate("sessionStorage.getItem('gguf-playground-chat')")
    assert early.split()[0] in kept, "what a reload shows when the playground runs again"
    assert children and not psutil.wait_procs(children, CHILDREN_SECONDS)[1]
