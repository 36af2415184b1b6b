"""A person's way through the Chat tab, in a real browser with the real starter model."""

from __future__ import annotations

from playwright.sync_api import Page, expect


def test_the_page_opens(page: Page) -> None:
    expect(page.get_by_role("tab", name="Chat")).to_be_visible()
