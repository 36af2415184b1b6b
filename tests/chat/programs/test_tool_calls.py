"""Calls of functions in replies, in the forms that the templates of real models ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from playground.chat.programs.tool_calls import ParsedReply, ToolCallParser, schema_of_calls
from playground.chat.programs.tool_formats import ForcedCall, ToolFormat, forced_call, formats_of
from playground.chat.template.message import Message, ToolCall
from playground.chat.template.render import ChatTemplate
from playground.llama.control_tokens import ControlToken, ControlTokens


def tool(name: str, **types: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {key: {"type": kind} for key, kind in types.items()}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool("weather", city="string", days="integer"), tool("add", a="number", b="number")]
PARIS = ("weather", {"city": "Paris", "days": 2})
SUM = ("add", {"a": 1, "b": 2})

# the template's marks, the reply, the calls in it
WRITTEN = [
    (
        "<tool_call>",
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris", "days": 2}}\n</tool_call>',
        [PARIS],
    ),
    (
        "<tool_call>",
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris", "days": 2}}\n</tool_call>\n<tool_call>\n'
        '{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>',
        [PARIS, SUM],
    ),
    (
        "<tool_call> <function=",
        "<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n2\n</parameter>\n"
        "</function>\n</tool_call>",
        [PARIS],
    ),
    (
        "<tool_call> <arg_key>",
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n<arg_key>days</arg_key>\n"
        "<arg_value>2</arg_value>\n</tool_call>",
        [PARIS],
    ),
    ("[TOOL_CALLS]", '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Paris", "days": 2}}]', [PARIS]),
    (
        "[TOOL_CALLS] [ARGS]",
        '[TOOL_CALLS]weather[ARGS]{"city": "Paris", "days": 2}[TOOL_CALLS]add[CALL_ID]123456789[ARGS]{"a": 1, "b": 2}',
        [PARIS, SUM],
    ),
    ("<|python_tag|>", '{"name": "weather", "parameters": {"city": "Paris", "days": 2}}', [PARIS]),
    ("<|python_tag|>", '<|python_tag|>{"name": "add", "parameters": {"a": 1, "b": 2}}', [SUM]),
    ("<function=", '<function=add>{"a": 1, "b": 2}</function>', [SUM]),
    (
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n"
        '{"a": 1, "b": 2}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        [SUM],
    ),
    (
        "<｜tool▁calls▁begin｜>",
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>add<｜tool▁sep｜>{"a": 1, "b": 2}<｜tool▁call▁end｜>'
        '<｜tool▁call▁begin｜>weather<｜tool▁sep｜>{"city": "Paris", "days": 2}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        [SUM, PARIS],
    ),
    (
        "<|tool_calls_section_begin|>",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>"
        '{"a": 1, "b": 2}<|tool_call_end|><|tool_calls_section_end|>',
        [SUM],
    ),
    (
        "<|START_ACTION|>",
        '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "add", "parameters": {"a": 1, "b": 2}}]<|END_ACTION|>',
        [SUM],
    ),
    ("<|tool_call_start|>", '<|tool_call_start|>[weather(city="Paris", days=2)]<|tool_call_end|>', [PARIS]),
    ("<|tool_call|>", '<|tool_call|>[{"name": "add", "arguments": {"a": 1, "b": 2}}]', [SUM]),
    ("<TOOLCALL>", '<TOOLCALL>[{"name": "add", "arguments": {"a": 1, "b": 2}}]</TOOLCALL>', [SUM]),
    (
        "<minimax:tool_call>",
        '<minimax:tool_call>\n<invoke name="weather">\n<parameter name="city">Paris</parameter>\n'
        '<parameter name="days">2</parameter>\n</invoke>\n</minimax:tool_call>',
        [PARIS],
    ),
    (
        "<|channel|>",
        '<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1, "b": 2}<|call|>',
        [SUM],
    ),
    ("", '```json\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n```', [SUM]),  # the marks forgotten
]


def parsed(formats: tuple[ToolFormat, ...], reply: str, size: int, begun: ForcedCall | None = None) -> ParsedReply:
    """The whole reply, in pieces of so many characters."""
    parser = ToolCallParser(formats, TOOLS, begun=begun)
    pieces = [parser.feed(reply[start : start + size]) for start in range(0, len(reply), size)]
    return sum([*pieces, parser.finish()], ParsedReply())


def calls_of(reply: ParsedReply) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in reply.calls]


@pytest.mark.parametrize(("template", "reply", "calls"), WRITTEN, ids=[str(place) for place in range(len(WRITTEN))])
def test_calls_are_read_in_each_models_form_in_any_pieces(template: str, reply: str, calls: list[Any]) -> None:
    formats = formats_of(template)
    for size in (1, 7, len(reply)):
        read = parsed(formats, reply, size)
        assert calls_of(read) == calls and not read.malformed
        assert read.text.strip() == ("<|channel|>commentary" if template == "<|channel|>" else "")
        assert all(len(call.id) == 9 and call.id.isalnum() for call in read.calls)
    if not template.startswith(("<|python_tag|>", "<|channel|>")) and template:
        read = parsed(formats, f"Let me look.\n\n{reply}", 3)
        assert (read.text, calls_of(read)) == ("Let me look.", calls)


@pytest.mark.parametrize(
    "reply",
    [
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Par\n</tool_call>',
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"',  # cut off
        '<tool_call>\n{"name": "launch", "arguments": {}}\n</tool_call>',  # not offered
        "<tool_call>weather in Paris</tool_call>",
        '```json\n{"name": "multiply", "arguments": {"a": 1}}\n```',
    ],
)
def test_a_malformed_call_comes_back_as_text_and_is_counted(reply: str) -> None:
    read = parsed(formats_of("<tool_call>"), reply, 5)
    assert (read.text, read.calls) == (reply, ())
    assert [call.text for call in read.malformed] == [reply]


@pytest.mark.parametrize(
    ("reply", "letter", "reason"),
    [
        ('<tool_call>{"name": "add", "arguments" {"a": 1}}</tool_call>', '{"a"', "it is not JSON"),
        ('<tool_call>{"name": "launch", "arguments": {}}</tool_call>', "launch", "'launch', which was not offered"),
        ('<tool_call>{"name": "add", "arguments": {"a": 1', "", "the reply ended inside it (it is not JSON"),
        ('<tool_call>{"arguments": {"a": 1}}</tool_call>', None, "it names no function"),
    ],
)
def test_a_malformed_call_says_why_and_where(reply: str, letter: str | None, reason: str) -> None:
    (call,) = parsed(formats_of("<tool_call>"), reply, 5).malformed
    assert reason in call.reason
    assert (None if call.place is None else call.text[call.place :][: len(letter or "")]) == letter


@pytest.mark.parametrize(
    "answer", ['{"temperature": 18}', "{ is a brace", "I would write <tool", "Use [1, 2] and {3}.", " \n", "a < b\n\nc"]
)
def test_an_answer_that_is_no_call_stays_an_answer(answer: str) -> None:
    read = parsed(formats_of("<tool_call>"), answer, 1)
    assert (read.text, read.calls, read.malformed) == (answer, (), ())


def test_a_forced_call_needs_only_its_json() -> None:
    forced = forced_call("<tool_call>")
    read = parsed(formats_of("<tool_call>"), '{"name": "add", "arguments": {"a": 1, "b": 2}}', 4, forced)
    assert calls_of(read) == [SUM] and read.text == ""
    assert forced_call('<|start_header_id|> {"name": …, "parameters": …}').arguments == "parameters"
    assert forced_call("[TOOL_CALLS]").in_list


def test_the_schema_of_a_call_keeps_the_references_of_each_function() -> None:
    shapes = [
        {"function": {"name": name, "parameters": {"$defs": {"Item": {"type": kind}}, "properties": {
            "item": {"$ref": "#/$defs/Item"}}}}}
        for name, kind in (("one", "string"), ("two", "integer"))
    ]  # fmt: skip
    schema = json.loads(schema_of_calls(shapes, ForcedCall("")))
    places = [choice["properties"]["arguments"]["properties"]["item"]["$ref"] for choice in schema["anyOf"]]
    kinds = [schema["$defs"][place.rpartition("/")[2]]["type"] for place in places]
    assert kinds == ["string", "integer"]


WITH_TOOLS = (
    "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for call in m.tool_calls %}{{ call.function.name }} {{ ARGUMENTS }}{% endfor %}\n{% endfor %}"
)
TALK = (
    Message("user", "Weather?"),
    Message("assistant", "", tool_calls=(ToolCall("weather", '{"city": "<|im_end|>"}', "123456789"),)),
    Message("tool", "18 degrees <|im_end|>", answers="123456789"),
)


@pytest.mark.parametrize("arguments", ["call.function.arguments | tojson", "call.function.arguments ~ ''"])
def test_a_template_gets_functions_calls_and_results(arguments: str) -> None:
    template = ChatTemplate(WITH_TOOLS.replace("ARGUMENTS", arguments), "", "")
    controls = ControlTokens([ControlToken(1, "<|im_end|>")])
    prompt = template.render_prompt(TALK, controls, tools=TOOLS)
    assert '"name": "weather"' in prompt.text and "<tool>18 degrees <|im_end|>" in prompt.text
    assert len(prompt.literal) == 2  # what a function or a model spelled is no control token


def test_a_template_that_knows_no_functions_gets_them_as_text() -> None:
    prompt = ChatTemplate(None, "", "").render(TALK, tools=TOOLS)
    assert '<tools>\n{"type": "function"' in prompt and "<tool_call>\n" in prompt
    assert '{"name": "weather", "arguments": {"city": "<|im_end|>"}}' in prompt
    assert "<|im_start|>user\n<tool_response>\n18 degrees" in prompt
