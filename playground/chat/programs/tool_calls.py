"""Takes the calls of functions out of a reply while it streams, and forces one where a program demands it.

What looks like a call and is none is given back as text and counted: that is what a low level breaks first.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from playground.chat.programs.tool_formats import Call, ForcedCall, Malformed, ToolFormat, Types, read_json
from playground.chat.template.message import MalformedCall, Tool, ToolCall
from playground.text_format import overlap_at_end

_LONGEST_BARE: Final = 8000  # characters, beyond which an object is an answer and no call


@dataclass(frozen=True)
class ParsedReply:
    """What a piece of a reply adds. malformed: what looked like calls and was given back as text."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    malformed: tuple[MalformedCall, ...] = ()

    def __add__(self, other: ParsedReply) -> ParsedReply:
        return ParsedReply(self.text + other.text, self.calls + other.calls, self.malformed + other.malformed)


@dataclass
class ToolCallParser:
    """Call `feed` with the pieces of one reply in order, then `finish`; each returns what is certain by then.

    takes_bare: a reply that is one JSON call without marks is a call. begun: the prompt ends inside this forced call.
    """

    formats: Sequence[ToolFormat]
    tools: Sequence[Tool]
    takes_bare: bool = True
    begun: ForcedCall | None = None
    _held: str = ""
    _inside: ToolFormat | None = None
    _space: str = ""  # before the mark
    _has_text: bool = False
    _has_calls: bool = False
    _types: Types = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._types = {name_of(tool): _types_of(tool) for tool in self.tools}
        if self.begun and self.begun.prefix:
            self._held = self.begun.prefix

    def feed(self, text: str) -> ParsedReply:
        self._held += text
        return self._advance(final=False)

    def finish(self) -> ParsedReply:
        return self._advance(final=True)

    def _advance(self, *, final: bool) -> ParsedReply:
        parsed = ParsedReply()
        while True:
            if self._inside:
                closer = self._inside.closer
                body, mark, rest = self._held.partition(closer) if closer else (self._held, "", "")
                if not mark and not final:
                    return parsed
                parsed += self._call_or_text(self._inside, body, mark)
                self._inside, self._held = None, rest
                continue
            if self._may_be_bare(final=final):
                if not final:
                    return parsed
                if (bare := self._bare_calls()) is not None:
                    self._held = ""
                    return parsed + bare
            found = min(
                ((place, one) for one in self.formats if (place := self._held.find(one.opener)) >= 0),
                key=lambda pair: pair[0],
                default=None,
            )
            if found:
                place, self._inside = found
                before = self._held[:place].rstrip()
                self._space = self._held[len(before) : place]
                parsed += self._as_text(before)
                self._held = self._held[place + len(self._inside.opener) :]
                continue
            keep = 0 if final else max((overlap_at_end(self._held, one.opener) for one in self.formats), default=0)
            ready = self._held[: len(self._held) - keep]
            if not final or self._has_calls:
                ready = ready.rstrip()  # white space around calls is no part of the text
            self._held = "" if final else self._held[len(ready) :]
            return parsed + self._as_text(ready)

    def _as_text(self, text: str) -> ParsedReply:
        self._has_text = self._has_text or bool(text.strip())
        return ParsedReply(text)

    def _call_or_text(self, format: ToolFormat, body: str, mark: str) -> ParsedReply:
        try:
            calls = format.read(body, self._types)
            for name, _ in calls:
                if self.tools and name not in self._types:
                    raise Malformed(f"it calls {name[:60]!r}, which was not offered", name, 0)
        except Malformed as error:
            return self._as_malformed(
                f"{format.opener}{body}{mark}", error, is_cut_off=bool(format.closer and not mark)
            )
        return self._as_calls(calls)

    def _as_malformed(self, text: str, error: Malformed, *, is_cut_off: bool = False) -> ParsedReply:
        reason = f"the reply ended inside it ({error})" if is_cut_off else str(error)
        space, self._space = self._space, ""
        return self._as_text(f"{space}{text}") + ParsedReply(
            malformed=(MalformedCall(text, reason, error.place_in(text)),)
        )

    def _as_calls(self, calls: Sequence[Call]) -> ParsedReply:
        self._has_calls = True
        return ParsedReply(calls=tuple(new_call(name, arguments) for name, arguments in calls))

    def _may_be_bare(self, *, final: bool) -> bool:
        if not self.takes_bare or self._has_text or self._has_calls or not self.tools:
            return False
        return bool(self._held) and len(self._held) <= _LONGEST_BARE and _may_become_object(self._held)

    def _bare_calls(self) -> ParsedReply | None:
        text = re.sub(r"^\s*```(?:json)?\s*|\s*```\s*$", "", self._held)
        try:
            calls = read_json(text, self._types)
        except Malformed:
            return None
        if all(name in self._types for name, _ in calls):
            return self._as_calls(calls)
        if not any(f'"{word}"' in text for word in ("arguments", "parameters")):
            return None
        name = next(name for name, _ in calls if name not in self._types)
        return self._as_malformed(self._held, Malformed(f"it calls {name[:60]!r}, which was not offered", name, 0))


def _may_become_object(text: str) -> bool:
    """Whether a JSON object begins here, or may yet: behind a fence, or first in a list."""
    start = text.lstrip()
    if "```json".startswith(start):
        return True
    start = start.removeprefix("```json").removeprefix("```").lstrip().removeprefix("[").lstrip()
    return not start or start.startswith("{")


def new_call(name: str, arguments: dict[str, Any]) -> ToolCall:
    """A call with a new id, of nine letters and digits: Mistral's template takes no other."""
    return ToolCall(name, json.dumps(arguments, ensure_ascii=False), secrets.token_hex(5)[:9])


def name_of(tool: Tool) -> str:
    return str(tool["function"]["name"])


def _types_of(tool: Tool) -> dict[str, str]:
    parameters = tool["function"].get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    if not isinstance(properties, dict):
        return {}
    return {name: str(one.get("type")) for name, one in properties.items() if isinstance(one, dict)}


# --- forcing a call ---


def schema_of_calls(tools: Sequence[Tool], forced: ForcedCall) -> str:
    """The JSON schema of one call of any of these functions, as text."""
    definitions: dict[str, Any] = {}
    choices = [_schema_of_call(number, tool, forced, definitions) for number, tool in enumerate(tools)]
    schema: dict[str, Any] = choices[0] if len(choices) == 1 else {"anyOf": choices}
    if forced.in_list:
        schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": 1}
    return json.dumps({**schema, "$defs": definitions})


def _schema_of_call(number: int, tool: Tool, forced: ForcedCall, definitions: dict[str, Any]) -> dict[str, Any]:
    parameters = tool["function"].get("parameters") or {"type": "object", "properties": {}}
    for place in ("$defs", "definitions"):
        for name, part in (parameters.get(place) or {}).items():
            definitions[f"t{number}-{name}"] = _moved(part, number)
    own = {name: part for name, part in parameters.items() if name not in ("$defs", "definitions")}
    return {
        "type": "object",
        "properties": {"name": {"const": name_of(tool)}, forced.arguments: _moved(own, number)},
        "required": ["name", forced.arguments],
    }


def _moved(value: Any, number: int) -> Any:
    """A schema whose references lead to the definitions beside all functions."""
    if isinstance(value, list):
        return [_moved(part, number) for part in value]
    if not isinstance(value, dict):
        return value
    moved = {name: _moved(part, number) for name, part in value.items()}
    if isinstance(reference := value.get("$ref"), str):
        moved["$ref"] = re.sub(r"^#/(?:\$defs|definitions)/", f"#/$defs/t{number}-", reference)
    return moved
