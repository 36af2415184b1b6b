"""What can be asked of a model's thoughts, and a bound that holds: the starter with a thinking model's template."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from playground.chat.conversation import Conversation, ReplyUpdate, stream_reply
from playground.chat.template.thinking import AS_IT_LIKES, ThinkingChoice, thinking_choices
from playground.engine.local.client import LocalEngine
from playground.engine.local.cpu_shares import CpuShares
from playground.engine.protocol import Loaded
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY

OPENS_THOUGHTS = (
    "{% for message in messages %}{{ '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}"
    "{% endfor %}"
    "<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
    "{% else %}<think>\n{% endif %}"
)
EFFORT = "{% if reasoning_effort %}Reasoning: {{ reasoning_effort }}{% endif %}"


class ThinkingStarter(LocalEngine):
    """The starter, as if its file had the template of a model that thinks."""

    @property
    def loaded(self) -> Loaded:
        return replace(super().loaded, chat_template=OPENS_THOUGHTS)


@pytest.fixture(scope="module")
def engine(starter: Path) -> Iterator[LocalEngine]:
    shares = CpuShares(2)
    engine = ThinkingStarter(starter, ContextParameters(2048, slots=4), shares)
    list(engine.load_model())
    yield engine
    engine.close()
    shares.close()


def asked(engine: LocalEngine, thinking: ThinkingChoice) -> ReplyUpdate:
    question = Conversation().with_question("Write a sentence about the sea.")
    *_, last = stream_reply(engine, question, GREEDY, 40, thinking=thinking)
    return last


@pytest.mark.parametrize("text", ["", "on", "off", "low", "high", "0", "256"])
def test_what_is_asked_is_read_as_it_is_written(text: str) -> None:
    assert ThinkingChoice.read(text).text == text


@pytest.mark.parametrize("value", [None, 7, "maybe", "-1", "9999999", "٣", ["on"]])
def test_anything_else_leaves_it_to_the_model(value: object) -> None:
    assert ThinkingChoice.read(value) == AS_IT_LIKES


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        (OPENS_THOUGHTS, ["", "off", "on", "64", "256", "1024"]),
        (EFFORT, ["", "low", "medium", "high"]),
        ("{{ messages }}", []),
        (None, []),
    ],
)
def test_a_template_says_what_can_be_asked(source: str | None, texts: list[str]) -> None:
    assert [choice.text for choice in thinking_choices(source)] == texts


def test_thoughts_are_bounded_and_the_answer_follows(engine: LocalEngine) -> None:
    bounded, free = asked(engine, ThinkingChoice(True, most_tokens=6)), asked(engine, ThinkingChoice(True))
    assert free.thinking and not free.answer  # 40 tokens are not enough for it to close its thoughts
    assert bounded.thinking and free.thinking.startswith(bounded.thinking) and bounded.answer
    assert engine.count_tokens(bounded.thinking) <= 8  # with the first token, and one of another cut


def test_no_thoughts_are_asked_for(engine: LocalEngine) -> None:
    off = asked(engine, ThinkingChoice(False))
    assert off.answer and not off.thinking
