"""Levels made and models fetched, in a real browser: from the open page to a chat with what was not there before.

The Hub is the stand-in on loopback, which holds a body still where a test has to see a download under way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.visitor import Visitor, without_dice
from tests.support.hub_stand_in import HubStandIn
from tests.support.playground_process import PlaygroundProcess

REPO = "test/Fox-135M-GGUF"
SMALL_REPO = "unsloth/Qwen3.5-0.8B-GGUF"  # of the catalogue; the starter stands in for its file
MIB = 1 << 20
REPLY_SECONDS = 90  # a whole reply takes one or two, and many where all cores are busy


@pytest.fixture(scope="module")
def hub(starter: Path) -> Iterator[HubStandIn]:
    with HubStandIn() as hub:
        hub.add(SMALL_REPO, {"Qwen3.5-0.8B-Q4_K_M.gguf": starter})
        hub.add(REPO, {"Fox-135M-Q4_1.gguf": starter}, downloads=9000, likes=12, parameters=134_515_008)
        yield hub


@pytest.fixture(scope="module")
def playground_process(
    chromium: str, starter: Path, hub: HubStandIn, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PlaygroundProcess]:
    """A playground of these journeys' own, which may ask the stand-in."""
    home = tmp_path_factory.mktemp("home")
    with PlaygroundProcess(home, {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0"}) as running:
        yield running


def offer(page: Page, level: str) -> Locator:
    """The row of a level that is not here yet, unfolded, in Chat."""
    page.get_by_role("tab", name="Chat").click()
    row = page.locator(f"#chat-level .gp-offers input[value={level}]")
    expect(row).to_be_attached()
    if not row.is_visible():
        page.locator("#chat-level").get_by_text("Make another level from").click()
    return row


def ask(page: Page, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.get_by_role("button", name="Send").click()


def open_models(page: Page) -> None:
    page.get_by_role("tab", name="Models").click()
    expect(page.locator("#models-shelf li").first).to_be_visible()


def find_repository(page: Page) -> None:
    page.get_by_label("Search models, or paste owner/repo or a link").press_sequentially("fox")
    page.get_by_role("button", name=f"Open {REPO}").click()
    expect(page.locator("#models-memory [role=img]")).to_be_visible()


def test_a_level_is_made_from_the_picker_selected_at_once_and_listed_beside_it(page: Page) -> None:
    offer(page, "Q2_0").check()
    page.get_by_role("button", name=re.compile(r"Make Q2_0 \(61.9 MB\)")).click()
    expect(page.locator("#chat-level .gp-scroll > label input[value=Q2_0]")).to_be_checked()
    expect(page.locator("#chat-make")).to_be_hidden()
    page.get_by_role("tab", name="Compare").click()
    for side in ("left", "right"):
        expect(page.locator(f"#{side}-level .gp-scroll > label input[value=Q2_0]")).to_be_attached()


def test_a_question_to_a_level_that_is_not_here_yet_makes_it_first(page: Page) -> None:
    offer(page, "Q4_0").check()
    expect(page.locator("#chat-make")).to_be_visible()
    ask(page, "What is 2+2?")
    expect(page.get_by_test_id("bot").last).to_contain_text(re.compile(r"\w"), timeout=REPLY_SECONDS * 1000)
    expect(page.locator("#chat-level .gp-scroll > label input[value=Q4_0]")).to_be_checked()


def test_a_level_is_made_and_deleted_in_the_models_tab(page: Page) -> None:
    open_models(page)
    expect(page.locator("#models-make-box")).to_be_hidden()
    page.get_by_role("button", name="Make a smaller one from SmolLM2 135M Instruct Q4_1").click()
    page.get_by_role("button", name="Make Q8_0").click()
    expect(page.locator("#models-making")).to_contain_text("Made Q8_0")
    page.get_by_role("button", name="Delete SmolLM2 135M Instruct Q8_0").click()
    expect(page.locator("#models-question")).to_contain_text("(145 MB) from this disk?")
    page.get_by_role("button", name="Keep it").click()
    expect(page.locator("#models-question")).to_be_hidden()
    page.get_by_role("button", name="Delete SmolLM2 135M Instruct Q8_0").click()
    page.get_by_role("button", name="Delete Q8_0", exact=True).click()
    expect(page.locator("#models-said")).to_contain_text("Deleted SmolLM2 135M Instruct Q8_0")
    expect(page.locator("#models-shelf")).not_to_contain_text("Q8_0")


def test_a_model_is_found_judged_downloaded_cancelled_resumed_and_talked_to(visit: Visitor, hub: HubStandIn) -> None:
    page = visit()
    open_models(page)
    find_repository(page)
    expect(page.locator("#models-level")).to_contain_text("Fits")
    other = visit()  # downloads are everybody's
    open_models(other)
    held = hub.hold("Fox-135M-Q4_1", 40 * MIB)
    page.get_by_role("button", name="Download Q4_1 (98.4 MB)").click()
    way = page.locator("#models-downloads")
    expect(way).to_contain_text(re.compile(r"Downloading · [\d.]+ MB of 98.4 MB · \d+%"))
    assert held.reached.wait(30)
    expect(other.locator("#models-downloads")).to_contain_text("Downloading")
    page.get_by_role("button", name="Cancel Fox-135M Q4_1").click()
    expect(way).to_contain_text("Cancelled")

    expect(other.locator("#models-downloads")).to_contain_text("Cancelled")
    held.release.set()
    page.get_by_role("button", name="Resume Fox-135M Q4_1").click()
    expect(way).to_contain_text("Done")
    expect(page.locator("#models-shelf")).to_contain_text(f"from {REPO}")
    expect(page.locator("#models-download")).to_be_hidden()

    page.get_by_role("tab", name="Chat").click()
    page.locator("#chat-model input").click()
    page.get_by_role("option", name="Fox 135M").click()
    expect(page.locator("#chat-fold")).to_contain_text("Fox 135M")
    without_dice(page)
    ask(page, "What is 2+2?")
    expect(page.get_by_test_id("bot").last).to_contain_text("4", timeout=REPLY_SECONDS * 1000)


def test_a_first_model_is_downloaded_and_chat_opens_with_it_after_two_clicks(visit: Visitor) -> None:
    page = visit(1280, 800)
    page.get_by_role("tab", name="Models").click()
    card = page.locator("#models-first .gp-model-card").first
    expect(card).to_contain_text("Qwen 3.5 0.8B")
    for figure in ("Q4_K_M", "Memory with 8K context", "tok/s here"):
        expect(card).to_contain_text(figure)
    card.get_by_role("button", name="Download Qwen 3.5 0.8B and chat").click()
    expect(page.locator("#chat-fold")).to_contain_text("Qwen3.5 0.8B")  # by itself, when it is here
    expect(page.locator("#chat-message textarea")).to_be_visible()
    page.get_by_role("tab", name="Models").click()
    page.get_by_role("button", name="Expected speed").click()
    expect(page.locator("#models-catalogue th[aria-sort=descending]")).to_have_text("Expected speed")
    page.get_by_role("button", name="Compare Qwen3.5 0.8B Q4_K_M").click()
    expect(page.get_by_role("tab", name="Compare")).to_have_attribute("aria-selected", "true")


def test_the_fit_tab_plans_a_repository_of_the_hub_and_leads_to_it(page: Page) -> None:
    page.get_by_role("tab", name="Fit").click()
    box = page.locator("#fit-model input")
    expect(page.locator("#fit-table table")).to_be_visible()
    box.fill(REPO)
    box.press("Enter")
    cell = page.get_by_role("button", name=re.compile("Q4_1 with 8K: open in Chat"))
    expect(cell).to_contain_text("Fits")
    expect(cell).not_to_contain_text("≈")
    cell.click()
    expect(page.locator("#fit-away")).to_contain_text(f"Download it from {REPO}")
    page.get_by_role("button", name="Open Models").click()
    expect(page.locator("#models-repository")).to_contain_text(REPO)
    expect(page.locator("#models-memory [role=img]")).to_be_visible()


def test_a_dropped_model_is_kept_and_what_is_none_is_refused(visit: Visitor, starter: Path, tmp_path: Path) -> None:
    page = visit()
    visit.expected.append("415")  # the browser's own line on an upload that is refused
    open_models(page)
    dropped = tmp_path / "Dropped-Fox-Q4_1.gguf"
    dropped.write_bytes(starter.read_bytes())
    page.locator("#models-drop input[type=file]").set_input_files(dropped)
    expect(page.locator("#models-said")).to_contain_text("Added Dropped Fox Q4_1")
    expect(page.locator("#models-shelf")).to_contain_text("dropped here")
    broken = tmp_path / "Broken-Q4_1.gguf"
    broken.write_bytes(b"no model at all")
    page.locator("#models-drop input[type=file]").set_input_files(broken)
    expect(page.get_by_text("Broken-Q4_1.gguf is not a GGUF model").first).to_be_visible()
    broken.write_bytes(b"GGUF, and nothing after it")
    page.locator("#models-drop input[type=file]").set_input_files(broken)
    expect(page.locator("#models-said")).to_contain_text("version")
    page.get_by_role("button", name="Delete Dropped Fox Q4_1").click()
    page.get_by_role("button", name="Delete Q4_1", exact=True).click()
    expect(page.locator("#models-shelf")).not_to_contain_text("Dropped Fox")


def test_what_the_hub_does_not_have_is_explained_and_the_rest_works(page: Page) -> None:
    open_models(page)
    page.get_by_label("Search models, or paste owner/repo or a link").fill("test/nobody")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("alert")).to_contain_text("There is no repository test/nobody")
    page.get_by_label("Path of a .gguf file on this computer").fill("/nowhere/x.gguf")
    page.get_by_role("button", name="Open", exact=True).click()
    expect(page.locator("#models-said")).to_contain_text("There is no file")


def test_a_phone_shows_it_all_in_one_column(visit: Visitor) -> None:
    page = visit(390, 844, dark=True)
    open_models(page)
    find_repository(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
