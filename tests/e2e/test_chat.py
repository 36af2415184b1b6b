"""A person's way through the Chat tab, in a real browser with the real starter model.

A long story is asked for where something has to be seen while the model writes, and stopped then; a sum where the
reply itself matters.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.visitor import PATIENCE_SECONDS, Visitor, without_dice
from tests.support.playground_process import PlaygroundProcess

STORY = "Write a long story about a fox."
SUM = "What is 2+2?"
REPLY_SECONDS = 90  # a whole reply takes one or two, and many where all cores are busy


def ask(page: Page, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.get_by_role("button", name="Send").click()


def ask_and_wait(page: Page, text: str) -> None:
    """A question and its whole reply."""
    replies = page.get_by_test_id("bot")
    before = replies.count()
    ask(page, text)
    expect(replies).to_have_count(before + 1)
    wait_for_the_end(page)


def wait_for_the_end(page: Page) -> None:
    ended = page.get_by_role("status").filter(has_text=re.compile("Reply (ended|stopped)"))
    expect(ended).to_be_attached(timeout=REPLY_SECONDS * 1000)
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def wait_until_it_writes(page: Page) -> None:
    """Words are there, their speed beside them, and the reply has not ended."""
    expect(page.locator("#chat-live .gp-live-writes")).to_contain_text(re.compile(r"[\d.]+ tok/s · \d+ tokens"))
    expect(page.get_by_test_id("bot").last).to_contain_text(re.compile(r"\w"))
    expect(page.get_by_role("button", name="Stop")).to_be_visible()


def stop(page: Page) -> None:
    """With the keyboard, wherever the focus is."""
    page.keyboard.press("Escape")
    wait_for_the_end(page)


def detail(page: Page, name: str) -> str:
    """A figure in the folded details of the last reply."""
    page.get_by_text("Details of this reply").click()
    row = page.locator("#chat-details dl > div").filter(has=page.get_by_text(name, exact=True))
    return row.locator("dd").inner_text()


def needed(page: Page) -> str:
    """What the memory bar says is needed, such as "276 MB"."""
    return page.locator("#chat-memory .gp-memory-head b").inner_text()


def log(page: Page) -> Locator:
    return page.get_by_role("log")


# --- talk ---


def test_words_and_their_speed_show_while_the_model_writes_and_stop_ends_it(page: Page) -> None:
    ask(page, STORY)
    wait_until_it_writes(page)
    early = page.get_by_test_id("bot").last.inner_text()
    expect(page.get_by_test_id("bot").last).not_to_have_text(early)
    assert page.get_by_role("button", name="Stop").is_visible()
    page.get_by_role("button", name="Stop").click()
    wait_for_the_end(page)
    expect(page.locator("#chat-live")).to_contain_text("stopped by you")
    expect(page.get_by_test_id("bot").last).to_contain_text(early.split()[0])


def test_a_whole_reply_ends_with_its_speed_its_length_and_the_reason(page: Page) -> None:
    without_dice(page)
    ask_and_wait(page, SUM)
    expect(page.get_by_test_id("bot")).to_contain_text("4")
    expect(page.locator("#chat-live")).to_contain_text(
        re.compile(r"[\d.]+ tok/s · \d+ tokens · ([\d.]+ s load \+ )?[\d.]+ s to first token · finished")
    )
    expect(page.get_by_role("meter", name="Context used")).to_contain_text(re.compile(r"\d+ of 4,096 tokens"))


def test_the_second_turn_finds_the_first_in_the_cache(page: Page) -> None:
    without_dice(page)
    ask_and_wait(page, SUM)
    ask_and_wait(page, "And what is 3+3?")
    assert int(detail(page, "of these from the KV cache").replace(",", "")) > 20


def test_the_model_is_loaded_with_one_click_and_says_what_it_takes(page: Page) -> None:
    page.locator("#chat-context label", has_text="2K").click()
    page.get_by_role("button", name="Load", exact=True).click()
    expect(page.locator("#chat-progress")).to_contain_text("ready")
    expect(page.locator("#chat-progress").get_by_role("row", name="Total")).to_contain_text(
        re.compile(r"[\d.]+ MB\s*[\d.]+ MB")
    )
    page.get_by_role("button", name="In memory · Unload").click()
    expect(page.locator("#chat-progress")).to_contain_text("was unloaded")
    expect(page.get_by_role("button", name="Load", exact=True)).to_be_visible()


def test_regenerate_writes_the_last_reply_anew(page: Page) -> None:
    ask_and_wait(page, SUM)
    page.get_by_role("button", name="Regenerate").click()
    expect(page.get_by_role("button", name="Regenerate")).to_be_disabled()
    wait_for_the_end(page)
    expect(page.get_by_test_id("user")).to_have_count(1)
    expect(page.get_by_test_id("bot")).to_have_count(1)


def test_the_last_message_can_be_changed_and_its_reply_goes_with_it(page: Page) -> None:
    ask_and_wait(page, SUM)
    page.get_by_role("button", name="Edit last").click()
    expect(page.get_by_label("Your message")).to_have_value(SUM)
    page.get_by_label("Your message").fill("What is 3+3?")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_test_id("user")).to_have_text("What is 3+3?")
    wait_for_the_end(page)
    expect(page.get_by_test_id("bot")).to_have_count(1)


def test_clear_begins_anew(page: Page) -> None:
    ask_and_wait(page, SUM)
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_test_id("user")).to_have_count(0)
    expect(page.get_by_role("button", name="Clear")).to_be_disabled()
    expect(log(page)).to_contain_text("Ask the model something")


def test_a_chat_is_saved_as_a_file_to_read_and_as_one_to_compute_with(page: Page) -> None:
    ask_and_wait(page, SUM)
    with page.expect_download() as markdown:
        page.get_by_role("button", name="Save as Markdown").click()
    assert SUM in markdown.value.path().read_text()
    with page.expect_download() as data:
        page.get_by_role("button", name="Save as JSON").click()
    saved = json.loads(data.value.path().read_text())
    assert [message["role"] for message in saved["messages"]] == ["user", "assistant"]


def test_a_skill_is_switched_on_and_off_and_stays_on_the_shelf(page: Page, visit: Visitor, tmp_path: Path) -> None:
    file = tmp_path / "pirate.md"
    file.write_text("Answer as a pirate.")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Add a skill").click()
    chooser.value.set_files(file)
    chip = page.locator("#chat-skills").get_by_role("button", name=re.compile(r"^(✓ )?pirate\.md$"))
    expect(chip).to_have_attribute("aria-pressed", "true")
    without_dice(page)
    page.get_by_role("spinbutton", name="Longest reply").fill("16")
    page.get_by_role("spinbutton", name="Longest reply").press("Tab")
    ask_and_wait(page, SUM)
    assert detail(page, "Prompt") == "26 tokens"
    chip.click()
    expect(chip).to_have_attribute("aria-pressed", "false")
    visit.reload(page)
    expect(chip).to_be_visible()
    page.get_by_role("button", name="Remove pirate.md from the shelf").click()
    expect(chip).to_have_count(0)


def test_the_dial_asks_the_last_question_at_another_level(page: Page, visit: Visitor) -> None:
    without_dice(page)
    ask_and_wait(page, SUM)
    first = page.locator(".gp-log .message.bot").last.inner_text()
    page.get_by_role("slider", name="Level", exact=True).focus()
    page.keyboard.press("Home")  # the level with the most bits, which is made first
    names = page.locator(".gp-answer-of")
    expect(names).to_have_count(2)
    expect(page.locator("#chat-keep-other")).to_be_visible(timeout=REPLY_SECONDS * 1000)
    expect(page.locator("#chat-level input:checked")).to_have_value("Q8_0")
    visit.reload(page)
    expect(names).to_have_text(["Q4_1", "Q8_0"])
    page.get_by_role("button", name="Keep Q4_1").click()
    expect(names).to_have_count(0)
    expect(page.locator(".gp-log .message.bot").last).to_contain_text(first.strip()[:40])
    expect(page.locator("#chat-level input:checked")).to_have_value("Q4_1")


# --- several at once, and again ---


def test_two_people_chat_at_once_each_with_their_own_history(page: Page, visit: Visitor) -> None:
    other = visit()
    ask(page, STORY)
    wait_until_it_writes(page)
    ask_and_wait(other, SUM)
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(log(page)).not_to_contain_text(SUM)
    expect(log(other)).not_to_contain_text("fox")
    stop(page)


def test_a_page_that_is_reloaded_in_mid_reply_goes_on_with_it(page: Page, visit: Visitor) -> None:
    ask(page, STORY)
    wait_until_it_writes(page)
    visit.reload(page)
    expect(page.locator("#chat-level input:checked")).to_be_attached()
    expect(page.get_by_test_id("user")).to_have_text(STORY)
    stop(page)
    ask_and_wait(page, SUM)
    expect(page.get_by_test_id("bot")).to_have_count(2)


@pytest.fixture
def forgetful(starter: Path, tmp_path: Path) -> Iterator[PlaygroundProcess]:
    """A playground that unloads a model as soon as nobody uses it."""
    with PlaygroundProcess(tmp_path / "home", {"PLAYGROUND_IDLE_SECONDS": "0.2"}) as running:
        yield running


def test_a_tab_that_is_closed_in_mid_reply_gives_its_model_back(forgetful: PlaygroundProcess, visit: Visitor) -> None:
    page = visit(at=forgetful.address)
    without_dice(page)
    page.get_by_role("spinbutton", name="Longest reply").fill("4096")
    ask(page, "Count to one thousand: " + "1 2 3 4 5 6 7 8 9 " * 20)  # it counts until its context is full
    wait_until_it_writes(page)
    (model,) = forgetful.models()
    page.close()
    model.wait(20 + PATIENCE_SECONDS)  # a closed page could be one that is being reloaded


# --- memory ---


def test_a_larger_context_moves_the_memory_bar(page: Page) -> None:
    small = needed(page)
    page.locator("#chat-context label", has_text="8K").click()
    expect(page.locator("#chat-memory .gp-memory-head b")).not_to_have_text(small)
    assert float(needed(page).split()[0]) > float(small.split()[0])


@pytest.fixture
def longsighted(starter: Path, tmp_path: Path) -> Iterator[PlaygroundProcess]:
    """A playground with a model that says it was trained for 16 million tokens, which no computer here can hold."""
    content = bytearray(starter.read_bytes())
    key = b"llama.context_length"
    place = content.index(key) + len(key) + 4  # after the type of the value
    assert struct.unpack_from("<I", content, place) == (8192,)
    struct.pack_into("<I", content, place, 1 << 24)
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "Longsight-135M-Q4_1.gguf").write_bytes(content)
    with PlaygroundProcess(tmp_path / "home", {"PLAYGROUND_MODEL_DIRS": str(folder)}) as running:
        yield running


def test_a_context_that_does_not_fit_is_explained_and_refused_with_what_fits(
    longsighted: PlaygroundProcess, visit: Visitor
) -> None:
    page = visit(at=longsighted.address)
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name="Longsight").click()
    expect(page.locator("#chat-context")).to_contain_text(re.compile(r"The largest that fits is [\d,]+ tokens\."))
    page.locator("#chat-context label", has_text=re.compile("16M|16,384K")).click()
    memory = page.locator("#chat-memory")
    expect(memory).to_contain_text("Won't fit")
    expect(memory).to_contain_text("must stay in memory")
    expect(memory).to_contain_text(re.compile(r"Choose a (smaller context|context of at most [\d,]+ tokens)"))
    page.get_by_role("button", name="Load", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text(re.compile(r"A context of [\d,]+ tokens fits"))
    expect(page.get_by_role("button", name="Load anyway")).to_be_visible()


# --- by keyboard, on a phone ---


def test_a_chat_needs_no_mouse(page: Page) -> None:
    page.keyboard.press("Tab")
    reached = []
    for _ in range(40):
        place = page.evaluate("document.activeElement.closest('#chat-level, #chat-context, #chat-message')?.id")
        reached += [place] if place and place not in reached else []
        if place == "chat-message":
            break
        page.keyboard.press("Tab")
    assert reached == ["chat-level", "chat-context", "chat-message"]
    page.keyboard.type(SUM)
    page.keyboard.press("Enter")
    wait_for_the_end(page)
    expect(page.get_by_test_id("bot")).to_contain_text(re.compile(r"\w"))


def test_arrow_keys_move_the_context_and_the_bar_follows(page: Page) -> None:
    small = needed(page)
    page.locator("#chat-context input:checked").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#chat-memory .gp-memory-head b")).not_to_have_text(small)
    assert page.evaluate("document.activeElement.value") == "8192"


def test_on_a_phone_the_picker_is_one_line_and_nothing_scrolls_sideways(visit: Visitor) -> None:
    phone = visit(390, 844)
    expect(phone.get_by_role("combobox", name="Model")).to_be_hidden()
    ask_and_wait(phone, SUM)
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    phone.get_by_role("button", name=re.compile("change")).click()
    expect(phone.get_by_role("combobox", name="Model")).to_be_visible()
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
