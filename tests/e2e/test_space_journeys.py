"""A Space in a browser: what is different there, and that nothing is broken by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.test_chat import SUM, ask_and_wait
from tests.e2e.visitor import Visitor, without_dice
from tests.support.playground_process import PlaygroundProcess
from tests.support.space_process import SPACE, space_process
from tests.support.zerogpu_service import ZeroGpuService, libraries, visitors_token, zerogpu_service


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


@pytest.fixture
def service() -> Iterator[ZeroGpuService]:
    with zerogpu_service() as service:
        yield service


@pytest.fixture
def on_zerogpu(
    chromium: str, browser: Browser, starter: Path, service: ZeroGpuService, tmp_path: Path
) -> Iterator[Visitor]:
    variables = {**service.variables, "PLAYGROUND_ZEROGPU_LIBRARIES": str(libraries(tmp_path / "libraries"))}
    with space_process(tmp_path, starter, variables) as process:
        visitor = Visitor(browser, process.address.replace("0.0.0.0", "127.0.0.1").replace("localhost", "127.0.0.1"))
        yield visitor
        visitor.leave()
    assert not visitor.unexpected, visitor.unexpected


def test_zerogpu_writes_where_it_is_chosen_until_the_quota_is_gone(
    on_zerogpu: Visitor, service: ZeroGpuService
) -> None:
    """The processor is the default; what is left is said beforehand; without a GPU the processor takes over."""
    page = on_zerogpu()
    page.set_extra_http_headers({"x-ip-token": visitors_token()})
    page.locator("#chat-picker").get_by_role("button", name="Where it runs").click()
    expect(page.get_by_role("radio", name="This Space's processor")).to_be_checked()
    expect(page.locator("#chat-where")).to_contain_text("Not seen on the real platform yet")
    page.get_by_role("radio", name="ZeroGPU").check()
    expect(page.locator("#chat-zerogpu")).to_contain_text("120 s without an account")

    without_dice(page)
    ask_and_wait(page, SUM)
    expect(page.locator("#chat-problem")).to_contain_text("of ZeroGPU's time")
    expect(page.locator("#chat-log")).to_contain_text("4")
    service.wait_for("/release")

    service.left, service.again = 3, 7200
    ask_and_wait(page, SUM)
    expect(page.locator("#chat-problem")).to_contain_text("So the processor writes this reply")
    expect(page.locator("#chat-problem")).to_contain_text("3s left")
    page.get_by_role("radio", name="This Space's processor").check()
    page.get_by_role("radio", name="ZeroGPU").check()
    expect(page.locator("#chat-zerogpu")).to_contain_text("3 s are left")
