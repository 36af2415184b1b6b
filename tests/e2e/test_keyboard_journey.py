"""The whole page by keyboard alone, in a real browser: no key leads into a trap, and every control is reached."""

from __future__ import annotations

from typing import Final

from playwright.sync_api import Page, expect

from tests.e2e.visitor import Visitor

MOST_TABS: Final = 250  # presses; a tab of the page has some fifty stops
FOCUSED: Final = """() => {
  const part = document.activeElement;
  if (!part || part === document.body) return '';
  part.dataset.reached = 'yes';
  const box = part.getBoundingClientRect();
  return `${part.tagName} ${part.id || part.className} ${box.width > 0 && box.height > 0 ? '' : 'without a size'}`;
}"""
MISSED: Final = """() => {
  const groups = new Set([...document.querySelectorAll('input[type=radio][data-reached]')].map(radio => radio.name));
  const parts = document.querySelectorAll('button, a[href], input, select, textarea, summary, [tabindex="0"]');
  return [...parts].filter(part => part.checkVisibility({visibilityProperty: true, contentVisibilityAuto: true})
    && !part.disabled && part.tabIndex >= 0 && !part.dataset.reached && !part.closest('[aria-hidden=true], [inert]')
    && !(part.type === 'radio' && groups.has(part.name))
  ).map(part => `${part.id || part.name || part.className} ${part.ariaLabel || part.textContent.trim().slice(0, 40)}`);
}"""


def focused_tab(page: Page) -> str:
    return str(
        page.evaluate("document.activeElement.matches('[role=tab]') ? document.activeElement.textContent.trim() : ''")
    )


def walk(page: Page) -> list[str]:
    """Tab through the page until the skip link has the focus again; what had it on the way.

    A part that is drawn anew loses the focus; the next Tab goes on from its place.
    """
    way = [str(page.evaluate(FOCUSED))]
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        here = str(page.evaluate(FOCUSED))
        if "gp-skip" in here:
            return way
        way += [here] if here else []
    raise AssertionError(f"Tab does not leave the page: {way[-6:]}")


def assert_all_reached(page: Page) -> None:
    """From its beginning through the whole page; twice if something was drawn anew meanwhile."""
    page.locator(".gp-skip").focus()
    way = walk(page)
    if page.evaluate(MISSED):
        way += walk(page)
    unseen = [stop for stop in way if "without a size" in stop]
    assert unseen == [], unseen
    missed = page.evaluate(MISSED)
    assert missed == [], missed


def go_to(page: Page, name: str) -> None:
    """From wherever the focus is back to the tabs, and along them with the arrow keys."""
    for _ in range(MOST_TABS):
        if focused_tab(page):
            break
        page.keyboard.press("Shift+Tab")
    while focused_tab(page) != name:
        before = focused_tab(page)
        page.keyboard.press("ArrowRight")
        assert focused_tab(page) not in ("", before)
    expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")


def test_the_whole_page_by_keyboard(visit: Visitor) -> None:
    page = visit(1280, 900, wait=False)
    page.wait_for_function("window.chatIsOpen && window.compareIsOpen")
    expect(page.locator("#compare-dial .gp-handle")).to_have_count(2)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the main input")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("One question for both")).to_be_focused()
    page.keyboard.type("Write a long story about a fox.")
    page.keyboard.press("Enter")
    expect(page.locator("#compare-stop")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#compare-send")).to_be_visible()
    assert_all_reached(page)

    go_to(page, "Chat")
    page.keyboard.press("Home")
    assert focused_tab(page) == "Compare"
    go_to(page, "Chat")
    expect(page.locator("#chat-memory .gp-memory-head b").first).to_be_visible()
    page.keyboard.press("Tab")
    model = page.locator("#chat-model input")
    expect(model).to_be_focused()
    expect(model).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Tab")
    expect(model).to_have_attribute("aria-expanded", "false")
    expect(page.locator("ul.options")).to_have_count(0)
    settings = page.get_by_role("button", name="Sampling settings")
    expect(settings).to_have_attribute("aria-expanded", "false")
    settings.focus()
    page.keyboard.press("Enter")
    expect(settings).to_have_attribute("aria-expanded", "true")
    assert_all_reached(page)
    page.locator(".gp-skip").focus()
    page.keyboard.press("Enter")
    page.keyboard.type("Write a long story.")
    page.keyboard.press("Enter")
    expect(page.locator("#chat-live .gp-live-writes")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("status").filter(has_text="Reply stopped")).to_be_attached()

    for name, filled in (
        ("Measure", "#measure-levels input"),
        ("Fit", "#fit-kv-sum .gp-kv-table"),
        ("Models", "#models-shelf li"),
        ("Learn", "input[data-steps]"),
    ):
        go_to(page, name)
        expect(page.locator(filled).first).to_be_visible()
        assert_all_reached(page)
