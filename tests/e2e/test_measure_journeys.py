"""The Measure tab in a real browser: a level is measured in the background, drawn, kept, and saved as a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from playground.measure.store import MeasurementStore
from tests.e2e.visitor import Visitor
from tests.measure.answers.test_grid import all_answers
from tests.support.playground_process import PlaygroundProcess

TEXT = "Rivers carry more than water. In a dry summer this one brings down about forty kilograms of sand each second."


@pytest.fixture(scope="module")
def playground_process(
    chromium: str, starter: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PlaygroundProcess]:
    """A playground with the starter's one level: other journeys make more, and the largest would be the reference.

    Three levels have answered two prompts there before.
    """
    home = tmp_path_factory.mktemp("home")
    store = MeasurementStore(home / "data" / "measurements.sqlite")
    for each in all_answers():
        store.add_measurement(replace(each, model="SmolLM2-135M-Instruct"))
    with PlaygroundProcess(home) as running:
        yield running


def open_tab(page: Page) -> None:
    page.get_by_role("tab", name="Measure").click()
    expect(page.locator("#measure-estimate dl")).to_contain_text("Memory at most")


def test_a_level_is_measured_while_its_visitor_is_away(visit: Visitor, tmp_path: Path) -> None:
    (tmp_path / "rivers.txt").write_text(TEXT)
    page = visit()
    open_tab(page)
    page.get_by_role("button", name="More settings").click()
    page.locator("#measure-text input[type=file]").set_input_files(tmp_path / "rivers.txt")
    expect(page.locator("#measure-text")).to_contain_text("rivers")
    page.get_by_label("Speed and memory").uncheck()
    expect(page.locator("#measure-estimate")).to_contain_text("Disk while it runs")
    page.get_by_role("button", name="Measure", exact=True).click()
    expect(page.locator("#measure-said")).to_contain_text("in the background")
    visit.reload(page)
    open_tab(page)
    expect(page.locator("#measure-runs")).to_contain_text("1 of 1 measured")
    point = page.get_by_role("img", name="Q4_1")
    point.focus()
    expect(point.locator(".gp-point-said")).to_be_visible()
    expect(point).to_have_attribute("aria-label", "Q4_1, 98.4 MB, KL divergence 0, same most likely token 100.0%")
    expect(page.locator("#measure-table")).to_contain_text("the original: the others are compared with it")
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save as JSON").click()
    record = json.loads(Path(saving.value.path()).read_text())
    assert [each["text"] for each in record["measurements"]] == ["rivers.txt"]


def test_answers_are_voted_on_blind_with_the_keyboard(visit: Visitor) -> None:
    page = visit()
    open_tab(page)
    grid = page.locator("#measure-grid")
    expect(grid.get_by_role("table")).to_contain_text("the same as Q8_0")
    grid.get_by_role("button", name="Vote blind").click()
    expect(grid).to_contain_text("0 of 5 pairs")
    expect(grid).not_to_contain_text("Q8_0")
    for number, key in enumerate("12341", 1):
        page.keyboard.press(key)
        expect(grid).to_contain_text(f"{number} of 5 pairs")
    expect(grid).to_contain_text("All pairs are voted on")
    visit.reload(page)
    open_tab(page)
    expect(grid).to_contain_text("Blind votes on these levels")
    with page.expect_download() as saving:
        page.get_by_role("button", name="Answers as JSON").click()
    record = json.loads(Path(saving.value.path()).read_text())
    kinds = ("first_preferred", "second_preferred", "ties", "both_bad")
    assert sum(each[kind] for each in record["votes"] for kind in kinds) == 5 and len(record["measurements"]) == 6


def test_on_a_phone_in_the_dark_nothing_is_wider_than_the_page(visit: Visitor) -> None:
    page = visit(390, 844, dark=True)
    open_tab(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
