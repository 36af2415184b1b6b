"""A Space in a browser: what is different there, and that nothing is broken by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.visitor import Visitor
from tests.support.playground_process import PlaygroundProcess
from tests.support.space_process import SPACE, space_process


@pytest.fixture(scope="module")
def on_space(chromium: str, starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlaygroundProcess]:
    with space_process(tmp_path_factory.mktemp("space"), starter) as process:
        yield process


@pytest.fixture
def visit(browser: Browser, on_space: PlaygroundProcess) -> Iterator[Visitor]:
    visitor = Visitor(browser, on_space.address.replace("0.0.0.0", "127.0.0.1").replace("localhost", "127.0.0.1"))
    yield visitor
    visitor.leave()
    assert not visitor.unexpected, visitor.unexpected


def test_a_space_names_itself_and_offers_its_own_copy(visit: Visitor) -> None:
    page = visit()
    expect(page.locator("#head")).to_contain_text("This Space")
    page.evaluate("window.open = address => { window.opened = address }")
    page.locator("#duplicate").click()
    page.wait_for_function("window.opened")
    assert page.evaluate("window.opened").endswith(f"/{SPACE}?duplicate=true")


def test_compare_begins_with_two_levels_that_are_there(visit: Visitor) -> None:
    page = visit()
    page.get_by_role("tab", name="Compare").click()
    left, right = (page.locator(f"#{side}-level input:checked") for side in ("left", "right"))
    expect(left).to_have_value("Q8_0")
    expect(right).to_have_value("Q4_K_M")
