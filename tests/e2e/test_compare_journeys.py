"""The Compare tab in a real browser, with the starter model and levels made from it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.visitor import Visitor

MAKING_MILLISECONDS = 150_000  # the first comparison makes both levels


def open_compare(page: Page) -> Page:
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#left-fold")).to_contain_text("Q8_0")
    expect(page.locator("#right-fold")).to_contain_text("Q2_0")
    return page


@pytest.fixture
def compare(page: Page) -> Page:
    return open_compare(page)


def wait_for_both(page: Page) -> None:
    expect(page.locator("#compare-send")).to_be_visible(timeout=MAKING_MILLISECONDS)
    for group in ("left", "right"):
        expect(page.locator(f"#compare-log-{group}").get_by_test_id("bot")).not_to_have_count(0)


def briefly(page: Page) -> None:
    """Short answers: a level that babbles goes on to the limit."""
    page.get_by_role("button", name="Sampling settings").click()
    page.get_by_label("number input for Longest reply").fill("32")
    page.get_by_label("number input for Longest reply").press("Tab")


def ask(page: Page, text: str) -> None:
    page.get_by_label("One question for both").fill(text)
    page.get_by_role("button", name="Ask both").click()
    expect(page.locator("#compare-stop")).to_be_visible()


def test_two_clicks_show_a_newcomer_two_levels_side_by_side(compare: Page) -> None:
    compare.locator("#compare-example-1").click()
    wait_for_both(compare)
    for group, level in (("left", "Q8_0"), ("right", "Q2_0")):
        expect(compare.locator(f"#compare-live-{group}")).to_contain_text(re.compile(r"[\d.]+ tok/s · \d+ tokens"))
        expect(compare.locator(f"#compare-head-{group}")).to_contain_text(level)
        expect(compare.locator(f"#compare-head-{group}")).to_contain_text("made from Q4_1")
    expect(compare.locator("#compare-log-left").get_by_test_id("bot")).to_contain_text("4")
    expect(compare.locator("#compare-differences")).to_contain_text("Generation speed")
    expect(compare.locator("#compare-parting")).to_contain_text("First difference")
    compare.locator("#compare-clear").click()
    expect(compare.locator("#compare-log-left").get_by_test_id("bot")).to_have_count(0)
    expect(compare.locator("#compare-differences")).not_to_contain_text("Generation speed")
    compare.locator("#compare-undo").click()
    wait_for_both(compare)
    expect(compare.locator("#compare-differences")).to_contain_text("Generation speed")
    expect(compare.locator("#compare-undo")).to_be_hidden()


def test_both_pickers_offer_levels_when_the_tab_opens(compare: Page) -> None:
    for group in ("left", "right"):
        expect(compare.locator(f"#{group}-level")).to_contain_text("Q4_1")
        expect(compare.locator(f"#{group}-context")).to_contain_text("4K")


def test_running_at_the_same_time_says_that_cores_are_shared(compare: Page) -> None:
    compare.locator("#compare-mode").get_by_label("At the same time").check()
    expect(compare.locator("#compare-beforehand")).to_contain_text("share the cores")
    briefly(compare)
    ask(compare, "What is 2+2?")
    wait_for_both(compare)
    expect(compare.locator("#compare-differences")).to_contain_text("shared the cores")


def test_a_blind_vote_hides_the_names_until_it_is_given(compare: Page) -> None:
    compare.get_by_label("Blind").check()
    expect(compare.locator("#left-fold")).not_to_be_visible()
    briefly(compare)
    ask(compare, "What is 2+2?")
    expect(compare.locator("#compare-ballot")).to_be_visible(timeout=MAKING_MILLISECONDS)
    for side in ("a", "b"):
        assert not re.search(r"Q8_0|Q2_0|tok/s", compare.locator(f"#compare-pane-{side}").inner_text())
    compare.get_by_role("button", name="A better").click()
    expect(compare.locator("#compare-head-left")).to_contain_text(re.compile("was Q[82]_0"))
    expect(compare.locator("#compare-ballot")).not_to_be_visible()
    compare.get_by_role("button", name="Blind votes").click()
    expect(compare.locator("#compare-tally")).to_contain_text(re.compile("preferred in [01] of 1"))


def test_the_top_fives_of_a_token_show_by_keyboard(compare: Page) -> None:
    briefly(compare)
    ask(compare, "What is 2+2?")
    wait_for_both(compare)
    compare.locator("#compare-score").click()
    expect(compare.locator("#compare-agreement")).to_contain_text("KL divergence")
    first = compare.locator(".gp-token").first
    first.focus()
    expect(compare.locator(".gp-top-a li")).to_have_count(5)
    said = compare.locator(".gp-top-word").inner_text()
    compare.keyboard.press("ArrowRight")
    expect(compare.locator(".gp-token").nth(1)).to_be_focused()
    expect(compare.locator(".gp-top-word")).not_to_have_text(said)


def test_a_stop_leaves_both_panes_ready(compare: Page) -> None:
    ask(compare, "Write a long story about a fox.")
    expect(compare.locator("#compare-live-left .gp-live-writes")).to_be_visible(timeout=MAKING_MILLISECONDS)
    compare.locator("#compare-stop").click()
    expect(compare.locator("#compare-live-left")).to_contain_text("stopped by you")
    expect(compare.locator("#compare-send")).to_be_visible()


def test_a_link_opens_the_same_set_up_again(visit: Visitor, compare: Page) -> None:
    compare.locator("#compare-mode").get_by_label("At the same time").check()
    compare.get_by_label("One question for both").fill("Why is the sky blue?")
    compare.get_by_role("button", name="Copy link").click()
    link = compare.locator("#compare-link textarea, #compare-link input")
    expect(link).to_have_value(re.compile("^http.*left="))
    page = visit(at=link.input_value(), wait=False)
    expect(page.get_by_label("One question for both")).to_have_value("Why is the sky blue?")
    expect(page.locator("#compare-mode").get_by_label("At the same time")).to_be_checked()
    expect(page.locator("#left-fold")).to_contain_text("Q8_0")


def test_on_a_phone_the_panes_stack_and_fit_the_screen(visit: Visitor) -> None:
    page = open_compare(visit(390, 844))
    first, second = (page.locator(f"#compare-pane-{side}").bounding_box() for side in "ab")
    assert first and second
    assert second["y"] >= first["y"] + first["height"]
    page.locator("#compare-example-1").click()
    wait_for_both(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
