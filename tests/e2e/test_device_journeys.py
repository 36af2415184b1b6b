"""A person chooses where a model runs, on a computer with a GPU of 1 GiB (ggml's RPC server), in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import GPU, device_environment
from tests.support.playground_process import PlaygroundProcess

pytestmark = pytest.mark.device

REPLY_SECONDS = 90


@pytest.fixture(scope="module")
def playground_process(
    chromium: str, starter: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PlaygroundProcess]:
    with PlaygroundProcess(tmp_path_factory.mktemp("home"), device_environment(1024)) as running:
        yield running


def test_a_person_sees_where_a_model_will_run_and_chooses_it(page: Page) -> None:
    expect(page.locator("#head")).to_contain_text("1.07 GB free of 1.07 GB")
    memory = page.locator("#chat-memory")
    expect(memory).to_contain_text("All 31 layers on the GPU.")

    page.locator("#chat-picker").get_by_role("button", name="Where it runs").click()
    page.locator("#chat-where").get_by_text("CPU only").click()
    expect(memory).to_contain_text("On the CPU, as chosen.")
    page.locator("#chat-where").get_by_text("Some layers on the GPU").click()
    page.get_by_label("Layers on the GPU", exact=True).fill("10")
    expect(memory).to_contain_text("10 of 31 layers on the GPU, as chosen.")

    page.get_by_label("Your message").fill("What is 2+2?")
    page.get_by_role("button", name="Send").click()
    ended = page.get_by_role("status").filter(has_text=re.compile("Reply ended"))
    expect(ended).to_be_attached(timeout=REPLY_SECONDS * 1000)
    page.get_by_text("Details of this reply").click()
    expect(page.get_by_role("row", name=re.compile(f"^{GPU} "))).to_be_visible()
    expect(page.get_by_text(re.compile(rf"10 of 31 layers on {GPU} \(\w+\), the rest on the CPU"))).to_be_visible()

    page.reload()  # the chat and where it ran come back
    page.get_by_role("tab", name="Chat", exact=True).click()
    expect(memory).to_contain_text("10 of 31 layers on the GPU, as chosen.")
