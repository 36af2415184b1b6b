"""What programs send to the API: anything may come, and everything impossible is refused with a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from playground.app.api_values import Question, read_values
from playground.chat.history import HistoryLimits
from playground.errors import RequestRefused
from playground.llama.params import DeviceChoice

LIMITS = HistoryLimits(messages=4, message_characters=100, all_characters=300)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"prompt": ""}, "The message is empty"),
        ({"prompt": None}, "prompt has to be text"),
        ({"prompt": ["x"]}, "prompt has to be text"),
        ({"prompt": "x" * 101}, "The prompt is 101 characters long"),
        ({"prompt": "x\ud800"}, "half a character"),
        ({"prompt": "x", "system": 3}, "system has to be text"),
        ({"prompt": "x", "system": "x" * 101}, "The system prompt is 101 characters long"),
        ({"prompt": "x", "history": "hello"}, "its messages are not a list"),
        ({"prompt": "x", "history": [{"role": "root", "content": "x"}]}, "none of system, user, assistant and tool"),
        ({"prompt": "x", "history": [{"role": "user", "content": "x"}] * 4}, "This chat has 5 messages"),
        ({"prompt": "x", "temperature": 11}, "temperature has to be a number from 0 to 10"),
        ({"prompt": "x", "temperature": float("nan")}, "temperature has to be a number"),
        ({"prompt": "x", "temperature": "hot"}, "temperature has to be a number"),
        ({"prompt": "x", "seed": -1}, "seed has to be a whole number from 0"),
        ({"prompt": "x", "seed": 1 << 32}, "seed has to be a whole number"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens has to be a whole number from 1"),
        ({"prompt": "x", "max_tokens": True}, "max_tokens has to be a whole number"),
        ({"prompt": "x", "context": 1.5}, "context has to be a whole number"),
        ({"prompt": "x", "context": 10**9}, "context has to be a whole number"),
        ({"prompt": "x", "device": "a\nb"}, "device has to be .auto., .cpu., or the name"),
        ({"prompt": "x", "cpu_moe": -1}, "cpu_moe has to be a whole number from 0"),
    ],
)
def test_an_impossible_question_is_refused_with_what_it_should_be(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestRefused, match=sentence):
        Question.read(LIMITS, **asked)


def test_a_question_ends_the_conversation_that_came_with_it() -> None:
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    question = Question.read(LIMITS, prompt="c", system="be kind", history=history, context=4096.0, seed=7)
    assert [message.content for message in question.conversation.messages] == ["a", "b", "c"]
    assert (question.conversation.system, question.context, question.sampling.seed) == ("be kind", 4096, 7)


def test_where_it_runs_is_read_as_on_the_command_line() -> None:
    asked = Question.read(LIMITS, prompt="x", device="CUDA1", gpu_layers=27, cpu_moe=12)
    assert asked.device == DeviceChoice("CUDA1", 27, 12)


def test_only_a_seed_or_no_chance_at_all_asks_for_the_same_answer_again() -> None:
    assert Question.read(LIMITS, prompt="x", temperature=0).is_repeatable
    assert Question.read(LIMITS, prompt="x", seed=1).is_repeatable
    assert not Question.read(LIMITS, prompt="x", temperature=1).is_repeatable


@pytest.mark.parametrize("value", [None, 3, "", "  ", "x" * 1001, "a\x00b", "a\nb"])
def test_what_names_no_model_is_refused(value: object) -> None:
    with pytest.raises(RequestRefused):
        read_values(model=value)


def test_a_whole_number_may_come_as_json_writes_it() -> None:
    assert read_values(slots=3.0).slots == 3
    assert read_values(context=None).context is None
    assert read_values(kv_type="q8_0").kv_type == "q8_0"
    with pytest.raises(RequestRefused, match="f16, q8_0, q4_0"):
        read_values(kv_type="f32")
