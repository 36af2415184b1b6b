"""Reads a chat that was saved as JSON: by a browser's tab for a reload, or by a person as a file. It may hold anything.

    {"choice": {"model": "SmolLM2-135M-Instruct", "level": "Q4_1"}, "settings": {"context_size": 4096, "seed": 7, …},
     "system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}, …]}

`messages` alone are enough, and so is a list of them. What else is wrong is left out, and `ignored` names it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, get_args

from playground.chat.conversation import Conversation
from playground.chat.history import HistoryLimits, checked_text
from playground.chat.session import MOST_OTHER_ANSWERS, ChatSession, Instructions, ModelUsed, OtherAnswer
from playground.chat.template.message import Message
from playground.chat.template.thinking import ThinkingChoice
from playground.chat.tools.built_in import AttachedText
from playground.engine.protocol import Finished, FinishReason
from playground.engine.timings import Timings
from playground.errors import RequestRefused
from playground.llama.params import KV_TYPES, MOST_CONTEXT, DeviceChoice, KvType
from playground.llama.sampling_extras import Sampling

SAMPLING_RANGES: Final[dict[str, tuple[float, float]]] = {
    "temperature": (0, 2),
    "top_k": (0, 200),
    "top_p": (0.05, 1),
    "min_p": (0, 0.5),
    "repeat_penalty": (1, 1.5),
}
SHORTEST_REPLY: Final = 16  # tokens: the shortest “Longest reply” that can be chosen
LARGEST_SEED: Final = 2**32 - 2

_SEPARATOR: Final = "\x1e"
_WHOLE: Final = ("top_k", "max_tokens", "seed")  # numbers
_LONGEST_NAME: Final = 500  # characters of a model's name or a reason
_RIGHT_FILE: Final = "Choose a file that “Save as JSON” of the Chat tab wrote."
_OF_A_COUNT: Final = ("prompt_tokens", "cached_tokens", "generated_tokens", "threads")


@dataclass(frozen=True)
class ChatSettings:
    """How the replies of a chat are made; None where nothing is known, so that the usual value stays.

    numbers: of the sampling, by name, such as `{"temperature": 0.3, "seed": -1, "max_tokens": 512}`; seed -1: a new one
    for each reply. device: where the model was to run, as DeviceChoice writes it. model_file: the name of the file, for
    a chat whose model is not named otherwise. ignored: the names of what could not be read.
    """

    model: str | None = None
    level: str | None = None
    model_file: str | None = None
    context_size: int | None = None
    kv_type: KvType | None = None
    device: str | None = None
    thinking: str | None = None
    system: str | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


def read_saved_chat(
    text: str, limits: HistoryLimits, most_reply_tokens: int, name: str = "This text"
) -> tuple[ChatSession, ChatSettings]:
    """The chat, and how its replies were made. Raises RequestRefused with a sentence about `name`."""
    data = _read_object(text, limits, name)
    listed = data["messages"] if isinstance(data, Mapping) else data
    try:
        conversation = Conversation.from_untrusted({"messages": listed}, limits)
    except RequestRefused as error:
        raise RequestRefused(f"{name} cannot be opened. {error.problem}", _RIGHT_FILE, setting=error.setting) from error
    if not isinstance(data, Mapping):
        return ChatSession(conversation), ChatSettings()
    settings = read_chat_settings(data, limits, most_reply_tokens)
    instructions = _read_named_text(data.get("instructions"), "The instructions", limits)
    attached = _read_named_text(data.get("attached"), "The attached text", limits)
    if instructions and settings.system is not None:
        own_part = settings.system.removesuffix(instructions[1].strip()).strip()
        settings = replace(settings, system=own_part)
    session = ChatSession(
        conversation=conversation,
        instructions=Instructions(*instructions, _skill_names(data)) if instructions else None,
        attached=AttachedText(*attached) if attached else None,
        model=_read_model(data, settings),
        sampling=_read_sampling(settings.numbers),
        max_tokens=int(settings.numbers["max_tokens"]) if "max_tokens" in settings.numbers else None,
    )
    if not any(isinstance(entry, Mapping) and entry.get("role") == "system" for entry in listed):
        session = _with_ends(session, listed)
    session = _with_editing(session, data, limits)
    session = replace(session, others=_read_others(data.get("others"), limits, most_reply_tokens))
    return session.with_system_prompt(settings.system or ""), settings


def read_stored_settings(text: str, limits: HistoryLimits, most_reply_tokens: int) -> ChatSettings:
    """The settings that a browser's tab kept; the usual ones where the text says nothing that can be read."""
    if not text or len(text) > 8 * limits.message_characters:
        return ChatSettings()
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return ChatSettings()
    return read_chat_settings(data, limits, most_reply_tokens) if isinstance(data, Mapping) else ChatSettings()


def growing_text(message: Message) -> str:
    """The part of a reply that is there, for a browser's tab to keep; it only gets longer while the reply grows.

    A full stop, the thoughts, and after the control character RECORD SEPARATOR the answer.
    """
    thinking = message.thinking.replace(_SEPARATOR, "")
    return f".{thinking}{_SEPARATOR}{message.content}" if message.content else f".{thinking}"


def read_growing_reply(text: str, limits: HistoryLimits) -> Message:
    """What `growing_text` wrote; an empty reply if it cannot be read."""
    thinking, _, content = text[1:].partition(_SEPARATOR)
    entry = {"role": "assistant", "content": content, "thinking": thinking}
    if not text.startswith("."):
        return Message("assistant", "")
    try:
        (message,) = Conversation.from_untrusted([entry], limits).messages
    except RequestRefused:
        return Message("assistant", "")
    return message


def read_chat_settings(data: Mapping[str, Any], limits: HistoryLimits, most_reply_tokens: int) -> ChatSettings:
    """The settings of a saved chat, each checked on its own."""
    ignored: list[str] = []
    listed = data.get("settings")
    wanted: Mapping[str, Any] = listed if isinstance(listed, Mapping) else {}
    choice = data.get("choice")
    picked: Mapping[str, Any] = choice if isinstance(choice, Mapping) else {}
    ranges = SAMPLING_RANGES | {"max_tokens": (SHORTEST_REPLY, most_reply_tokens), "seed": (-1, LARGEST_SEED)}
    numbers: dict[str, float] = {}
    for name, (least, most) in ranges.items():
        if name not in wanted:
            continue
        value = -1 if name == "seed" and wanted[name] is None else wanted[name]
        if name == "max_tokens" and value is None:
            continue
        number = _read_number(value, least, most, is_whole=name in _WHOLE)
        if number is None:
            ignored.append(_in_words(name))
        else:
            numbers[name] = number
    context_size = wanted.get("context_size")
    if context_size is not None:
        context_size = _read_number(context_size, 1, MOST_CONTEXT, is_whole=True)
        ignored += ["context size"] if context_size is None else []
    kv_type = next((known for known in KV_TYPES if known == wanted.get("kv_type")), None)
    if wanted.get("kv_type") is not None and kv_type is None:
        ignored.append("KV cache precision")
    device = wanted.get("device")
    if device is not None and not DeviceChoice.can_read(device):
        device = None
        ignored.append("where it runs")
    system = data.get("system")
    if system is not None:
        try:
            system = checked_text(system, "The system prompt", limits)
        except RequestRefused:
            system = None
            ignored.append("system prompt")
    return ChatSettings(
        model=_name(picked.get("model")),
        level=_name(picked.get("level")),
        model_file=_name(data.get("model_file")),
        context_size=int(context_size) if context_size else None,
        kv_type=kv_type,
        device=device,
        thinking=ThinkingChoice.read(wanted.get("thinking")).text or None,
        system=system,
        numbers=numbers,
        ignored=tuple(ignored),
    )


def _read_others(data: Any, limits: HistoryLimits, most_reply_tokens: int) -> tuple[OtherAnswer, ...]:
    """What other levels answered to the last question; what cannot be read is left out."""
    others: list[OtherAnswer] = []
    for one in data[-MOST_OTHER_ANSWERS:] if isinstance(data, list) else ():
        if not isinstance(one, Mapping) or "others" in one or not isinstance(one.get("messages"), list):
            continue
        try:
            (reply,) = Conversation.from_untrusted({"messages": one["messages"]}, limits).messages
        except (RequestRefused, ValueError):
            continue
        session = _with_ends(ChatSession(), one["messages"])
        model = _read_model(one, read_chat_settings(one, limits, most_reply_tokens))
        if model.chosen and reply.role == "assistant":
            finished, cut_short = dict(session.finished).get(0), dict(session.cut_short).get(0, "")
            others.append(OtherAnswer(model, reply, finished, cut_short))
    return tuple(others)


def _read_object(text: str, limits: HistoryLimits, name: str) -> Any:
    """The JSON of a chat: an object with messages, or a list of them."""
    if len(text) > 8 * limits.all_characters:  # a chat within the limits is never so long, even with escapes
        raise RequestRefused(f"{name} is longer than any chat here may be.", setting="max_message_characters")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestRefused(f"{name} cannot be opened: it is not JSON.", _RIGHT_FILE) from error
    if isinstance(data, Mapping) and "panes" in data:
        raise RequestRefused(f"{name} is a saved comparison, and only chats can be opened.", _RIGHT_FILE)
    if not (isinstance(data, list) or (isinstance(data, Mapping) and "messages" in data)):
        raise RequestRefused(f"{name} cannot be opened: it has no list of messages.", _RIGHT_FILE)
    return data


def _read_number(value: Any, least: float, most: float, *, is_whole: bool) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        return None
    return value if not is_whole or value == int(value) else None


def _in_words(name: str) -> str:
    return {"max_tokens": "longest reply", "top_k": "top-k", "top_p": "top-p", "min_p": "min-p"}.get(
        name, name.replace("_", " ")
    )


def _name(value: Any) -> str | None:
    """A short text that can be shown."""
    is_short = isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME
    return value if is_short and not any("\ud800" <= character <= "\udfff" for character in value) else None


def _skill_names(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The skills that are on in a saved chat."""
    listed = data["instructions"].get("skills")
    return tuple(one for one in listed if _name(one)) if isinstance(listed, list) and len(listed) < 100 else ()


def _read_named_text(data: Any, what: str, limits: HistoryLimits) -> tuple[str, str] | None:
    if not isinstance(data, Mapping) or not (name := _name(data.get("name"))):
        return None
    try:
        return name, checked_text(data.get("text"), what, limits)
    except RequestRefused:
        return None


def _read_model(data: Mapping[str, Any], settings: ChatSettings) -> ModelUsed:
    chosen = (settings.model, settings.level) if settings.model and settings.level else None
    title, level = _name(data.get("title")) or "", _name(data.get("level")) or ""
    context_size = settings.context_size
    device, ran_on = DeviceChoice.read(settings.device), _name(data.get("ran_on")) or ""
    return ModelUsed(
        title, settings.model_file or "", level, context_size, settings.kv_type or "f16", chosen, device, ran_on,
        ThinkingChoice.read(settings.thinking),
    )  # fmt: skip


def _read_sampling(numbers: Mapping[str, float]) -> Sampling:
    usual, seed = Sampling(), int(numbers.get("seed", -1))
    return Sampling(
        temperature=numbers.get("temperature", usual.temperature),
        top_k=int(numbers.get("top_k", usual.top_k)),
        top_p=numbers.get("top_p", usual.top_p),
        min_p=numbers.get("min_p", usual.min_p),
        repeat_penalty=numbers.get("repeat_penalty", usual.repeat_penalty),
        seed=seed if seed >= 0 else None,
    )


def _with_ends(session: ChatSession, listed: list[Any]) -> ChatSession:
    """How the replies ended, where that can be read; for the next export."""
    finished: list[tuple[int, Finished]] = []
    cut_short: list[tuple[int, str]] = []
    for place, entry in enumerate(listed):
        if entry.get("role") != "assistant":
            continue
        reason, why = entry.get("finish_reason"), _name(entry.get("cut_short"))
        timings = _read_timings(entry.get("timings"))
        if reason in get_args(FinishReason) and timings:
            finished.append((place, Finished(0, reason, timings)))
        elif why:
            cut_short.append((place, why))
    return replace(session, finished=tuple(finished), cut_short=tuple(cut_short))


def _read_timings(data: Any) -> Timings | None:
    if not isinstance(data, Mapping):
        return None
    values: dict[str, Any] = {}
    for part in fields(Timings):
        value = data.get(part.name)
        if value is None and part.name != "total_seconds":
            values[part.name] = None
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
            return None
        values[part.name] = int(value) if part.name in _OF_A_COUNT else value
    return Timings(**values)


def _with_editing(session: ChatSession, data: Mapping[str, Any], limits: HistoryLimits) -> ChatSession:
    """The question that was being edited, if a tab kept that."""
    editing, draft = data.get("editing"), data.get("draft", "")
    if not isinstance(editing, int) or isinstance(editing, bool) or editing not in session.questions:
        return session
    try:
        return replace(session, editing=editing, draft=checked_text(draft, "The draft", limits))
    except RequestRefused:
        return replace(session, editing=editing)
