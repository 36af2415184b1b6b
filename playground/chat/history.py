"""Reads and checks a chat history from a browser or a file, which may contain anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

from playground.chat.template.message import MalformedCall, Message, ToolCall
from playground.errors import RequestRefused
from playground.settings import Settings

_ROLES: Final[dict[Any, Literal["system", "user", "assistant", "tool"]]] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_MOST_CALLS: Final = 32  # in one reply
_TURN_FIELDS: Final = ("role", "content", "tool_calls", "tool_call_id")
_LONGEST_NAME: Final = 200  # characters of a tool's name, of a call's id and of what is wrong with one
_SHORTER: Final = "Shorten it, or start a new chat."
_NEW_CHAT: Final = "Reload the page, or start a new chat."


@dataclass(frozen=True)
class HistoryLimits:
    """The longest accepted history: messages, characters in each, and characters in all of them together."""

    messages: int = 200
    message_characters: int = 100_000
    all_characters: int = 1_000_000

    @classmethod
    def of(cls, settings: Settings) -> HistoryLimits:
        each = settings.max_message_characters
        return cls(settings.max_history_messages, each, 10 * each)


def read_history(data: object, limits: HistoryLimits) -> tuple[str, tuple[Message, ...]]:
    """Read the system prompt and the messages. Raises RequestRefused for a history that is too long or malformed.

    data: `{"system": "…", "messages": [{"role": "user", "content": "…"}, …]}`, or the list of messages alone. A content
    may also be a list of text parts, as Gradio's Chatbot gives it: `[{"type": "text", "text": "…"}]`. Calls of tools
    and what they returned have OpenAI's form, see `write_message`.
    """
    system: object = ""
    listed = data
    if isinstance(data, Mapping):
        system, listed = data.get("system", ""), data.get("messages", [])
    if not isinstance(listed, list | tuple):
        _refuse_form("its messages are not a list")
    check_message_count(len(listed), limits)
    messages = [_read_message(entry, number, limits) for number, entry in enumerate(listed, start=1)]
    texts = [_read_text(system, "The system prompt", limits)]
    texts += [message.content for message in messages if message.role == "system"]
    system_text = "\n\n".join(text for text in texts if text)
    kept = tuple(message for message in messages if message.role != "system")
    _check_results(kept)
    check_chat(system_text, kept, limits)
    return system_text, kept


def check_message_count(count: int, limits: HistoryLimits) -> None:
    """Raises RequestRefused for a chat of too many messages."""
    if count > limits.messages:
        raise RequestRefused(
            f"This chat has {count:,} messages; the playground takes up to {limits.messages:,}.",
            "Start a new chat.",
            setting="max_history_messages",
        )


def check_chat(system_text: str, messages: Sequence[Message], limits: HistoryLimits) -> None:
    """Raises RequestRefused for a chat or a system prompt that is too long."""
    checked_text(system_text, "The system prompt", limits)
    check_message_count(len(messages), limits)
    total = len(system_text) + sum(message.characters for message in messages)
    if total > limits.all_characters:
        raise RequestRefused(
            f"This chat is {total:,} characters long; the playground takes up to {limits.all_characters:,}.",
            "Start a new chat.",
            setting="max_message_characters",  # ten times as many in all
        )


def checked_text(text: object, name: str, limits: HistoryLimits | None = None) -> str:
    """The text, if a model can read it. Raises RequestRefused; `name` begins its sentence, such as "The message"."""
    if not isinstance(text, str):
        _refuse_form(f"{name.lower()} is not text")
    if limits and len(text) > limits.message_characters:
        raise RequestRefused(
            f"{name} is {len(text):,} characters long; the playground takes up to {limits.message_characters:,}.",
            _SHORTER,
            setting="max_message_characters",
        )
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise RequestRefused(f"{name} holds half a character, which no model can read.", "Type it again.")
    return text


def _read_message(entry: object, number: int, limits: HistoryLimits) -> Message:
    name = f"Message {number}"
    if not isinstance(entry, Mapping):
        _refuse_form(f"message {number} has no role and content")
    role = entry.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        _refuse_form(f"the role of message {number} is none of system, user, assistant and tool")
    content, calls = entry.get("content"), entry.get("tool_calls") or ()
    content = _read_text("" if content is None and calls else content, name, limits)
    thinking = _read_text(entry.get("thinking", ""), f"The thinking of message {number}", limits)
    if role == "tool":
        answers = _short_text(entry.get("tool_call_id", ""), f"The tool_call_id of message {number}")
        return Message("tool", content, answers=answers)
    if role != "assistant":
        return Message(_ROLES[role], content, thinking)
    malformed = entry.get("malformed_calls") or ()
    return Message(
        "assistant",
        content,
        thinking,
        tuple(_read_call(one, f"A tool call of message {number}", limits) for one in _listed(calls, name)),
        malformed_calls=tuple(_read_malformed(one, name, limits) for one in _listed(malformed, name)),
    )


def _listed(calls: object, name: str) -> list[Any] | tuple[Any, ...]:
    if not isinstance(calls, list | tuple) or len(calls) > _MOST_CALLS:
        _refuse_form(f"the tool calls of {name.lower()} are not a list of up to {_MOST_CALLS}")
    return calls


def _read_call(data: object, name: str, limits: HistoryLimits) -> ToolCall:
    function = data.get("function") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(function, Mapping):
        _refuse_form(f"{name[0].lower()}{name[1:]} has no function")
    return ToolCall(
        _short_text(function.get("name"), f"{name}: its name"),
        checked_text(function.get("arguments", ""), f"{name}: its arguments", limits),
        _short_text(data.get("id", ""), f"{name}: its id"),
    )


def _read_malformed(data: object, name: str, limits: HistoryLimits) -> MalformedCall:
    if not isinstance(data, Mapping):
        _refuse_form(f"a malformed call of {name.lower()} is not an object")
    text, place = checked_text(data.get("text"), f"{name}: a malformed call", limits), data.get("place")
    is_place = isinstance(place, int) and not isinstance(place, bool) and 0 <= place <= len(text)
    reason = _short_text(data.get("reason", ""), f"{name}: the reason of a malformed call")
    return MalformedCall(text, reason, place if is_place else None)


def _short_text(text: object, name: str) -> str:
    text = checked_text(text, name)
    if len(text) > _LONGEST_NAME:
        _refuse_form(f"{name[0].lower()}{name[1:]} is longer than {_LONGEST_NAME} characters")
    return text


def _check_results(messages: Sequence[Message]) -> None:
    """Raises RequestRefused for the result of a call that no message before it makes."""
    called: set[str] = set()
    for message in messages:
        if message.role == "tool" and message.answers not in called:
            _refuse_form("it has the result of a tool call that is not there")
        called |= {call.id for call in message.tool_calls}


def write_message(message: Message) -> dict[str, Any]:
    """A message as plain data, which `read_history` reads back: `{"role": "assistant", "content": "…", "tool_calls":
    [{"id": …, "type": "function", "function": {"name": …, "arguments": JSON text}}]}`."""
    written: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        written["thinking"] = message.thinking
    if message.tool_calls:
        written["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.malformed_calls:
        written["malformed_calls"] = [
            {"text": call.text, "reason": call.reason, "place": call.place} for call in message.malformed_calls
        ]
    return written | ({"tool_call_id": message.answers} if message.role == "tool" else {})


def write_turn(message: Message) -> dict[str, Any]:
    """A message as a server takes it: without what only the playground knows of it."""
    return {name: value for name, value in write_message(message).items() if name in _TURN_FIELDS}


def _read_text(content: object, name: str, limits: HistoryLimits) -> str:
    if isinstance(content, list | tuple):
        if len(content) > limits.messages:
            _refuse_form(f"{name.lower()} has too many parts")
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        if not all(isinstance(part, str) for part in parts):
            _refuse_form(f"{name.lower()} holds something that is not text")
        content = "\n".join(str(part) for part in parts)
    return checked_text(content, name, limits)


def _refuse_form(fault: str) -> NoReturn:
    raise RequestRefused(f"This chat cannot be read: {fault}.", _NEW_CHAT)
