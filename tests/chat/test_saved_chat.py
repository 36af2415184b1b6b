"""A saved chat is read back as it was, and a text that is none is refused with a sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from playground.chat.conversation import Conversation
from playground.chat.export import as_json
from playground.chat.history import HistoryLimits
from playground.chat.saved_chat import (
    growing_text,
    read_growing_reply,
    read_saved_chat,
    read_stored_settings,
)
from playground.chat.session import ChatSession, Instructions, ModelUsed
from playground.chat.template.message import Message
from playground.engine.protocol import Finished
from playground.errors import RequestRefused
from playground.llama.params import DeviceChoice
from playground.llama.sampling_extras import Sampling
from tests.support.scripted_engine import TIMINGS

LIMITS = HistoryLimits(messages=6, message_characters=1000, all_characters=4000)
WHERE = DeviceChoice("auto", 10)
RAN_ON = "10 of 31 layers on CUDA0 (CUDA), the rest on the CPU"
MODEL = ModelUsed("Tiny", "Tiny-Q4_1.gguf", "Q4_1", 2048, "q8_0", ("Tiny-135M", "Q4_1"), WHERE, RAN_ON)
SESSION = replace(
    ChatSession(
        Conversation(),
        instructions=Instructions("pirate.md", "Answer as a pirate."),
        model=MODEL,
        sampling=Sampling(0.5, 20, 0.9, 0.1, 1.1, seed=7),
        max_tokens=256,
    )
    .with_question("Hi", LIMITS)
    .with_reply(Message("assistant", "Ahoy!", "Hm."), Finished(0, "end of text", TIMINGS))
    .with_question("And?", LIMITS)
    .with_partial_reply(Message("assistant", "Well,"), "You stopped the reply.")
    .with_system_prompt("Be brief."),
)


def read(data: Any, name: str = "notes.json") -> Any:
    text = data if isinstance(data, str) else json.dumps(data)
    return read_saved_chat(text, LIMITS, 1024, name)


@pytest.mark.parametrize("saved", [SESSION.to_stored_text(), as_json(SESSION.transcript())], ids=["tab", "file"])
def test_a_chat_is_read_back_as_it_was(saved: str) -> None:
    session, settings = read(saved)
    assert session == SESSION
    assert (settings.model, settings.level, settings.context_size, settings.kv_type, settings.device) == (
        "Tiny-135M", "Q4_1", 2048, "q8_0", "auto:10",
    )  # fmt: skip
    assert (settings.system, settings.numbers["seed"], settings.numbers["max_tokens"]) == ("Be brief.", 7, 256)
    assert settings.numbers["temperature"] == 0.5 and settings.ignored == ()


def test_a_message_that_is_being_edited_is_still_edited_after_a_reload() -> None:
    session, _ = read(SESSION.with_editing(0, "a draft").to_stored_text())
    assert (session.editing, session.draft) == (0, "a draft")


def test_messages_alone_are_a_chat_as_other_programs_write_it() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    for data in (messages, {"messages": messages}):
        session, settings = read(data)
        assert [message.content for message in session.conversation.messages] == ["Hi"]
        assert settings.numbers == {}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("GGUF\x03", "notes.json cannot be opened: it is not JSON."),
        ("[" * 30_000, "notes.json cannot be opened: it is not JSON."),
        ("7", "it has no list of messages"),
        ({"title": "a recipe"}, "it has no list of messages"),
        ({"panes": []}, "notes.json is a saved comparison, and only chats can be opened."),
        ({"messages": "Hi"}, "its messages are not a list"),
        ({"messages": [{"role": "wizard", "content": "Hi"}]}, "the role of message 1 is none of"),
        ({"messages": ["Hi"]}, "message 1 has no role and content"),
        ({"messages": [{"role": "user", "content": 7}]}, "message 1 is not text"),
        ({"messages": [{"role": "user", "content": "x" * 1001}]}, "Message 1 is 1,001 characters long"),
        ({"messages": [{"role": "user", "content": "x"}] * 7}, "has 7 messages; the playground takes up to 6"),
        (" " * 40_000, "notes.json is longer than any chat here may be."),
    ],
)
def test_a_text_that_is_no_chat_is_refused_with_its_name(data: Any, said: str) -> None:
    with pytest.raises(RequestRefused) as refusal:
        read(data)
    assert said in str(refusal.value) and "notes.json" in str(refusal.value)


def test_settings_that_nobody_can_choose_are_left_out_and_named() -> None:
    wanted = {
        "temperature": 99, "top_k": 2.5, "top_p": "high", "min_p": True, "seed": -2, "max_tokens": 10**9,
        "repeat_penalty": 1.1, "context_size": -1, "kv_type": "../../etc",
    }  # fmt: skip
    _, settings = read({"messages": [], "settings": wanted, "system": 7, "choice": [], "model_file": {}})
    assert settings.numbers == {"repeat_penalty": 1.1}
    assert (settings.context_size, settings.kv_type, settings.system, settings.model) == (None, None, None, None)
    assert set(settings.ignored) == {
        "temperature", "top-k", "top-p", "min-p", "seed", "longest reply", "context size", "KV cache precision",
        "system prompt",
    }  # fmt: skip


@pytest.mark.parametrize("stored", ["", "7", "{", "[" * 50_000, '{"settings": 7, "choice": "x"}', "x" * 50_000])
def test_settings_that_cannot_be_read_are_the_usual_ones(stored: str) -> None:
    assert read_stored_settings(stored, LIMITS, 1024).numbers == {}


@pytest.mark.parametrize(
    "figures",
    [
        {"finish_reason": "victory", "timings": TIMINGS.to_json()},
        {"finish_reason": "end of text", "timings": {**TIMINGS.to_json(), "total_seconds": None}},
        {"finish_reason": "end of text", "timings": {**TIMINGS.to_json(), "threads": -1}},
        {"finish_reason": "end of text", "timings": "fast"},
        {"cut_short": 7},
    ],
)
def test_figures_that_cannot_be_true_are_left_out(figures: dict[str, Any]) -> None:
    session, _ = read({"messages": [{"role": "assistant", "content": "Yes", **figures}]})
    assert (session.finished, session.cut_short) == ((), ())


@pytest.mark.parametrize(
    "reply", [Message("assistant", ""), Message("assistant", "a\n{", "b"), Message("assistant", "a")]
)
def test_a_growing_reply_is_read_back(reply: Message) -> None:
    assert read_growing_reply(growing_text(reply), LIMITS) == reply


def test_a_growing_reply_is_only_appended_to() -> None:
    steps = [("", ""), ("", "Let"), ("", "Let me"), ("4", "Let me"), ("4.", "Let me")]
    texts = [growing_text(Message("assistant", content, thinking)) for content, thinking in steps]
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))


@pytest.mark.parametrize("kept", ["", "too long", ".\x1e" + "x" * 5000, ".\ud800"])
def test_a_growing_reply_that_cannot_be_read_is_empty(kept: str) -> None:
    assert read_growing_reply(kept, LIMITS) == Message("assistant", "")
