"""A person enters a server, chats with its model, and compares it with this computer's, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.server_process import ALIAS, KEY, ServerProcess

MODEL = f"{ALIAS}, runs on workshop"
ANSWER = "The answer to this classic math problem is 4."


@pytest.fixture(scope="module")
def server(starter: Path) -> Iterator[ServerProcess]:
    with ServerProcess(starter) as process:
        yield process


def choose(page: Page, group: str, model: str) -> None:
    page.locator(f"#{group}-model input").click()
    page.get_by_role("option", name=model).click()


def test_a_server_is_entered_used_and_compared_and_its_key_is_not_kept(page: Page, server: ServerProcess) -> None:
    form = page.locator("#chat-server")
    form.get_by_role("button", name="Connect a server").click()
    form.get_by_label("Address").fill(server.url)
    form.get_by_label("Name").fill("workshop")
    form.get_by_label("API key").fill("guess")
    form.get_by_role("button", name="Connect", exact=True).click()
    expect(page.locator("#chat-server-said")).to_contain_text("workshop does not accept the key")
    form.get_by_label("API key").fill(KEY)
    form.get_by_role("button", name="Connect", exact=True).click()
    expect(page.locator("#chat-server-said")).to_contain_text("Connected to workshop: 1 model")
    expect(form.get_by_label("API key")).to_have_value("")

    choose(page, "chat", MODEL)
    expect(page.locator("#chat-level")).to_contain_text("runs on workshop")
    expect(page.locator("#chat-memory")).to_contain_text("needs no memory on this computer")
    page.get_by_label("Your message").fill("What is 2+2?")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#chat-live")).to_contain_text(
        re.compile(r"(?:[\d.]+|–) tok/s · \d+ tokens · [\d.]+ s to first")
    )

    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#left-fold")).to_contain_text("Q8_0")
    page.get_by_role("button", name="Other models or settings").click()
    page.locator("#left-level").get_by_text("Q4_1", exact=True).click()
    expect(page.locator("#left-fold")).to_contain_text("Q4_1")
    choose(page, "right", MODEL)
    expect(page.locator("#compare-beforehand")).to_contain_text("server’s speed is measured from here")
    page.get_by_label("One question for both").fill("What is 2+2?")
    page.get_by_role("button", name="Ask both").click()
    for side in "ab":
        expect(page.locator(f"#compare-pane-{side}")).to_contain_text(ANSWER)
        expect(page.locator(f"#compare-pane-{side}")).to_contain_text(re.compile(r"(?:[\d.]+|–) tok/s"))
        expect(page.locator(f"#compare-pane-{side}")).to_contain_text("11 tokens")
    expect(page.locator("#compare-pane-b .gp-pane-head")).to_contain_text(f"{ALIAS} on workshop")
    page.get_by_text("Details: times, tokens").click()
    expect(page.locator("#compare-result")).to_contain_text("Memory planned")
    expect(page.locator("#compare-result")).to_contain_text("The server sends neither the probabilities")
    assert KEY not in page.content()
