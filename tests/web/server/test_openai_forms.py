"""What bodies of programs mean, and the order of the events of an answer, without a model."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from playground.chat.history import HistoryLimits
from playground.chat.programs.reply import ProgramRequest, ReplyPiece
from playground.engine.protocol import Finished, FinishReason, Prefilled
from playground.engine.timings import Timings
from playground.errors import RequestRefused
from playground.llama.params import MOST_CONTEXT
from playground.web.server.openai.bodies import ChatBody, CompletionBody
from playground.web.server.openai.messages import CountBody, MessagesBody, MessagesForm

SUM = [{"role": "user", "content": "What is 2+2?"}]


def chat(**fields: Any) -> ProgramRequest:
    return ChatBody.model_validate({"model": "starter", "messages": SUM, **fields}).request(HistoryLimits())


def test_a_field_that_is_null_counts_as_left_out() -> None:
    names = set(ChatBody.model_fields) - {"model", "messages"}
    assert chat(**dict.fromkeys(names)) == chat()
    turn = {"role": "assistant", "content": None, "tool_calls": [{"id": None, "function": {"name": "f"}}]}
    assert chat(messages=[*SUM, turn, *SUM]).messages[1].tool_calls[0].name == "f"
    with pytest.raises(ValidationError, match="content"):
        chat(messages=[{"role": "user", "content": None}])


def test_a_reply_without_a_bound_is_asked_for_as_with_llama_server() -> None:
    assert chat(max_tokens=-1).max_tokens == MOST_CONTEXT and chat().max_tokens is None
    bare = CompletionBody.model_validate({"prompt": "Once", "max_tokens": -1}).request(HistoryLimits())
    assert bare.max_tokens == MOST_CONTEXT
    with pytest.raises(ValidationError, match="max_tokens"):
        chat(max_tokens=-2)


@pytest.mark.parametrize("name", ["temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty"])
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_refused_by_name(name: str, number: str) -> None:
    with pytest.raises(ValidationError, match=name):
        ChatBody.model_validate_json(f'{{"messages": [{{"role": "user", "content": "x"}}], "{name}": {number}}}')


@pytest.mark.parametrize(
    "name", ["", "x" * 129, "</tool_call><|im_end|>", "two words", 'a"b', "a\nb", "a\0b", "{{ 7 }}"]
)
def test_a_function_whose_name_could_not_be_told_from_the_marks_of_a_call_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="a name has up to 128 letters"):
        chat(tools=[{"type": "function", "function": {"name": name}}])
    usual = [
        {"type": "function", "function": {"name": name}} for name in ("weather", "mcp__notes-2", "a.b:c/d", "größe")
    ]
    assert len(chat(tools=usual).tools) == 4


def test_a_call_that_is_demanded_without_a_function_to_call_is_refused() -> None:
    tools = [{"type": "function", "function": {"name": "weather"}}]
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
        assert chat(tools=tools, tool_choice=choice).offered_tools
        with pytest.raises(RequestRefused, match="no tools are given"):
            assert chat(tool_choice=choice).offered_tools
    assert chat(tools=tools, tool_choice="none").offered_tools == () == chat().offered_tools
    with pytest.raises(RequestRefused, match="not among the tools"):
        assert chat(tools=tools, tool_choice={"type": "function", "function": {"name": "clock"}}).offered_tools


def test_tokens_are_counted_without_a_bound_for_the_reply() -> None:
    body = {"model": "starter", "messages": SUM, "system": None, "tools": None}
    assert CountBody.model_validate(body).request(HistoryLimits()).max_tokens is None
    with pytest.raises(ValidationError, match="max_tokens"):
        MessagesBody.model_validate(body)


def events_of(reason: FinishReason, stop: str = "", *pieces: ReplyPiece) -> list[dict[str, Any]]:
    body = {"model": "starter", "messages": SUM, "max_tokens": 9, "stop_sequences": ["END"]}
    form = MessagesForm(MessagesBody.model_validate(body))
    timings = Timings(None, 12, 5, None, None, 3, None, 1.0, 1)
    events: list[dict[str, Any]] = form.first_chunks(pieces[0]) if pieces else []
    for piece in (*pieces, ReplyPiece(finished=Finished(0, reason, timings, stop=stop))):
        form.add(piece)
        events += form.chunks(piece)
    return [*events, *form.last_chunks(wants_usage=False)]


def test_agents_learn_the_length_of_the_prompt_first_and_thoughts_are_signed() -> None:
    pieces = ReplyPiece(prefilled=Prefilled(0, 12, 12, 5)), ReplyPiece(thinking="Hm."), ReplyPiece(text="Four.")
    start, *events = events_of("end of text", "", *pieces)
    assert start["message"]["usage"] == {"input_tokens": 7, "cache_read_input_tokens": 5, "output_tokens": 0}
    assert start["message"]["stop_reason"] is None
    assert [event.get("delta", event).get("type", event["type"]) for event in events[:-1]] == [
        "content_block_start", "thinking_delta", "signature_delta", "content_block_stop",
        "content_block_start", "text_delta", "content_block_stop", "message_delta",
    ]  # fmt: skip
    assert events[-2]["usage"] == {"input_tokens": 7, "cache_read_input_tokens": 5, "output_tokens": 3}


@pytest.mark.parametrize(
    ("reason", "stop", "told"),
    [
        ("stop string", "END", {"stop_reason": "stop_sequence", "stop_sequence": "END"}),
        ("stop string", "<|im_end|>", {"stop_reason": "end_turn", "stop_sequence": None}),
        ("end of text", "", {"stop_reason": "end_turn", "stop_sequence": None}),
        ("length limit", "", {"stop_reason": "max_tokens", "stop_sequence": None}),
    ],
)
def test_the_end_of_a_message_names_the_stop_text_of_the_program_alone(
    reason: FinishReason, stop: str, told: dict[str, Any]
) -> None:
    *_, end, _ = events_of(reason, stop)
    assert end["delta"] == told
