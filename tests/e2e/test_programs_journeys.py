"""Connecting a program, in a real browser: what is copied works, what it asks is seen, and Stop ends it."""

from __future__ import annotations

import threading

import openai
from openai import OpenAI
from playwright.sync_api import Page, expect

from tests.support.playground_process import PlaygroundProcess

SECONDS = 90_000  # milliseconds; a reply takes one or two seconds, and many where all cores are busy


def test_a_person_connects_a_program_sees_what_it_asks_and_stops_it(
    page: Page, playground_process: PlaygroundProcess
) -> None:
    page.get_by_role("tab", name="Models").click()
    page.get_by_role("button", name="Connect an agent").click()
    panel = page.locator("#programs")
    expect(panel.locator("code").first).to_have_text(f"{playground_process.address}/v1")
    panel.get_by_role("button", name="Copy: Address").click()
    expect(panel.get_by_role("button", name="Copy: Address")).to_have_text("Copied")
    client = OpenAI(base_url=panel.locator("code").first.inner_text(), api_key="none", max_retries=0)
    model = panel.locator("code").nth(1).inner_text()
    failed: list[openai.APIStatusError] = []

    def ask() -> None:
        try:
            client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "Tell me a very long story."}], max_tokens=3000
            )
        except openai.APIStatusError as error:
            failed.append(error)

    program = threading.Thread(target=ask)
    program.start()
    row = panel.locator("#programs-calls li")
    expect(row).to_contain_text("tok/s", timeout=SECONDS)
    row.get_by_role("button", name="Stop the reply").click()
    program.join(SECONDS / 1000)
    assert failed and "stopped on the page" in str(failed[0])
    expect(panel).to_contain_text("No program asks anything now", timeout=SECONDS)

    paired = f"compare:{model}|{model}"
    client.chat.completions.create(model=paired, messages=[{"role": "user", "content": "What is 2+2?"}], max_tokens=16)
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="Agents’ runs on two models").click()
    expect(page.locator("#agent-pairs")).to_contain_text("The answers are the same.", timeout=SECONDS)
