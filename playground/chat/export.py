"""Writes a chat and its figures as Markdown to read and as JSON to process."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from playground.chat.conversation import Conversation
from playground.chat.template.message import Message
from playground.engine.protocol import FINISH_WORDS, Finished, Memory
from playground.fit.plan import MemoryPlan
from playground.llama.params import AUTOMATIC
from playground.llama.sampling_extras import Sampling
from playground.text_format import counted

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


@dataclass(frozen=True)
class Transcript:
    """A chat to be saved.

    finished: how each whole reply ended, by its index among the messages. cut_short: why each other reply has no end,
    in a sentence. choice: what finds the model again in a picker, as `{"model": …, "level": …}`. instructions: what was
    attached, as `{"name": …, "text": …}`; the system prompt ends with this text. attached: a text for the tools, in the
    same form. device: where the model was to run, as DeviceChoice writes it. thinking: as ThinkingChoice writes
    it. ran_on: where the last reply was written, in words; "" if that is not known.
    """

    title: str
    model_file: str  # the file's name, without the folders of this computer
    level: str
    context_size: int | None  # tokens; None for a server's model
    sampling: Sampling
    max_tokens: int | None
    conversation: Conversation
    finished: Mapping[int, Finished] = field(default_factory=dict)
    cut_short: Mapping[int, str] = field(default_factory=dict)
    kv_type: str = "f16"
    choice: Mapping[str, str] | None = None
    instructions: Mapping[str, Any] | None = None
    attached: Mapping[str, str] | None = None
    device: str = AUTOMATIC
    ran_on: str = ""
    thinking: str = ""


def as_json(transcript: Transcript) -> str:
    """One JSON object; times in seconds, speeds in tokens per second. saved_chat.py reads it back."""
    return json.dumps(as_data(transcript), ensure_ascii=False, indent=2) + "\n"


def as_data(transcript: Transcript) -> dict[str, Any]:
    """What `as_json` writes."""
    messages: list[dict[str, Any]] = transcript.conversation.to_json()["messages"]
    for place, message in enumerate(messages):
        if (end := transcript.finished.get(place)) is not None:
            message |= {"finish_reason": end.reason, "timings": end.timings.to_json()}
        elif place in transcript.cut_short:
            message |= {"finish_reason": None, "timings": None, "cut_short": transcript.cut_short[place]}
    return {
        "title": transcript.title,
        "model_file": transcript.model_file,
        "level": transcript.level,
        "choice": transcript.choice,
        "ran_on": transcript.ran_on or None,
        "settings": {
            "context_size": transcript.context_size,
            "kv_type": transcript.kv_type,
            "device": transcript.device,
            **({"thinking": transcript.thinking} if transcript.thinking else {}),
            "max_tokens": transcript.max_tokens,
            **dataclasses.asdict(transcript.sampling),
        },
        "system": transcript.conversation.system,
        "instructions": transcript.instructions,
        **({"attached": transcript.attached} if transcript.attached else {}),
        "messages": messages,
    }


def as_markdown(transcript: Transcript) -> str:
    """A page with a heading for each message; Markdown inside messages is kept."""
    blocks = [f"# {one_line(transcript.title)}", _facts(transcript)]
    if transcript.conversation.system.strip():
        blocks += ["## System prompt", _closed(transcript.conversation.system)]
    for place, message in enumerate(transcript.conversation.messages):
        blocks += turn(message, transcript.finished.get(place), transcript.cut_short.get(place, ""))
    return "\n\n".join(blocks) + "\n"


def _facts(transcript: Transcript) -> str:
    context = "–" if transcript.context_size is None else f"{transcript.context_size}"
    lines = [
        f"- Model: {code(transcript.model_file)}",
        f"- Level: {one_line(transcript.level)}",
        f"- Context: {context} tokens",
        *([f"- Ran on: {one_line(transcript.ran_on)}"] if transcript.ran_on else []),
        f"- Settings: {settings_in_words(transcript.sampling, transcript.max_tokens)}",
    ]
    return "\n".join(lines)


def where_it_ran(plan: MemoryPlan, measured: Memory | None) -> str:
    """`the CPU`, or `10 of 31 layers on CUDA0 (CUDA), the rest on the CPU`."""
    devices = measured.devices if measured else ()
    if not devices:
        return "the CPU"
    parts = [
        f"{one.layers} of {counted(plan.layers, 'layer')} on {one.device}{f' ({one.backend})' if one.backend else ''}"
        for one in devices
    ]
    experts = plan.context.placement.experts_in_ram
    rest = "the experts of " + counted(experts, "layer") + " on the CPU" if experts else "the rest on the CPU"
    is_whole = plan.context.placement.is_whole_on_devices
    return ", ".join([" and ".join(parts), *([] if is_whole else [rest])])


def settings_in_words(sampling: Sampling, max_tokens: int | None) -> str:
    """The sampling settings, on one line."""
    settings = [
        f"temperature {sampling.temperature:g}",
        f"top-k {sampling.top_k}",
        f"top-p {sampling.top_p:g}",
        f"min-p {sampling.min_p:g}",
        f"repeat penalty {sampling.repeat_penalty:g}",
        f"seed {'new for each reply' if sampling.seed is None else sampling.seed}",
        f"longest reply {'up to the context' if max_tokens is None else f'{max_tokens} tokens'}",
    ]
    return ", ".join(settings)


def turn(message: Message, end: Finished | None, cut_short: str = "") -> Iterator[str]:
    """The blocks of one message: a heading, the thoughts as a quote, the text, the figures.

    cut_short: why a reply has no end, in a sentence.
    """
    yield {"user": "## You", "tool": "## What the tool returned"}.get(message.role, "## Model")
    if message.role == "tool":
        yield _fenced(message.content)
        return
    if message.thinking.strip():
        yield "\n".join(f"> {line}".rstrip() for line in ["*Thinking*", "", *message.thinking.strip().split("\n")])
    if message.content.strip():
        yield _closed(message.content)
    for call in message.tool_calls:
        yield f"*Calls the tool {code(call.name)} with*"
        yield _fenced(call.arguments)
    for malformed in message.malformed_calls:
        yield f"*Malformed tool call: {_escaped(one_line(malformed.reason))}*"
    if end is not None:
        yield f"*{_figures(end)}*"
    elif cut_short:
        yield f"*Broken off: {_escaped(one_line(cut_short))}*"


def _escaped(text: str) -> str:
    """The text without Markdown's meanings: an error can have a name in it that somebody chose."""
    return re.sub(r"([\\`*_<\[\]])", r"\\\1", text)


def _figures(end: Finished) -> str:
    timings = end.timings
    parts = ["– tokens" if timings.generated_tokens is None else f"{timings.generated_tokens} tokens"]
    if timings.generation_speed is not None:
        parts.insert(0, f"{timings.generation_speed:.1f} tok/s{' (disturbed)' if timings.disturbed else ''}")
    if timings.time_to_first_token is not None:
        parts.append(f"{timings.time_to_first_token:.2f} s to first token")
    return " · ".join([*parts, FINISH_WORDS[end.reason]])


def _closed(text: str) -> str:
    """The text, with an open code block closed: a reply that was cut short may end in one."""
    fence, text = open_fence(text), text.strip("\n")
    return f"{text}\n{fence}" if fence else text


def open_fence(text: str) -> str:
    """The mark of the code block in which a text ends; "" where it ends outside of one."""
    fence = ""
    for line in text.split("\n"):
        match = _FENCE.match(line)
        if match is None:
            continue
        marks, rest = match.groups()
        if not fence:
            fence = marks if marks[0] == "~" or "`" not in rest else ""
        elif marks.startswith(fence) and not rest.strip():
            fence = ""
    return fence


def _fenced(text: str) -> str:
    """The text as a block of code, between fences that it does not contain."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def one_line(text: str) -> str:
    """Replace every run of white space by one space."""
    return re.sub(r"\s+", " ", text).strip()


def code(text: str) -> str:
    """The text as inline code."""
    return f"`{one_line(text).replace('`', chr(39))}`"
