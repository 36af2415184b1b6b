"""Asks a model for a tool call in its own template's format, reads the call, and judges it.

Where the chat template knows `tools`, it gets them in OpenAI's form and writes them as the model was trained on; what a
tool returns comes back in the role "tool". Where it does not, a system text describes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from playground.chat.programs.tool_calls import ParsedReply, ToolCallParser
from playground.chat.programs.tool_formats import FORMATS, Call, Malformed, Types, read_json, read_python
from playground.chat.template.message import MalformedCall, Message
from playground.chat.template.render import chat_template
from playground.chat.template.thinking import ThinkingChoice
from playground.chat.tools.arguments import CallRefused
from playground.chat.tools.calculator import calculate
from playground.engine.protocol import Loaded
from playground.measure.abilities.tools import PARAMETERS, TOOLS, check_call

_FENCED: Final = re.compile(r"```(?:json|tool_call)?\s*(\{.*?\}|\[.*?\])\s*```", re.DOTALL)
_PYTHON: Final = re.compile(r"\[?(\w+)\(.*\)\]?", re.DOTALL)
_CALL_WORD: Final = re.compile(r'"(?:name|function|arguments|parameters)"')
_THOUGHTS: Final = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


@dataclass(frozen=True)
class ReadCall:
    """A call that was read."""

    name: str
    arguments: Mapping[str, Any]


def tool_prompt(loaded: Loaded, messages: Sequence[Message]) -> tuple[str, bool]:
    """The prompt for these messages, and whether the template has a tool format of its own. Raises TemplateRefused."""
    template = chat_template(loaded.chat_template, loaded.bos, loaded.eos)
    return template.render(messages, thinking=ThinkingChoice(False), tools=TOOLS), template.takes_tools


def read_call(reply: str) -> ReadCall | MalformedCall | None:
    """The first call in a reply; None where nothing looks like one.

    Chat's own reader takes it out, in the form of any family of models, because a small model does not keep to its own.
    """
    text = _THOUGHTS.sub("", reply).strip()
    parser, parsed = ToolCallParser(FORMATS, TOOLS), ParsedReply()
    for letter in text:
        parsed = parser.feed(letter)
        if parsed.calls or parsed.malformed:
            break
    else:
        parsed = parser.finish()
    if parsed.malformed:
        return parsed.malformed[0]
    if parsed.calls:
        return ReadCall(parsed.calls[0].name, json.loads(parsed.calls[0].arguments))
    return _unmarked_call(text)


def _unmarked_call(text: str) -> ReadCall | MalformedCall | None:
    """A call in a fence behind other words, as broken JSON without marks, or as `weekday(date="2024-03-01")`."""
    if (python := _PYTHON.fullmatch(text)) and python[1] in PARAMETERS:
        return _read_body(read_python, text)
    fenced = _FENCED.search(text)
    body = fenced[1] if fenced else text
    is_meant = body.startswith(("{", "[")) and _CALL_WORD.search(body)
    return _read_body(read_json, body) if is_meant else None


def _read_body(read: Callable[[str, Types], list[Call]], body: str) -> ReadCall | MalformedCall:
    try:
        return ReadCall(*read(body, {})[0])
    except Malformed as error:
        return MalformedCall(body, str(error), error.place_in(body))


def problem_of(call: ReadCall | MalformedCall | None, task: Mapping[str, Any]) -> str:
    """What is wrong with a call for this task, as the end of a sentence; "" where nothing is."""
    wanted = task["tool"]
    if call is None:
        return f"no call, where {wanted} was due" if wanted else ""
    if not wanted:
        return "a call, where none was due"
    if isinstance(call, MalformedCall):
        place = "" if call.place is None else f", at letter {call.place + 1}"
        return f"the call is broken: {call.reason}{place}"
    if call.name != wanted:
        return f"it calls {call.name[:60]} instead of {wanted}"
    try:
        check_call(call.name, call.arguments)
    except CallRefused as error:
        return str(error)
    for name, value in task["arguments"].items():
        if not _is_same(name, call.arguments[name], value):
            return f"the argument {name} is {str(call.arguments[name])[:80]!r} instead of {value!r}"
    return ""


def _is_same(name: str, given: Any, wanted: Any) -> bool:
    """Texts regardless of case; expressions by their value."""
    if name == "expression":
        try:
            return abs(calculate(str(given)) - calculate(wanted)) <= 1e-6 * max(1.0, abs(calculate(wanted)))
        except (ValueError, TypeError, SyntaxError, ZeroDivisionError, OverflowError, RecursionError):
            return False
    if isinstance(wanted, str):
        return str(given).strip().lower() == wanted.lower()
    return abs(float(given) - float(wanted)) <= 1e-9 * max(1.0, abs(float(wanted)))
