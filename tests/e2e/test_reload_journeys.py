"""A page that is reloaded, loses its connection or meets a new server: nothing of its chat is lost.

The model is one of a server that holds its answer back until the test lets it go on, so nothing depends on pace.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.visitor import CUT_BY_A_RELOAD, Visitor, without_dice
from tests.support.connection import Connection
from tests.support.playground_process import PlaygroundProcess
from tests.support.server_stand_in import KEY, ServerStandIn

QUESTION = "What is it?"
DRAFT = "And then?"
LOST = "Connection to the server was lost"
CUT_BY_THE_NETWORK = [*CUT_BY_A_RELOAD, "ERR_", "Failed to fetch", "network error", "NetworkError", "Could not"]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerStandIn]:
    """Its model "waits" writes "Well, " and, when the test lets it go on, "here it is."."""
    with ServerStandIn() as server:
        server.models = {"data": [{"id": "waits"}, {"id": "plain"}]}
        yield server


def variables(server: ServerStandIn) -> dict[str, str]:
    return {"PLAYGROUND_REMOTES": f"slow={server.url}", "PLAYGROUND_REMOTE_KEY_SLOW": KEY}


@pytest.fixture(scope="module")
def running(
    server: ServerStandIn, starter: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PlaygroundProcess]:
    with PlaygroundProcess(tmp_path_factory.mktemp("home"), variables(server)) as running:
        yield running


@pytest.fixture
def asked(server: ServerStandIn, running: PlaygroundProcess, visit: Visitor) -> Page:
    """A page in mid-reply: "Well, " is there, and the next message has been begun."""
    server.go_on.clear()
    page = visit(at=running.address)
    ask(page)
    return page


def ask(page: Page) -> None:
    choose(page, "waits, runs on slow")
    page.get_by_label("Your message").fill(QUESTION)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_test_id("bot")).to_have_text("Well,")
    page.get_by_label("Your message").fill(DRAFT)


def choose(page: Page, model: str, group: str = "chat") -> None:
    page.locator(f"#{group}-model input").click()
    page.locator(f"#{group}-model").get_by_role("option", name=model).click()  # another list may still be closing
    expect(page.locator(f"#{group}-level")).to_contain_text("runs on slow")


def set_number(page: Page, name: str, value: str) -> None:
    box = page.get_by_role("spinbutton", name=name)
    box.fill(value)
    box.press("Tab")


def expect_the_reply_to_go_on(page: Page, server: ServerStandIn) -> None:
    expect(page.get_by_test_id("user")).to_have_text(QUESTION)
    expect(page.get_by_test_id("bot")).to_have_text("Well,")
    expect(page.get_by_label("Your message")).to_have_value(DRAFT)
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(page.locator("#chat-level")).to_contain_text("runs on slow")
    server.go_on.set()
    expect(page.get_by_test_id("bot")).to_have_text("Well, here it is.")
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_a_reply_goes_on_after_a_reload(asked: Page, server: ServerStandIn, visit: Visitor) -> None:
    visit.reload(asked)
    expect_the_reply_to_go_on(asked, server)
    visit.reload(asked)
    expect(asked.get_by_test_id("bot")).to_have_text("Well, here it is.")
    expect(asked.get_by_label("Your message")).to_have_value(DRAFT)


def test_a_reply_can_be_stopped_after_a_reload(asked: Page, visit: Visitor) -> None:
    visit.reload(asked)
    asked.get_by_role("button", name="Stop").click()
    expect(asked.locator("#chat-live")).to_contain_text("stopped by you")
    expect(asked.get_by_test_id("bot")).to_have_text("Well,")


def test_a_reply_is_there_when_a_lost_connection_is_back(
    running: PlaygroundProcess, server: ServerStandIn, visit: Visitor
) -> None:
    server.go_on.clear()
    visit.expected += CUT_BY_THE_NETWORK
    with Connection(running.port) as connection:
        page = visit(at=connection.address)
        ask(page)
        connection.cut()
        expect(page.get_by_text(LOST)).to_be_visible()
        server.go_on.set()
        connection.mend()
        expect(page.get_by_text(LOST)).to_be_hidden()
        expect(page.get_by_test_id("user")).to_have_text(QUESTION)
        expect(page.get_by_test_id("bot")).to_have_text("Well, here it is.")
        expect(page.get_by_label("Your message")).to_have_value(DRAFT)


def test_nobody_else_sees_the_reply(asked: Page, running: PlaygroundProcess, visit: Visitor) -> None:
    other = visit(at=running.address)
    expect(other.get_by_test_id("user")).to_have_count(0)
    assert other.evaluate("sessionStorage.getItem('gguf-playground-key')") != asked.evaluate(
        "sessionStorage.getItem('gguf-playground-key')"
    )


def test_what_was_written_outlives_the_server(server: ServerStandIn, visit: Visitor, tmp_path: Path) -> None:
    server.go_on.clear()
    visit.expected += [*CUT_BY_THE_NETWORK, "Server stopped"]  # the second one ends while the page may still open
    with PlaygroundProcess(tmp_path / "home", variables(server)) as first:
        page = visit(at=first.address)
        without_dice(page)
        set_number(page, "Seed", "7")
        page.get_by_label("System prompt").fill("Be brief.")
        ask(page)
        first.process.kill()
        expect(page.get_by_text(LOST)).to_be_visible()
    command = [sys.executable, "-m", "playground", "serve", "--port", str(first.port), "--no-browser"]
    with PlaygroundProcess(tmp_path / "home", variables(server), command=command):
        expect(page.get_by_text(LOST)).to_be_hidden()
        expect(page.get_by_test_id("user")).to_have_text(QUESTION)
        expect(page.get_by_test_id("bot")).to_have_text("Well,")
        expect(page.locator("#chat-problem")).to_contain_text("so the end of the reply is missing")
        expect(page.get_by_label("Your message")).to_have_value(DRAFT)
        expect(page.locator("#chat-level")).to_contain_text("runs on slow")
        page.get_by_role("button", name="Sampling settings").click()
        expect(page.get_by_label("System prompt")).to_have_value("Be brief.")
        expect(page.get_by_role("spinbutton", name="Seed")).to_have_value("7")
        expect(page.get_by_role("spinbutton", name="Temperature")).to_have_value("0")


def test_back_brings_the_chat_with_its_model_context_and_settings(visit: Visitor) -> None:
    page = visit()
    page.locator("#chat-context label", has_text="2K").click()
    without_dice(page)
    set_number(page, "Seed", "7")
    page.locator("#chat-picker").get_by_role("button", name="KV cache").click()
    page.locator("#chat-kv").get_by_text("q8_0").click()
    page.wait_for_function("(sessionStorage.getItem('gguf-playground-settings') || '').includes('q8_0')")
    page.get_by_label("Your message").fill(DRAFT)
    visit.expected += CUT_BY_A_RELOAD
    page.goto("about:blank")
    page.go_back(wait_until="domcontentloaded")
    expect(page.locator("#chat-context input:checked")).to_have_value("2048")
    page.locator("#chat-picker").get_by_role("button", name="KV cache").click()
    expect(page.locator("#chat-kv input:checked")).to_have_value("q8_0")
    expect(page.get_by_label("Your message")).to_have_value(DRAFT)
    page.get_by_role("button", name="Sampling settings").click()
    expect(page.get_by_role("spinbutton", name="Seed")).to_have_value("7")
    expect(page.get_by_role("spinbutton", name="Temperature")).to_have_value("0")


def test_a_comparison_goes_on_after_a_reload(running: PlaygroundProcess, server: ServerStandIn, visit: Visitor) -> None:
    server.go_on.clear()
    page = visit(at=running.address)
    page.get_by_role("tab", name="Compare", exact=True).click()
    page.get_by_role("button", name="Other models or settings").click()
    for group, model in (("left", "waits, runs on slow"), ("right", "plain, runs on slow")):
        choose(page, model, group)
    page.get_by_label("One question for both").fill(QUESTION)
    page.get_by_role("button", name="Ask both").click()
    first, second = (page.locator(f"#compare-pane-{side} .gp-pane-text") for side in "ab")
    expect(first).to_have_text("Well,")
    visit.reload(page)
    page.get_by_role("tab", name="Compare", exact=True).click()
    expect(page.locator("#compare-question")).to_contain_text(QUESTION)
    expect(first).to_have_text("Well,")
    server.go_on.set()
    expect(first).to_have_text("Well, here it is.")
    expect(second).to_have_text("Two and two is four.")


def test_a_model_that_is_gone_after_a_reload_is_named(visit: Visitor) -> None:
    gone = {"choice": {"model": "Gone-7B", "level": "Q8_0"}, "settings": {"temperature": "hot"}}
    page = visit(kept={"gguf-playground-settings": json.dumps(gone)})
    said = "Gone-7B, the model of this chat, is not on this computer; SmolLM2 135M Instruct .* instead.*temperature"
    expect(page.locator("#chat-not-restored")).to_contain_text(re.compile(said))
