"""Asks a model for a tool call in its own template's format, reads the call, and judges it.

Where the chat template knows `tools`, it gets them in OpenAI's form and writes them as the model was trained on; what a
tool returns comes back in the role "tool". Where it does not, a system text describes them.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from playground.chat.template.message import Message
from playground.chat.template.render import chat_template
from playground.chat.template.thinking import ThinkingChoice
from playground.chat.tools.arguments import CallRefused
from playground.chat.tools.calculator import calculate
from playground.engine.protocol import Loaded
from playground.measure.abilities.tools import TOOLS, check_call

_MARKED: Final = (  # how models mark a call in their text
    re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL),
    re.compile(r"\[TOOL_CALLS\](.*)", re.DOTALL),
    re.compile(r"<\|python_tag\|>(.*)", re.DOTALL),
    re.compile(r"<function_call>(.*?)(?:</function_call>|\Z)", re.DOTALL),
    re.compile(r"```(?:json|tool_call)?\s*(\{.*?\}|\[.*?\])\s*```", re.DOTALL),
)
_XML_CALL: Final = re.compile(r"<function=([\w.-]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_XML_ARGUMENT: Final = re.compile(r"<parameter=([\w.-]+)>(.*?)</parameter>", re.DOTALL)
_THOUGHTS: Final = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


@dataclass(frozen=True)
class ReadCall:
    """A call that was read. text: the part of the reply that it was read from."""

    name: str
    arguments: Mapping[str, Any]
    text: str


@dataclass(frozen=True)
class BrokenCall:
    """Something that is meant as a call and cannot be read. reason: why, with the place of the first wrong letter."""

    text: str
    reason: str


def tool_prompt(loaded: Loaded, messages: Sequence[Message]) -> tuple[str, bool]:
    """The prompt for these messages, and whether the template has a tool format of its own. Raises TemplateRefused."""
    template = chat_template(loaded.chat_template, loaded.bos, loaded.eos)
    return template.render(messages, thinking=ThinkingChoice(False), tools=TOOLS), template.takes_tools


def read_call(reply: str) -> ReadCall | BrokenCall | None:
    """The first call in a reply, in any of the usual forms; None where nothing looks like one."""
    text = _THOUGHTS.sub("", reply).strip()
    if found := _XML_CALL.search(text):
        arguments = {name: _plain_value(value.strip()) for name, value in _XML_ARGUMENT.findall(found[2])}
        return ReadCall(found[1], arguments, found[0])
    for pattern in _MARKED:
        if found := pattern.search(text):
            return _call_in(found[1].strip())
    if text[:1] in "{[" and re.search(r'"(?:name|function)"', text):
        return _call_in(text)
    if re.fullmatch(r"\[?\w+\(.*\)\]?", text, re.DOTALL):
        return _python_call(text)
    return None


def _call_in(text: str) -> ReadCall | BrokenCall:
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        near = text[max(0, error.pos - 12) : error.pos + 12]
        return BrokenCall(text, f"it is no JSON: {error.msg} at letter {error.pos + 1}, near {near!r}")
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return BrokenCall(text, "it names no function")
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return BrokenCall(text, "its arguments are a text that is no JSON")
    if not isinstance(arguments, dict):
        return BrokenCall(text, "its arguments are no object")
    return ReadCall(value["name"], arguments, text)


def _python_call(text: str) -> ReadCall | BrokenCall | None:
    """`weekday(date="2024-03-01")`, as some models were trained to write calls."""
    try:
        node: ast.AST = ast.parse(text.strip("[] \n"), mode="eval").body
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            return None
        arguments = {keyword.arg or "": ast.literal_eval(keyword.value) for keyword in node.keywords}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if node.args:
        return BrokenCall(text, "its arguments have no names")
    return ReadCall(node.func.id, arguments, text)


def _plain_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def problem_of(call: ReadCall | BrokenCall | None, task: Mapping[str, Any]) -> str:
    """What is wrong with a call for this task, as the end of a sentence; "" where nothing is."""
    wanted = task["tool"]
    if call is None:
        return f"no call, where {wanted} was due" if wanted else ""
    if not wanted:
        return "a call, where none was due"
    if isinstance(call, BrokenCall):
        return f"the call is broken: {call.reason}"
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
