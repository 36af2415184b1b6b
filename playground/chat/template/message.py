"""The turns of a conversation, with the calls of functions that an assistant makes in them.

A template that knows no functions gets them as text: what may be called in the system prompt, a call and its result as
turns, in the form that most models were trained on (Hermes: a JSON object between `<tool_call>` and `</tool_call>`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

Tool = Mapping[str, Any]  # {"type": "function", "function": {"name": …, "description": …, "parameters": JSON schema}}

_TOOLS_AS_TEXT: Final = """\
You can call functions. Each line here is the JSON description of one:
<tools>
{tools}
</tools>
To call one, write a JSON object with its name and its arguments, and nothing else:
<tool_call>
{{"name": "the name", "arguments": {{"argument": "value"}}}}
</tool_call>
You then get its result. If no function helps, answer in plain words."""


@dataclass(frozen=True)
class ToolCall:
    """A function that the assistant wants to be called. arguments: JSON text of an object. id: its caller's name."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True)
class MalformedCall:
    """What looks like a call of a function and is none. reason: why, as the end of a sentence.

    place: of the first wrong letter in the text, from 0; None where no single letter is wrong.
    """

    text: str
    reason: str
    place: int | None = None


@dataclass(frozen=True)
class Message:
    """One turn; `thinking` is what the assistant thought before it answered.

    tool_calls, malformed_calls: of an assistant; a malformed call stands in the content as well. A message of the role
    `tool` holds the result of the call with the id `answers`.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    answers: str = ""
    malformed_calls: tuple[MalformedCall, ...] = ()

    @property
    def characters(self) -> int:
        """Of all texts that it makes a prompt longer by."""
        calls = sum(len(call.name) + len(call.arguments) for call in self.tool_calls)
        return len(self.content) + len(self.thinking) + calls


def read_arguments(text: str) -> dict[str, Any]:
    """The arguments of a call as an object; what is no JSON object is kept under one name."""
    try:
        read = json.loads(text or "{}")
    except ValueError:
        read = None
    return read if isinstance(read, dict) else {"arguments": text}


def changed_json(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every text in it changed, but for the names of fields."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {name: changed_json(part, change) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [changed_json(part, change) for part in value]
    return value


def as_plain_turns(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    """The turns with functions, calls and results as text, for a template that knows only words."""
    turns = [_as_plain_turn(message) for message in messages]
    if not tools:
        return turns
    text = _TOOLS_AS_TEXT.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
    if turns and turns[0].role == "system":
        return [replace(turns[0], content=f"{turns[0].content}\n\n{text}"), *turns[1:]]
    return [Message("system", text), *turns]


def _as_plain_turn(message: Message) -> Message:
    if message.role == "tool":
        return Message("user", f"<tool_response>\n{message.content}\n</tool_response>")
    if not message.tool_calls:
        return message
    calls = [
        f'<tool_call>\n{{"name": {json.dumps(call.name)}, "arguments": {call.arguments or "{}"}}}\n</tool_call>'
        for call in message.tool_calls
    ]
    return replace(message, content="\n".join(filter(None, (message.content, *calls))), tool_calls=())
