"""A reply to a program, with an engine that writes what a test tells it to."""

from __future__ import annotations

import json

import pytest

from playground.chat.programs.reply import ProgramRequest, ReplyPiece, stream_program_reply
from playground.chat.template.message import Message
from playground.errors import PromptTooLong, RequestRefused
from playground.llama.sampling_extras import SamplingExtras
from tests.support.scripted_engine import ScriptedEngine

QUESTION = (Message("user", "Weather in Paris?"),)
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{{ tools or '' }}"
THINKS = TURNS + "<|im_start|>assistant\n<think>\n"
HERMES = TURNS + "<|im_start|>assistant\n{# <tool_call> #}"
HARMONY = (
    "{{ tools or '' }}{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}"
    "<|start|>assistant{# <|channel|> #}"
)


def whole(engine: ScriptedEngine, request: ProgramRequest) -> ReplyPiece:
    """All pieces of a reply as one."""
    pieces = list(stream_program_reply(engine, request, interval_seconds=0.01))
    return ReplyPiece(
        "".join(piece.text for piece in pieces),
        "".join(piece.thinking for piece in pieces),
        tuple(call for piece in pieces for call in piece.calls),
        sum(piece.malformed_calls for piece in pieces),
    )


def test_thoughts_come_apart_from_the_answer() -> None:
    engine = ScriptedEngine(("Hm, ", "rain.", "</think>", "It ", "rains."), chat_template=THINKS)
    reply = whole(engine, ProgramRequest(QUESTION))
    assert (reply.thinking, reply.text) == ("Hm, rain.", "It rains.")


def test_a_call_behind_thoughts_is_a_call() -> None:
    call = '<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>'
    engine = ScriptedEngine(("I ask.", "</think>", call), chat_template=THINKS + "{# <tool_call> #}")
    reply = whole(engine, ProgramRequest(QUESTION, tools=(TOOL,)))
    assert (reply.thinking, reply.text, [one.name for one in reply.calls]) == ("I ask.", "", ["weather"])
    assert "weather" in engine.prompts[0]
    silent = ScriptedEngine((call,), chat_template=HERMES)
    unasked = whole(silent, ProgramRequest(QUESTION, tools=(TOOL,), tool_choice="none"))
    assert (unasked.text, unasked.calls) == (call, ()) and "weather" not in silent.prompts[0]


def test_a_call_in_a_channel_is_a_call() -> None:
    pieces = (
        "<|channel|>analysis<|message|>I look.<|end|><|start|>assistant",
        "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{}",
    )
    reply = whole(ScriptedEngine(pieces, chat_template=HARMONY), ProgramRequest(QUESTION, tools=(TOOL,)))
    assert (reply.thinking, reply.text.strip(), [one.name for one in reply.calls]) == ("I look.", "", ["weather"])


def test_a_forced_call_is_begun_in_the_prompt_and_its_form_is_the_functions() -> None:
    engine = ScriptedEngine(('{"name": "weather", ', '"arguments": {}}'), chat_template=THINKS)
    reply = whole(engine, ProgramRequest(QUESTION, tools=(TOOL,), only_tool="weather"))
    assert engine.prompts[0].endswith("</think><tool_call>\n") and [one.name for one in reply.calls] == ["weather"]
    schema = json.loads(engine.requests[0].extras.json_schema)
    assert schema["properties"]["name"] == {"const": "weather"}
    with pytest.raises(RequestRefused, match="not among the tools"):
        whole(engine, ProgramRequest(QUESTION, tools=(TOOL,), only_tool="launch"))


def test_a_form_holds_after_thoughts_that_the_template_begins() -> None:
    engine = ScriptedEngine(("Hm.", "</think>", "{}"), chat_template=THINKS)
    reply = whole(engine, ProgramRequest(QUESTION, extras=SamplingExtras(json_schema="{}")))
    assert engine.requests[0].extras.free_until == "</think>" and (reply.thinking, reply.text) == ("Hm.", "{}")


def test_a_prompt_that_does_not_fit_is_refused_with_its_numbers() -> None:
    with pytest.raises(PromptTooLong) as caught:
        whole(ScriptedEngine(context_size=50), ProgramRequest(prompt="word " * 60))
    assert (caught.value.prompt_tokens, caught.value.context_size) == (60, 50)
