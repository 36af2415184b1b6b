"""How each family of models writes a call of a function, and what it means.

A format is known by its marks, which the chat template of the model spells. Small models often forget the marks: a
reply that is one JSON object with the name of an offered function is a call, too.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Call = tuple[str, dict[str, Any]]  # name and arguments
Types = Mapping[str, Mapping[str, str]]  # of the parameters of each function: name -> parameter -> JSON type

_NAMES: Final = ("name", "tool_name", "function", "recipient_name")
_ARGUMENTS: Final = ("arguments", "parameters", "args")


class Malformed(ValueError):
    """The text between the marks is not a call. place: of the first wrong letter in `text`, where one letter is."""

    def __init__(self, reason: str, text: str = "", place: int | None = None) -> None:
        super().__init__(reason)
        self.text, self.place = text, place

    def place_in(self, whole: str) -> int | None:
        """Of the first wrong letter in a text that contains the one that was read."""
        start = whole.find(self.text) if self.place is not None else -1
        return start + (self.place or 0) if start >= 0 else None


def _no_json(error: ValueError | RecursionError, text: str, what: str = "it is") -> Malformed:
    if isinstance(error, json.JSONDecodeError):
        return Malformed(f"{what} not JSON: {error.msg}", text, error.pos)
    return Malformed(f"{what} nested too deeply" if isinstance(error, RecursionError) else f"{what} not JSON")


@dataclass(frozen=True)
class ForcedCall:
    """How a reply is begun for the model so that only the JSON of a call is left to write.

    prefix: put at the end of the prompt. arguments: the field that holds them. in_list: the object stands in a list.
    """

    prefix: str
    arguments: str = "arguments"
    in_list: bool = False


@dataclass(frozen=True)
class ToolFormat:
    """Calls between two marks. closer: "" where they last to the end of the reply.

    sign: what the template of such a model contains. before_thoughts: the marks belong to the channels in which such a
    model writes its thoughts, so calls are taken out first.
    """

    opener: str
    closer: str
    read: Callable[[str, Types], list[Call]]
    sign: str
    forced: ForcedCall | None = None
    before_thoughts: bool = False


# --- readers: the text between the marks -> calls, or Malformed ---


def read_json(text: str, types: Types) -> list[Call]:
    """`{"name": "f", "arguments": {…}}`, several of them, or a list of them."""
    decoder, calls, place = json.JSONDecoder(), list[Call](), 0
    while rest := text[place:].lstrip(" \t\r\n;,"):
        place = len(text) - len(rest)
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise _no_json(error, text) from None
        calls += [_call_of(one) for one in (value if isinstance(value, list) else [value])]
    if not calls:
        raise Malformed("it has no call in it")
    return calls


def _call_of(value: Any) -> Call:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        raise Malformed("it is not a JSON object")
    name = next((value[key] for key in _NAMES if isinstance(value.get(key), str)), "")
    arguments: Any = next((value[key] for key in _ARGUMENTS if key in value), {})
    return _checked(name, arguments)


def _checked(name: str, arguments: Any) -> Call:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise _no_json(error, arguments, "its arguments are") from None
    name = name.strip().removeprefix("functions.")
    if not name:
        raise Malformed("it names no function")
    if not isinstance(arguments, dict):
        raise Malformed("its arguments are not a JSON object")
    return name, arguments


_FUNCTION: Final = re.compile(r"<function=([^>\s]+)>(.*?)(?:</function>|$)", re.DOTALL)
_PARAMETER: Final = re.compile(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_INVOKE: Final = re.compile(r'<invoke name="([^"]+)">(.*?)</invoke>', re.DOTALL)
_INVOKED: Final = re.compile(r'<parameter name="([^"]+)">\n?(.*?)\n?</parameter>', re.DOTALL)
_PAIR: Final = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)


def read_function_marks(text: str, types: Types) -> list[Call]:
    """`<function=f>{…}</function>`, or with `<parameter=x>value</parameter>` for each argument."""
    calls: list[Call] = []
    for name, body in _FUNCTION.findall(text):
        if body.strip().startswith("{"):
            calls.append(_checked(name, body.strip()))
        else:
            calls.append((name, _typed(name, _PARAMETER.findall(body), types)))
    if not calls:
        raise Malformed("it has no call in it")
    return calls


def read_invocations(text: str, types: Types) -> list[Call]:
    """`<invoke name="f"><parameter name="x">value</parameter></invoke>`"""
    calls = [(name, _typed(name, _INVOKED.findall(body), types)) for name, body in _INVOKE.findall(text)]
    if not calls:
        raise Malformed("it has no call in it")
    return calls


def read_any_body(text: str, types: Types) -> list[Call]:
    """What stands between `<tool_call>` and `</tool_call>`: JSON (Hermes, Qwen), marks (Qwen3 Coder) or pairs (GLM)."""
    if "<function=" in text:
        return read_function_marks(text, types)
    if "<arg_key>" in text:
        name = text.partition("<arg_key>")[0].strip()
        return [_checked(name, _typed(name, _PAIR.findall(text), types))]
    return read_json(_without_fence(text), types)


def _typed(name: str, pairs: list[tuple[str, str]], types: Types) -> dict[str, Any]:
    """Arguments written as bare text, which are JSON unless the parameter is a text."""
    arguments: dict[str, Any] = {}
    for key, written in pairs:
        key = key.strip()
        try:
            is_text = types.get(name, {}).get(key) == "string"
            arguments[key] = written if is_text else json.loads(written)
        except (ValueError, RecursionError):
            arguments[key] = written
    return arguments


def read_mistral(text: str, types: Types) -> list[Call]:
    """`[{"name": …, "arguments": …}]`, or `f[ARGS]{…}` of newer ones, each behind its own `[TOOL_CALLS]`."""
    if "[ARGS]" not in text:
        return read_json(text.replace("[TOOL_CALLS]", ""), types)
    parts = [part.partition("[ARGS]") for part in text.split("[TOOL_CALLS]") if part.strip()]
    return [_checked(head.partition("[CALL_ID]")[0], body.strip()) for head, _, body in parts]


_DEEPSEEK: Final = re.compile("<｜tool▁call▁begin｜>(.*?)<｜tool▁sep｜>(.*?)<｜tool▁call▁end｜>", re.DOTALL)


def read_deepseek(text: str, types: Types) -> list[Call]:
    """`function<…sep｜>f\\n```json\\n{…}\\n```` (R1, V3), or `f<…sep｜>{…}` (V3.1), between marks for each call."""
    calls: list[Call] = []
    for head, body in _DEEPSEEK.findall(text):
        name, _, rest = body.partition("\n") if head.strip() == "function" else (head, "", body)
        calls.append(_checked(name, _without_fence(rest)))
    if not calls:
        raise Malformed("it has no call in it")
    return calls


_KIMI: Final = re.compile(
    r"<\|tool_call_begin\|>\s*(\S+?)(?::\d+)?\s*<\|tool_call_argument_begin\|>(.*?)<\|tool_call_end\|>", re.DOTALL
)


def read_kimi(text: str, types: Types) -> list[Call]:
    """`<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{…}<|tool_call_end|>`"""
    calls = [_checked(name, body.strip()) for name, body in _KIMI.findall(text)]
    if not calls:
        raise Malformed("it has no call in it")
    return calls


def read_python(text: str, types: Types) -> list[Call]:
    """`[f(x="a", y=1)]`, in which nothing is run."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
        calls = node.elts if isinstance(node, ast.List) else [node]
        return [_python_call(call) for call in calls]
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError) as error:
        raise Malformed(f"it cannot be read as a call: {error}") from None


def _python_call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
        raise Malformed("it is not a call with named arguments")
    arguments = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg}
    json.dumps(arguments)  # raises for what JSON does not know
    return node.func.id, arguments


def read_harmony(text: str, types: Types) -> list[Call]:
    """` f <|constrain|>json<|message|>{…}` behind `to=functions.`, as gpt-oss writes it."""
    head, mark, body = text.partition("<|message|>")
    if not mark:
        raise Malformed("it has no arguments")
    return [_checked(re.split(r"[\s<]", head.strip(), maxsplit=1)[0], body.strip())]


def _without_fence(text: str) -> str:
    """`{…}` of "```json\\n{…}\\n```"."""
    return re.sub(r"^\s*```(?:json)?\s*|\s*```\s*$", "", text).strip()


HERMES: Final = ToolFormat(
    "<tool_call>", "</tool_call>", read_any_body, "<tool_call>", forced=ForcedCall("<tool_call>\n")
)
_LLAMA: Final = ForcedCall("", "parameters")
FORMATS: Final = (
    HERMES,
    ToolFormat("[TOOL_CALLS]", "", read_mistral, "[TOOL_CALLS]", ForcedCall("[TOOL_CALLS]", in_list=True)),
    ToolFormat("<|python_tag|>", "", read_json, "<|python_tag|>", _LLAMA),
    ToolFormat("<function=", "</function>", lambda text, types: read_function_marks(f"<function={text}", types),
               "<function=", _LLAMA),
    ToolFormat("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", read_deepseek, "<｜tool▁calls▁begin｜>"),
    ToolFormat("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", read_kimi,
               "<|tool_calls_section_begin|>"),
    ToolFormat("<|START_ACTION|>", "<|END_ACTION|>", read_json, "<|START_ACTION|>"),
    ToolFormat("<|tool_call_start|>", "<|tool_call_end|>", read_python, "<|tool_call_start|>"),
    ToolFormat("<|tool_call|>", "<|/tool_call|>", read_json, "<|tool_call|>"),
    ToolFormat("<TOOLCALL>", "</TOOLCALL>", read_json, "<TOOLCALL>"),
    ToolFormat("<minimax:tool_call>", "</minimax:tool_call>", read_invocations, "<minimax:tool_call>"),
    ToolFormat("to=functions.", "<|call|>", read_harmony, "<|channel|>", before_thoughts=True),
)  # fmt: skip


def formats_of(template: str) -> tuple[ToolFormat, ...]:
    """The formats whose marks a chat template spells, and Hermes', in which tools are described where it has none."""
    found = tuple(one for one in FORMATS if one.sign in template)
    return found if HERMES in found else (*found, HERMES)


def forced_call(template: str) -> ForcedCall:
    """How a call is forced with this chat template."""
    if "<|start_header_id|>" in template and '"parameters"' in template:
        return _LLAMA
    forced = next((one.forced for one in formats_of(template) if one.forced), None)
    if forced is None or "[ARGS]" in template:
        return ForcedCall("<tool_call>\n")
    return forced
