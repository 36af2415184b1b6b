"""A person's way through the Fit and Learn tabs, in a real browser."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

from tests.e2e.visitor import Visitor


def open_fit(page: Page) -> Locator:
    """The Fit tab with its first table complete."""
    page.get_by_role("tab", name="Fit").click()
    expect(page.locator("#fit-kv-sum .gp-kv-table")).to_be_visible()
    return page.locator("#fit-table")


def choose_model(page: Page, name: str) -> None:
    box = page.locator("#fit-model input")
    box.click()
    box.fill(name)
    page.get_by_role("option", name=name).first.click()


def cell(page: Page, level: str, context: str) -> Locator:
    return page.get_by_role("button", name=re.compile(rf"{level} with {context}: open in Chat"))


def test_the_articles_example_stands_when_the_tab_is_opened(page: Page) -> None:
    table = open_fit(page)
    expect(page.locator("#fit-model input")).to_have_value("Gemma 4 12B")
    expect(table.get_by_role("row")).to_have_count(5)
    expect(table.get_by_role("columnheader")).to_have_text(["Level", "4K", "8K", "16K", "32K", "64K", "128K", "256K"])
    expect(cell(page, "Q4_K_M", "256K")).to_contain_text(re.compile(r"(Fits|Tight|Won't fit)\s*12\.[3456] GB"))
    expect(page.locator("#fit-headline h2")).to_have_text(
        "You may have read 103 GB (96.0 GiB) for the KV cache. It is 4.71 GB."
    )
    expect(
        page.get_by_role("img", name=re.compile("Memory by context, from 4K to 256K tokens: F16 from"))
    ).to_be_visible()
    last = page.locator(".gp-kv-table tbody tr").last
    expect(last).to_contain_text("103 GB")
    expect(last).to_contain_text("4.71 GB")
    expect(last).to_contain_text("22×")


def test_another_computer_and_a_smaller_cache_change_the_verdicts(page: Page) -> None:
    open_fit(page)
    page.get_by_label("PC without a GPU").check()
    page.get_by_label("8 GB", exact=True).check()
    expect(cell(page, "Q4_K_M", "256K")).to_contain_text("Won't fit")
    expect(page.locator("#fit-assumed")).to_contain_text("take 3 GB")
    page.get_by_label("PC with a GPU").check()
    page.locator("#fit-gpu-gb").get_by_label("24 GB").check()
    expect(page.locator("#fit-assumed")).to_contain_text("24.8 GB on the GPU")
    expect(cell(page, "Q4_K_M", "256K")).to_contain_text("all on the GPU")
    page.get_by_label("PC without a GPU").check()
    page.get_by_label("Other", exact=True).check()
    page.get_by_label("Its memory in GB").fill("200")
    page.get_by_label("Its memory in GB").press("Enter")
    expect(page.locator("#fit-assumed")).to_contain_text("200 GB")
    expect(cell(page, "F16", "256K")).to_contain_text("Fits")
    page.get_by_label("q4_0: a quarter").check()
    expect(page.locator(".gp-kv-table tbody tr").last).to_contain_text("29.0 GB")


def test_a_cell_of_a_model_on_disk_opens_chat_with_it(page: Page) -> None:
    open_fit(page)
    choose_model(page, "SmolLM2 135M Instruct")
    cell(page, "Q4_1", "8K").click()
    expect(page.get_by_role("tab", name="Chat")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#chat-context input:checked")).to_have_value("8192")
    expect(page.locator("#chat-level input:checked")).to_have_value("Q4_1")


def test_a_cell_of_a_model_that_is_not_here_says_where_to_get_it(page: Page) -> None:
    open_fit(page)
    cell(page, "Q4_K_M", "128K").click()
    expect(page.locator("#fit-away")).to_contain_text("Gemma 4 12B at Q4_K_M is not on this computer yet.")
    expect(page.locator("#fit-away")).to_contain_text("unsloth/gemma-4-12b-it-GGUF")
    expect(page.get_by_role("tab", name="Fit")).to_have_attribute("aria-selected", "true")


def test_the_question_is_answered_for_the_chosen_level_and_context(page: Page) -> None:
    """The process's own base is measured, so the last digit is the computer's."""
    open_fit(page)
    answer = page.locator("#fit-answer")
    expect(answer).to_contain_text(re.compile(r"Gemma 4 12B at Q4_K_M with 128K tokens of context needs 10\.[0123] GB"))
    page.locator("#fit-level input").click()
    page.get_by_role("option", name="Q8_0").click()
    expect(answer).to_contain_text(re.compile(r"at Q8_0 with 128K tokens of context needs 15\.[3456] GB"))
    expect(answer).to_contain_text("24 GB")


def test_on_a_phone_only_the_table_scrolls_and_its_levels_stay_in_view(visit: Visitor) -> None:
    page = visit(390, 844)
    open_fit(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    scroller = page.locator(".gp-fit-scroll")
    scroller.evaluate("box => { box.scrollLeft = box.scrollWidth; }")
    assert scroller.evaluate("box => box.scrollLeft") > 0
    level = page.get_by_role("rowheader", name="Q4_K_M").bounding_box()
    assert level and level["x"] >= 0


def test_the_slider_of_a_block_takes_its_bits_away(page: Page) -> None:
    page.get_by_role("tab", name="Learn").click()
    expect(page.get_by_text("32 weights of")).to_be_visible()
    slider = page.get_by_role("slider", name="Bits per weight")
    expect(slider).to_have_attribute("aria-valuetext", "4 bits")
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", "2 bits")
    expect(page.get_by_role("img", name="32 weights at 2 bits")).to_be_visible()
    expect(page.get_by_role("img", name="32 weights at 4 bits")).to_be_hidden()


def test_a_figure_leads_to_its_lesson_and_what_is_learned_can_be_tried_at_once(page: Page) -> None:
    page.get_by_role("tab", name="Chat").click()
    page.get_by_role("button", name="Why? What a longer context takes").first.click()
    expect(page.get_by_role("tab", name="Learn")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#learn-context")).to_be_focused()
    page.get_by_role("button", name="Open Fit: which level and context fit this computer").click()
    expect(page.get_by_role("tab", name="Fit")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#fit-table table")).to_be_visible()
