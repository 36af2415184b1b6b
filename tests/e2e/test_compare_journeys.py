"""The page's first tab in a real browser: the bit dial, two answers, what they mean; with the starter model."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.visitor import Visitor

MAKING_MILLISECONDS = 150_000  # the first comparison makes both levels
LARGEST_SHIFT = 0.01  # of the window and the way that something visible moved by itself
WATCH_SHIFTS = """() => {
  window.shifted = 0;
  window.shifts = [];  // the larger ones, for whoever reads a failure
  const where = ({node, previousRect: from, currentRect: to}) =>
    `${(node?.nodeType === 1 ? node : node?.parentElement)?.className} ${Math.round(from.y)} to ${Math.round(to.y)}`;
  new PerformanceObserver(list => {
    for (const entry of list.getEntries().filter(entry => !entry.hadRecentInput)) {
      window.shifted += entry.value;
      if (entry.value > 0.001) window.shifts.push(`${entry.value.toFixed(4)}: ${entry.sources.map(where).join(', ')}`);
    }
  }).observe({type: 'layout-shift', buffered: true});
}"""


@pytest.fixture
def compare(visit: Visitor) -> Page:
    page = visit(1280, 800, tab="Compare")
    page.evaluate(WATCH_SHIFTS)
    return page


def wait_for_result(page: Page) -> None:
    expect(page.locator("#compare-send")).to_be_visible(timeout=MAKING_MILLISECONDS)
    expect(page.locator("#compare-result .gp-verdict")).to_be_visible(timeout=MAKING_MILLISECONDS)


def briefly(page: Page) -> None:
    """Short answers: a level that babbles goes on to the limit."""
    set_longest_reply(page, 16)


def set_longest_reply(page: Page, tokens: int) -> None:
    page.locator("#compare-settings").get_by_role("button", name="Sampling settings").click()
    longest = page.locator("#compare-max-tokens input[type=number]")
    longest.fill(str(tokens))
    longest.press("Tab")


def ask(page: Page, text: str) -> None:
    page.get_by_label("One question for both").fill(text)
    page.get_by_role("button", name="Ask both").click()
    expect(page.locator("#compare-stop")).to_be_visible()


def level(page: Page, side: str) -> str:
    return page.get_by_role("slider", name=f"Level of {side}").get_attribute("aria-valuetext") or ""


def test_one_click_shows_four_bits_beside_eight_and_the_dial_goes_on_to_four_levels(compare: Page) -> None:
    assert level(compare, "A").startswith("Q8_0, 8.5 bits") and level(compare, "B").startswith("Q4_0, 5.3 bits")
    expect(compare.locator("#compare-dial")).to_contain_text("Q2_K to Q6_K are left out")
    compare.locator("#compare-example-1").click()
    wait_for_result(compare)
    first, second = compare.locator("#compare-pane-a"), compare.locator("#compare-pane-b")
    for pane, name in ((first, "Q8_0"), (second, "Q4_0")):
        expect(pane.locator(".gp-pane-head")).to_contain_text(re.compile(rf"{name} · .* bits · made from Q4_1"))
        expect(pane.locator(".gp-check-yes")).to_contain_text("cold")
        expect(pane).to_contain_text(re.compile(r"[\d.]+ tok/s.* tokens"))
    result = compare.locator("#compare-result")
    expect(result).to_contain_text(re.compile("Same answer, with a 37% smaller file|Both get it right"))
    expect(result.locator(".gp-tile").first).to_contain_text("145 MB → 91.7 MB")
    agreement = result.locator(".gp-tile").last
    expect(agreement).to_contain_text(re.compile(r"\d+% of A’s words"), timeout=MAKING_MILLISECONDS)
    for part in ("#compare-dial", "#compare-pane-b", "#compare-result .gp-verdict", "#compare-send"):
        expect(compare.locator(part)).to_be_in_viewport(ratio=1)
    assert compare.evaluate("scrollY") == 0

    handle = compare.get_by_role("slider", name="Level of B")
    handle.focus()
    compare.keyboard.press("End")
    assert level(compare, "B").startswith("Q2_0")  # at once, before anything is asked
    expect(second.locator(".gp-pane-head")).to_contain_text("Q2_0", timeout=MAKING_MILLISECONDS)
    wait_for_result(compare)
    expect(second.locator(".gp-check-no")).to_contain_text("cold")
    expect(result).to_contain_text("Q8_0 gets it right. Q2_0 does not, with a 57% smaller file.")
    expect(first.locator(".gp-token-first")).to_have_count(1)
    expect(second.locator(".gp-token-first")).to_have_count(1)

    compare.keyboard.press("ArrowLeft")
    expect(second.locator(".gp-check-yes")).to_contain_text("cold")  # kept: nothing runs
    expect(compare.locator("#compare-stop")).to_be_hidden()
    expect(result).not_to_contain_text("57%")
    assert compare.evaluate("window.shifted") < LARGEST_SHIFT, compare.evaluate("window.shifts")

    token = first.locator(".gp-token").first
    token.focus()
    expect(first.locator(".gp-top-a li")).to_have_count(5)
    said = first.locator(".gp-top-word").inner_text()
    compare.keyboard.press("ArrowRight")
    expect(first.locator(".gp-token").nth(1)).to_be_focused()
    expect(first.locator(".gp-top-word")).not_to_have_text(said)
    compare.keyboard.press("Escape")
    expect(first.locator(".gp-top-five")).to_have_count(0)

    compare.set_viewport_size({"width": 1600, "height": 900})  # room for four
    further = compare.locator("#compare-further")
    expect(further.get_by_role("article", name="Answer of Q2_0")).to_contain_text("61.9 MB")
    further.get_by_role("button", name="Ask another level too: IQ4_NL").click()
    expect(second.locator(".gp-pane-head")).to_contain_text("IQ4_NL", timeout=MAKING_MILLISECONDS)
    wait_for_result(compare)
    expect(further.get_by_role("article")).to_have_count(2)
    further.get_by_role("button", name="Put into B: Q2_0").press("Enter")
    expect(second.locator(".gp-check-no")).to_contain_text("cold")  # kept, too
    assert level(compare, "B").startswith("Q2_0")
    expect(further.get_by_role("button", name=re.compile("Put into B: (IQ4_NL|Q4_0)"))).to_have_count(2)
    compare.set_viewport_size({"width": 1280, "height": 800})

    # On a slow computer the parts of one update come in several frames.
    browser = compare.context.new_cdp_session(compare)
    browser.send("Emulation.setCPUThrottlingRate", {"rate": 6})
    compare.locator("#compare-clear").click()
    compare.evaluate("window.shifted = 0")
    expect(compare.locator("#compare-question")).to_contain_text("No question yet")
    compare.locator("#compare-undo").click()
    wait_for_result(compare)
    expect(compare.locator("#compare-question")).to_contain_text("opposite")
    expect(compare.locator("#compare-undo")).to_be_hidden()
    browser.send("Emulation.setCPUThrottlingRate", {"rate": 1})
    assert compare.evaluate("window.shifted") < LARGEST_SHIFT, compare.evaluate("window.shifts")


def test_a_press_on_a_level_moves_b_and_a_dragged_handle_moves_a_also_after_a_reload(
    visit: Visitor, compare: Page
) -> None:
    compare.locator('[data-level="Q2_0"]').click()
    assert level(compare, "B").startswith("Q2_0")
    handle, goal = compare.locator(".gp-tag-a.gp-handle"), compare.locator('[data-level="Q4_1"]')
    box = handle.bounding_box()
    assert box
    compare.mouse.move(box["x"] + 5, box["y"] + 5)
    compare.mouse.down()
    goal.hover()
    compare.mouse.up()
    assert level(compare, "A").startswith("Q4_1") and level(compare, "B").startswith("Q2_0")
    expect(compare.locator("#compare-result .gp-tile").first).to_contain_text(
        "98.4 MB → 61.9 MB"
    )  # before any question
    expect(compare).to_have_url(re.compile(r"left=SmolLM2-135M-Instruct%3AQ4_1&.*right=SmolLM2-135M-Instruct%3AQ2_0"))
    compare.get_by_role("button", name="Colours: as the system").click()
    compare.get_by_role("button", name="Colours: light").click()
    visit.reload(compare)
    visit.open_tab(compare, "Compare")
    expect(compare.get_by_role("slider", name="Level of A")).to_have_attribute("aria-valuetext", re.compile("^Q4_1"))
    expect(compare.get_by_role("slider", name="Level of B")).to_have_attribute("aria-valuetext", re.compile("^Q2_0"))
    expect(compare.locator("body")).to_have_class(re.compile("dark"))


def test_two_different_models_are_one_click_away(compare: Page) -> None:
    expect(compare.locator("#left-model")).to_be_hidden()
    compare.get_by_role("button", name="Other models or settings").click()
    for group in ("left", "right"):
        expect(compare.locator(f"#{group}-model")).to_be_visible()
        expect(compare.locator(f"#{group}-level")).to_contain_text("Q4_1")
        expect(compare.locator(f"#{group}-context")).to_contain_text("4K")
    compare.locator("#right-level").get_by_text("Q4_1", exact=True).click()
    expect(compare.get_by_role("slider", name="Level of B")).to_have_attribute("aria-valuetext", re.compile("Q4_1"))
    memory = compare.locator("#right-memory .gp-memory-head b").first
    expect(compare.locator("#right-fold")).to_contain_text("Q4_1")
    needed = memory.inner_text()
    compare.locator('#compare-dial [data-level="Q2_0"]').click()  # the picker follows the dial
    expect(compare.locator("#right-fold")).to_contain_text("Q2_0")
    expect(memory).not_to_have_text(needed)


def test_running_at_the_same_time_says_that_cores_are_shared(compare: Page) -> None:
    compare.locator("#compare-mode").get_by_label("At the same time").check()
    expect(compare.locator("#compare-beforehand")).to_contain_text("share the cores")
    briefly(compare)
    ask(compare, "What is 2+2?")
    wait_for_result(compare)
    expect(compare.locator("#compare-result")).to_contain_text("both shared the cores")


def test_a_blind_vote_by_key_hides_the_names_and_can_be_taken_back(compare: Page) -> None:
    compare.get_by_label("Blind").check()
    briefly(compare)
    ask(compare, "What is 2+2?")
    expect(compare.locator("#compare-ballot")).to_be_visible(timeout=MAKING_MILLISECONDS)
    for side in ("a", "b"):
        assert not re.search(r"Q8_0|Q4_0|tok/s", compare.locator(f"#compare-pane-{side}").inner_text())
    ballot = compare.locator("#compare-ballot")
    compare.keyboard.press("2")
    expect(compare.locator("#compare-pane-a")).to_contain_text(re.compile("was Q[84]_0"))
    expect(ballot).to_contain_text(re.compile("You preferred B: Q[84]_0, the (smaller|larger) one. So far: "))
    compare.keyboard.press("u")
    expect(ballot.get_by_role("button", name="A better")).to_be_visible()
    assert not re.search(r"Q8_0|Q4_0|tok/s", compare.locator("#compare-pane-a").inner_text())
    ballot.get_by_role("button", name="A better").click()
    expect(ballot).to_contain_text("You preferred A")
    agreement = compare.locator("#compare-result .gp-tile").last  # measured by itself, after the vote
    expect(agreement).to_contain_text(re.compile(r"\d+% of A’s words"), timeout=MAKING_MILLISECONDS)
    compare.get_by_role("button", name="Blind votes").click()
    expect(compare.locator("#compare-tally")).to_contain_text(re.compile("preferred in [01] of 1"))


def test_a_browser_that_is_busy_meanwhile_loses_no_update(compare: Page) -> None:
    briefly(compare)
    ask(compare, "What is 1+1?")
    compare.evaluate("const end = performance.now() + 6000; while (performance.now() < end);")  # all comes at once
    wait_for_result(compare)
    for pane in ("#compare-pane-a", "#compare-pane-b"):
        expect(compare.locator(pane)).to_contain_text(re.compile(r"[\d.]+ tok/s.* tokens"))
        expect(compare.locator(pane).locator(".gp-token").first).to_be_visible()
    expect(compare.locator("#compare-stop")).to_be_hidden()


def test_a_stop_leaves_both_panes_ready(compare: Page) -> None:
    set_longest_reply(compare, 2048)  # the story is still being written when Stop is pressed
    ask(compare, "Write a long story about a fox.")
    expect(compare.locator("#compare-pane-a .gp-live-writes")).to_contain_text("tok/s", timeout=MAKING_MILLISECONDS)
    compare.locator("#compare-stop").click()
    expect(compare.locator("#compare-pane-a")).to_contain_text("stopped by you")
    expect(compare.locator("#compare-send")).to_be_visible()


def test_a_link_opens_the_same_set_up_again(visit: Visitor, compare: Page) -> None:
    compare.locator("#compare-mode").get_by_label("At the same time").check()
    compare.get_by_label("One question for both").fill("Why is the sky blue?")
    compare.get_by_role("button", name="Copy link").click()
    link = compare.locator("#compare-link textarea, #compare-link input")
    expect(link).to_have_value(re.compile("^http.*left="))
    copied = link.input_value()
    compare.get_by_label("One question for both").fill("And the sea?")
    expect(link).to_be_hidden()
    in_chat = "tab=chat&chat=SmolLM2-135M-Instruct:Q4_1&chat_context=2048&chat_kv=q8_0"  # as its address has it
    page = visit(at=f"{copied}&{in_chat}", wait=False)
    expect(page.get_by_role("tab", name="Chat", exact=True)).to_have_attribute("aria-selected", "true")
    expect(page.locator("#chat-context")).to_contain_text("2,048 tokens: about")
    page.wait_for_function("window.chatIsOpen && window.compareIsOpen")
    page.locator("#chat-context label", has_text="8K").click()
    expect(page).to_have_url(re.compile("left=.*chat=SmolLM2-135M-Instruct%3AQ4_1&chat_context=8192&chat_kv=q8_0"))
    page.get_by_role("tab", name="Compare", exact=True).click()
    expect(page.get_by_label("One question for both")).to_have_value("Why is the sky blue?")
    expect(page.locator("#compare-mode").get_by_label("At the same time")).to_be_checked()
    expect(page.get_by_role("slider", name="Level of A")).to_have_attribute("aria-valuetext", re.compile("Q8_0"))


def test_on_a_phone_one_pane_shows_and_a_switch_goes_to_the_other(visit: Visitor) -> None:
    page = visit(390, 844, tab="Compare")
    page.locator("#compare-example-1").click()
    wait_for_result(page)
    expect(page.locator("#compare-pane-a")).to_be_visible()
    expect(page.locator("#compare-pane-b")).to_be_hidden()
    page.locator("#compare-switch").get_by_role("button", name="B").click()
    expect(page.locator("#compare-pane-b")).to_be_visible()
    expect(page.locator("#compare-pane-a")).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
