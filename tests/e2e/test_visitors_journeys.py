"""Two people with a browser each at one playground: one sees what the other has loaded, and joins it."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.e2e.visitor import Visitor


def load(page: Page) -> None:
    page.get_by_role("button", name="Load", exact=True).click()
    expect(page.locator("#chat-progress")).to_contain_text("ready", timeout=90_000)


def choose_context(page: Page, tokens: str) -> None:
    page.locator("#chat-context").get_by_role("radio", name=re.compile(tokens)).first.check(force=True)


def test_a_newcomer_sees_what_is_in_memory_and_joins_it(visit: Visitor) -> None:
    one = visit()
    choose_context(one, "2K|2,048")
    load(one)
    choose_context(one, "4K|4,096")
    expect(one.locator("#chat-context")).to_contain_text("4,096 tokens: about")
    choose_context(one, "2K|2,048")
    expect(one.get_by_role("button", name="In memory · Unload")).to_be_visible()
    loaded_models = one.get_by_role("region", name="Loaded models")
    expect(loaded_models).to_contain_text("2,048 tokens")
    expect(loaded_models).to_contain_text("selected")

    other = visit()
    there = other.get_by_role("region", name="Loaded models")
    expect(there).to_contain_text("SmolLM2 135M Instruct · Q4_1 · 2,048 tokens")
    there.get_by_role("listitem").filter(has_text="2,048 tokens").get_by_role("button", name="Use").click()
    expect(there).to_contain_text("selected")
    expect(other.locator("#chat-context").get_by_role("radio", name=re.compile("2K|2,048")).first).to_be_checked()
