"""Tools in the chat, in a real browser: a call asks first, runs, and stands in the conversation as a card."""

from __future__ import annotations

import json

from playwright.sync_api import expect

from playground.engine.protocol import Finished
from tests.e2e.visitor import Visitor, without_dice
from tests.support.scripted_engine import TIMINGS

CALL = {"id": "a1", "type": "function", "function": {"name": "calculator", "arguments": '{"expression": "12*12"}'}}
SECONDS = 90_000  # milliseconds; a load and a reply take a few seconds, and many where all cores are busy
BROKEN = '<tool_call>{"name": "date", "arguments" {}}</tool_call>'


def test_a_call_waits_runs_when_it_is_allowed_and_comes_back_after_a_reload(visit: Visitor) -> None:
    ended = Finished(0, "end of text", TIMINGS)
    end = {"finish_reason": ended.reason, "timings": ended.timings.to_json()}
    malformed = {"text": BROKEN, "reason": "it is not JSON: Expecting ':' delimiter", "place": BROKEN.index("{}")}
    turns = [
        {"role": "user", "content": "What day is it?"},
        {"role": "assistant", "content": BROKEN, "malformed_calls": [malformed], **end},
        {"role": "user", "content": "What is 12 times 12?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL], **end},
    ]
    page = visit(kept={"gguf-playground-chat": json.dumps({"messages": turns})})
    log, question = page.locator("#chat-log"), page.locator("#chat-tools-asked")
    expect(log.locator(".gp-call-malformed mark")).to_have_text("{")
    expect(log.locator(".gp-call-malformed pre")).to_have_text(BROKEN)
    expect(question).to_contain_text("The model wants to call calculator. It has not run yet.")
    run = page.get_by_role("button", name="Run", exact=True)
    run.click()
    expect(page.locator("#chat-problem")).to_contain_text("The tools are switched off.")
    page.locator("#chat-tools-settings").get_by_role("button", name="Tools").first.click()
    page.get_by_role("radio", name="Ask before each call").check()
    without_dice(page)
    run.click()
    expect(log.locator(".gp-call-returned .gp-call-result")).to_have_text("144", timeout=SECONDS)
    expect(run).to_be_hidden()
    expect(page.locator("#chat-send")).to_be_visible(timeout=SECONDS)
    visit.reload(page)
    expect(log.locator(".gp-call-returned .gp-call-result")).to_have_text("144")
    visit.open_tab(page)
    page.locator("#chat-tools-settings").get_by_role("button", name="Tools").first.click()
    expect(page.get_by_role("radio", name="Ask before each call")).to_be_checked()
