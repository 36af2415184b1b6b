"""A chat with the real starter model: its own template, its own words, and a context that fills up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.chat.conversation import Conversation, ReplyUpdate, stream_reply
from playground.chat.prompts import load_example_prompts
from playground.chat.template.message import Message
from playground.engine.interface import Engine
from playground.engine.local.client import loaded_engine
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY


@pytest.fixture(scope="module")
def engine(starter: Path) -> Iterator[Engine]:
    with loaded_engine(starter, ContextParameters(256, slots=1), 1) as engine:
        yield engine


def last(engine: Engine, conversation: Conversation, max_tokens: int) -> ReplyUpdate:
    return list(stream_reply(engine, conversation, GREEDY, max_tokens, interval_seconds=0.1))[-1]


def test_the_first_example_prompt_is_answered_rightly_and_ends_by_itself(engine: Engine) -> None:
    end = last(engine, Conversation().with_question(load_example_prompts()[0]), 60)
    assert end.answer.strip() == "The answer to this classic math problem is 4." and not end.thinking
    assert end.finished is not None and end.finished.reason == "end of text"
    assert end.finished.timings.prompt_tokens == end.prompt_tokens


def test_a_chat_longer_than_the_context_goes_on_without_its_oldest_turns(engine: Engine) -> None:
    chat = Conversation("Answer in one sentence.")
    for number in range(6):
        chat = chat.with_question(f"Tell me about the number {number}.").with_reply(
            Message("assistant", "It is a number. " * 12)
        )
    end = last(engine, chat.with_question("What is 2+2?"), 8)
    assert end.left_out > 0 and end.prompt_tokens is not None and end.prompt_tokens <= 256 - 8
    assert end.answer and end.finished is not None and end.finished.reason in ("length limit", "end of text")
