"""What axe-core, the usual checker of web accessibility, finds on the page: nothing, in thirty states, light and dark.

A page is led from state to state, as a person would get there. In light every rule is checked; in dark, where
nothing but the colours changes, those about colours. On the way each tab is seen at all usual widths.
"""

from __future__ import annotations

import re
from typing import Any, Final

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from tests.e2e.visitor import Visitor

MAKING_MILLISECONDS: Final = 150_000  # the first comparison makes both levels
WIDTHS: Final = (320, 390, 640, 768, 1920, 1280)  # pixels, the width of the walk last
COLOURS: Final = {"runOnly": ["color-contrast", "link-in-text-block"]}
RUN: Final = """async options => (await axe.run(document, options)).violations.map(
  rule => `${rule.id}: ${rule.help}; ${rule.nodes.map(node => node.target.join(' ')).slice(0, 5)}`)"""


class Checker:
    """Looks at a page in each state that it is told of, and collects what is found there."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.findings: list[str] = []

    def check(self, page: Page, state: str) -> None:
        """state: its name, for the findings."""
        if not page.evaluate("'axe' in window"):
            page.evaluate(AXE_SCRIPT)
        for scheme, options in (("light", {}), ("dark", COLOURS)):
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.wait_for_function("dark => document.body.classList.contains('dark') === dark", arg=scheme == "dark")
            found: list[Any] = page.evaluate(RUN, {"resultTypes": ["violations"], **options})
            self.findings += [f"{state}, {scheme}: {finding}" for finding in found]
        page.emulate_media(color_scheme="light")
        self.states.append(state)

    def check_widths(self, page: Page, tab: str) -> None:
        """Nothing of the open tab is wider than the window."""
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            too_wide = page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
            if too_wide > 0:
                self.findings.append(f"{tab}, {width} pixels wide: {too_wide} too wide")


def test_axe_finds_nothing_in_thirty_states(visit: Visitor) -> None:
    checker = Checker()
    page = visit(1280, 900, tab="Compare")
    walk_through_compare(page, checker)
    walk_through_chat(visit, page, checker)
    walk_through_the_rest(page, checker)
    walk_on_a_phone(visit(390, 844, tab="Compare"), checker)
    assert checker.findings == []
    assert len(set(checker.states)) >= 30


def walk_through_compare(page: Page, checker: Checker) -> None:
    checker.check(page, "compare as it opens")
    page.locator(".gp-skip").focus()
    checker.check(page, "the skip link")
    page.locator('[data-level="Q2_0"]').click()
    expect(page.locator("#compare-result .gp-tile").first).to_contain_text("→")
    checker.check(page, "another pair before any question")
    checker.check_widths(page, "Compare")
    page.get_by_role("slider", name="Level of A").focus()
    checker.check(page, "a handle of the dial in focus")
    page.get_by_role("button", name="Other models or settings").click()
    expect(page.locator("#right-level")).to_contain_text("Q4_1")
    checker.check(page, "two pickers")
    page.get_by_role("button", name="Other models or settings").click()
    page.locator("#compare-settings").get_by_role("button", name="Sampling settings").click()
    longest = page.locator("#compare-max-tokens input[type=number]")
    longest.fill("16")
    longest.press("Tab")
    checker.check(page, "compare's settings")
    page.get_by_label("One question for both").fill("What is 2+2?")
    page.get_by_role("button", name="Ask both").click()
    expect(page.locator("#compare-result .gp-verdict")).to_be_visible(timeout=MAKING_MILLISECONDS)
    expect(page.locator("#compare-pane-a .gp-token").first).to_be_visible()
    checker.check(page, "two answers")
    page.locator("#compare-pane-a .gp-token").first.focus()
    expect(page.locator(".gp-top-five")).to_be_visible()
    checker.check(page, "what both would have said")
    page.keyboard.press("Escape")
    page.get_by_text("Details: times").click()
    checker.check(page, "the details of a comparison")
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#compare-link")).to_be_visible()
    checker.check(page, "a link to the set-up")
    page.get_by_label("Blind").check()
    page.get_by_label("One question for both").fill("What is 2+2?")
    page.get_by_role("button", name="Ask both").click()
    expect(page.locator("#compare-ballot")).to_be_visible(timeout=MAKING_MILLISECONDS)
    checker.check(page, "a blind ballot")
    page.get_by_role("button", name="A better").click()
    expect(page.locator("#compare-ballot")).to_contain_text("You preferred A")
    page.get_by_role("button", name="Blind votes").click()
    expect(page.locator("#compare-tally")).to_contain_text("preferred in")
    checker.check(page, "after a vote")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#compare-undo")).to_be_visible()
    checker.check(page, "a comparison cleared")


def walk_through_chat(visit: Visitor, page: Page, checker: Checker) -> None:
    visit.open_tab(page)
    checker.check(page, "an empty chat")
    for name in ("Sampling settings", "KV cache", "Connect a server"):
        page.locator(".gp-side").get_by_role("button", name=name).click()
    checker.check(page, "chat's settings")
    checker.check_widths(page, "Chat")
    page.get_by_label("Address").first.fill("ftp://nothing")
    page.locator("#chat-server-add").click()
    expect(page.locator("#chat-server-said [role=alert]")).to_be_visible()
    checker.check(page, "a server that is refused")
    longest = page.get_by_role("spinbutton", name="Longest reply")
    longest.fill("16")
    longest.press("Tab")
    page.get_by_label("Your message").fill("Write a long story.")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status").filter(has_text=re.compile("Reply ended"))).to_be_attached()
    checker.check(page, "a reply")
    page.get_by_text("Details of this reply").click()
    checker.check(page, "the details of a reply")
    page.get_by_role("button", name="Edit last").click()
    expect(page.locator("#chat-cancel-edit")).to_be_visible()
    checker.check(page, "a message that is edited")


def walk_through_the_rest(page: Page, checker: Checker) -> None:
    open_tab(page, "Measure", "#measure-levels input")
    checker.check(page, "measure")
    page.get_by_role("button", name="More settings").click()
    checker.check(page, "what else can be measured")
    checker.check_widths(page, "Measure")
    open_tab(page, "Fit", "#fit-kv-sum .gp-kv-table")
    checker.check(page, "fit")
    page.get_by_label("PC with a GPU").check()
    page.locator("#fit-gpu-gb").get_by_label("12 GB").check()
    expect(page.locator("#fit-assumed")).to_contain_text("on the GPU")
    expect(page.locator("#fit-kv-sum .gp-kv-table")).to_be_visible()
    checker.check(page, "fit for a computer with a GPU")
    checker.check_widths(page, "Fit")
    page.get_by_role("button", name=re.compile("Q4_K_M with 128K: open in Chat")).click()
    expect(page.locator("#fit-away")).to_contain_text("not on this computer yet")
    checker.check(page, "a model that is not here")
    open_tab(page, "Models", "#models-shelf li")
    checker.check(page, "models")
    checker.check_widths(page, "Models")
    page.get_by_role("button", name=re.compile("Make a smaller one from")).first.click()
    expect(page.locator("#models-make-box")).to_be_visible()
    checker.check(page, "a smaller model to be made")
    page.get_by_role("button", name="Connect an agent").click()
    expect(page.locator("#programs code").first).to_be_visible()
    checker.check(page, "how a program connects")
    page.get_by_label("Search models, or paste owner/repo or a link").fill("qwen")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("#models-results")).to_contain_text("Offline mode is on")
    checker.check(page, "a search without a network")
    open_tab(page, "Learn", "input[data-steps]")
    checker.check(page, "learn")
    checker.check_widths(page, "Learn")
    page.locator("input[data-steps]").press("End")
    checker.check(page, "a block of weights at two bits")


def walk_on_a_phone(page: Page, checker: Checker) -> None:
    checker.check(page, "compare on a phone")
    open_tab(page, "Chat", "#chat-fold button")
    page.get_by_role("button", name=re.compile("change")).first.click()
    expect(page.locator("#chat-model input")).to_be_visible()
    checker.check(page, "the picker on a phone")
    open_tab(page, "Fit", "#fit-kv-sum .gp-kv-table")
    checker.check(page, "fit on a phone")
    open_tab(page, "Models", "#models-shelf li")
    checker.check(page, "models on a phone")


def open_tab(page: Page, name: str, until: str) -> None:
    """until: what stands there once the tab is filled."""
    page.get_by_role("tab", name=name, exact=True).click()
    expect(page.locator(until).first).to_be_visible()
