"""What axe-core, the usual checker of web accessibility, finds on the page: nothing serious, in light and in dark."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.e2e.visitor import Visitor

GRAVE = ("serious", "critical")


def grave_violations(page: Page) -> list[str]:
    """Each as "rule: what it is about; where it was found"."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{rule['id']}: {rule['help']}; {[node['target'] for node in rule['nodes']]}"
        for rule in found
        if rule["impact"] in GRAVE
    ]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_open_page_has_no_grave_barrier(visit: Visitor, dark: bool) -> None:
    page = visit(dark=dark)
    expect(page.locator("#chat-level")).to_contain_text("Fits")
    assert grave_violations(page) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_chat_with_its_details_open_has_no_grave_barrier(visit: Visitor, dark: bool) -> None:
    page = visit(dark=dark)
    page.get_by_role("button", name="What is 2+2?").click()
    expect(page.get_by_role("status").filter(has_text=re.compile("Reply ended"))).to_be_attached()
    page.get_by_text("Details of this reply").click()
    page.get_by_role("button", name="Sampling settings").click()
    expect(page.get_by_label("System prompt")).to_be_visible()
    assert grave_violations(page) == []


def test_the_picker_unfolded_on_a_phone_has_no_grave_barrier(visit: Visitor) -> None:
    page = visit(390, 844)
    page.get_by_role("button", name=re.compile("change")).click()
    expect(page.get_by_role("combobox", name="Model")).to_be_visible()
    assert grave_violations(page) == []
