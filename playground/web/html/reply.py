"""Draws a reply: the live line, its details, the context gauge, the messages as a Chatbot takes them.

All figures come from the engine's events. The live line has the same height from the first moment, so that nothing
on the page moves while a reply streams. It is drawn several times a second: about 0.01 ms each time.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from playground.chat.export import open_fence, where_it_ran
from playground.chat.markdown_escape import escape_markdown
from playground.chat.speed_trace import READING_SPEED
from playground.engine.protocol import FINISH_SENTENCES, FINISH_WORDS, Event, Finished, Prefilled, Queued, Remark, Token
from playground.text_format import UNKNOWN, about, count, counted, percent, seconds, speed
from playground.web.html.memory import memory_rows, predicted_beside_measured
from playground.web.html.page import notice
from playground.web.html.templates import render
from playground.web.html.tool_cards import call_card, calls_as_text, malformed_card, results_of

if TYPE_CHECKING:
    from markupsafe import Markup

    from playground.app.chat.updates import ContextUse, LoadReport, ReplyDetails
    from playground.app.messages import CutShortBy, WorkProgress
    from playground.chat.session import Instructions
    from playground.chat.speed_trace import SpeedTrace
    from playground.chat.template.message import Message

_ORIGINAL: Final = "<!--written:"  # begins the comment that holds a message as it was written
CURVE_WIDTH, CURVE_HEIGHT = 64, 20  # pixels

_DISTURBED: Final = "speed disturbed"
_DISTURBED_HINT: Final = (
    "Something else had the processor for more than a tenth of the time, so this speed is not what the model reaches."
)

_STOPPED_WORDS: Final[dict[CutShortBy, str]] = {
    "person": FINISH_WORDS["cancelled"],
    "time": "stopped by the time limit",
    "shutdown": "the playground is shutting down",
    "absence": "stopped while the page was away",
    "failure": "broken off",
}


def live_line(
    event: Event | None,
    *,
    stopped: CutShortBy | None = None,
    load_seconds: float | None = None,
    trace: SpeedTrace | None = None,
    is_starting: bool = False,
) -> Markup:
    """What the reply does now: `12.3 tok/s · 512 tokens · 0.34 s to first token · finished`.

    event: None before a reply. is_starting: one was asked for. stopped: what ended the reply after this event.
    load_seconds: of the load before it, if there was one: `1.80 s load + 0.34 s to first token`. trace: the speed until
    now, drawn as a small curve.
    """
    curve = speed_curve(trace) if trace else ""
    if stopped:
        rate, facts = _written(event, load_seconds) if isinstance(event, Token) else ("", [])
        disturbed = isinstance(event, Token) and event.disturbed
        ended_by = _STOPPED_WORDS[stopped]
        return _line(
            "ended",
            facts,
            rate,
            ended_by,
            announcement=f"Reply {'broken off' if stopped == 'failure' else 'stopped'}.",
            disturbed=disturbed,
            curve=curve,
        )
    if isinstance(event, Queued):
        return _line("waits", [_position(event.position), f"starts in {about(event.wait_seconds)}"])
    if isinstance(event, Remark):
        return _line("waits", [event.text])
    if isinstance(event, Prefilled):
        done = event.done / event.total if event.total else 1.0
        cached = [f"{count(event.cached)} from the cache"] if event.cached else []
        return _line("reads", [f"Reading the prompt: {percent(done)} of {counted(event.total, 'token')}", *cached])
    if isinstance(event, Token):
        rate, facts = _written(event, load_seconds)
        return _line("writes", facts, rate, disturbed=event.disturbed, curve=curve)
    if isinstance(event, Finished):
        return _ended(event, load_seconds, curve)
    return _line("waits", ["Starting"]) if is_starting else _line("rests", ["Ready"])


def _ended(event: Finished, load_seconds: float | None, curve: Markup | str) -> Markup:
    timings, reason, end = event.timings, event.reason, end_in_words(event)
    facts = [counted(timings.generated_tokens, "token"), _to_first_token(timings.time_to_first_token, load_seconds)]
    if timings.generation_speed is None:
        facts.append(f"{seconds(timings.total_seconds)} in all")
    rate, announcement = speed(timings.generation_speed), f"Reply ended: {end}."
    return _line(
        "ended", facts, rate, end, FINISH_SENTENCES[reason], announcement, disturbed=timings.disturbed, curve=curve
    )


def end_in_words(finished: Finished) -> str:
    """`finished`, `cut off at 128 tokens`."""
    if finished.reason == "length limit" and finished.timings.generated_tokens:
        return f"cut off at {counted(finished.timings.generated_tokens, 'token')}"
    return FINISH_WORDS[finished.reason]


def speed_curve(trace: SpeedTrace) -> Markup | str:
    """The speed over the length of the reply, above the band in which people read; "" before there are two points."""
    if len(trace.speeds) < 2:
        return ""
    slowest, fastest = min(trace.speeds), max(trace.speeds)
    top = max(fastest, READING_SPEED[1]) * 1.1

    def height(tokens_per_second: float) -> float:
        return CURVE_HEIGHT * (1 - tokens_per_second / top)

    step = CURVE_WIDTH / (len(trace.speeds) - 1)
    points = " ".join(f"{number * step:.1f},{height(point):.1f}" for number, point in enumerate(trace.speeds))
    low, high = READING_SPEED
    return render(
        "reply.html#speed_curve",
        width=CURVE_WIDTH,
        height=CURVE_HEIGHT,
        points=points,
        band_top=f"{height(high):.1f}",
        band_height=f"{height(low) - height(high):.1f}",
        label=f"Speed over this reply: {speed(slowest)} to {speed(fastest)}. "
        f"The band is how fast people read: {low:.0f} to {high:.0f} tokens a second.",
    )


def _to_first_token(waited: float | None, load_seconds: float | None) -> str:
    """The engine's time to the first token, and the load before it, which the person waited for too."""
    load = f"{seconds(load_seconds)} load + " if load_seconds is not None else ""
    return f"{load}{seconds(waited)} to first token"


def _written(token: Token, load_seconds: float | None) -> tuple[str, list[str]]:
    """The speed, and the other figures."""
    first = token.time_to_first_token
    waited = [_to_first_token(first, load_seconds)] if first is not None else []
    return speed(token.tokens_per_second), [counted(token.count, "token"), *waited]


def _line(
    kind: str,
    facts: list[str],
    rate: str = "",
    end: str = "",
    end_hint: str = "",
    announcement: str = "",
    *,
    disturbed: bool = False,
    curve: Markup | str = "",
) -> Markup:
    return render(
        "reply.html#live_line",
        kind=kind,
        rate=rate,
        facts=facts,
        end=end,
        end_hint=end_hint,
        announcement=announcement,
        warning=_DISTURBED if disturbed else "",
        warning_hint=_DISTURBED_HINT,
        curve=curve,
    )


def _position(position: int) -> str:
    if position <= 1:
        return "Waiting in the queue: you are next"
    return f"Waiting in the queue: {counted(position - 1, 'chat')} before you"


def reply_details(details: ReplyDetails) -> Markup:
    """A folded table: how the prompt was read, the times, the memory predicted beside measured."""
    timings, plan, memory = details.timings, details.plan, details.memory
    share = timings.core_share
    facts = (
        ("Prompt", counted(timings.prompt_tokens, "token")),
        ("of these from the KV cache", count(timings.cached_tokens)),
        ("Prompt speed", speed(timings.prompt_speed, disturbed=timings.disturbed)),
        ("Waited in the queue", seconds(timings.queued_seconds)),
        *([("Loading the model", seconds(details.load_seconds))] if details.load_seconds is not None else []),
        ("Time to first token", seconds(timings.time_to_first_token)),
        ("Generation speed", speed(timings.generation_speed, disturbed=timings.disturbed)),
        ("Total time", seconds(timings.total_seconds)),
        *([("Ran on", where_it_ran(plan, memory))] if plan and memory and memory.devices else []),
        ("CPU threads", count(timings.threads)),
        ("They had the processor", UNKNOWN if share is None else f"{percent(share)} of the time"),
    )
    return render("reply.html#details", facts=facts, memory=memory_rows(plan, memory) if plan and memory else None)


def context_gauge(context: ContextUse) -> Markup:
    """How many tokens of the context this chat takes; near its end, what the model forgets next or has forgotten."""
    used, size = context.used, context.size
    if not size:
        held = UNKNOWN if used is None else counted(used, "token")
        return render("reply.html#context_gauge", held=held, used=0, size=0, is_nearly_full=False, forgets="")
    shown = min(used or 0, size)
    held = f"{count(used)} of {count(size)} tokens{' · nearly full' if context.is_nearly_full else ''}"
    return render(
        "reply.html#context_gauge",
        held=held,
        used=shown,
        size=size,
        is_nearly_full=context.is_nearly_full,
        forgets=context.forgets,
    )


def load_report(report: LoadReport) -> str:
    """That the model is ready, with the memory predicted beside measured."""
    ready = notice(f"Loaded in {seconds(report.seconds)} and ready.", "good")
    return ready + predicted_beside_measured(report.plan, report.memory)


def instructions_line(instructions: Instructions | None) -> str:
    """Instructions that came with a chat, by name and length; the chips of the shelf show skills."""
    if instructions is None or instructions.skills:
        return ""
    return render("reply.html#attached", name=instructions.name, length=counted(len(instructions.text), "character"))


def chatbot_messages(
    messages: Sequence[Message],
    growing: Message | None = None,
    opening: WorkProgress | None = None,
    pair: AnswerPair | None = None,
    ends: Mapping[int, Finished] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """The messages as gr.Chatbot takes them: questions as typed, thoughts folded.

    growing: the reply being written. opening: what it waits for before it begins, shown in its place. pair: what
    another level answered; both answers are then the last two messages, which chat.css puts side by side. ends: how
    whole replies ended, by their index among the messages: each keeps its figures below it.
    """
    turns: list[dict[str, Any]] = []
    all_of_it = [*messages, *([growing] if growing else [])]
    newest = all_of_it.pop() if pair and all_of_it and all_of_it[-1].role == "assistant" else None
    for place, message in enumerate(all_of_it):
        turns += _thought(message, growing) + _said(message, growing, ends.get(place)) + _call_cards(all_of_it, place)
    opening_line = ""
    if opening:
        done = "" if opening.fraction is None else percent(opening.fraction)
        opening_line = str(render("reply.html#opening", stage=opening.stage, done=done))
    if pair:
        turns += _thought(pair.other, growing, f" of {pair.other_level}")
        turns += _thought(newest, growing, f" of {pair.level}") if newest else []
        other = _shown(pair.other.content, is_whole=True, is_marked=True) + _figures_below(
            pair.other_end, pair.other.content
        )
        turns.append(_answer_of(pair.other_level, other))
        is_whole = newest is not growing
        text = _shown(newest.content, is_whole=is_whole, is_marked=is_whole) if newest else ""
        text += _figures_below(ends.get(len(messages) - 1), newest.content) if is_whole and newest else ""
        turns.append(_answer_of(pair.level, opening_line or text))
    elif opening:
        turns.append({"role": "assistant", "content": _as_part(opening_line)})
    return turns


@dataclass(frozen=True)
class AnswerPair:
    """Whose the two answers are that stand side by side. other: the answer before, by other_level, and how it ended."""

    level: str
    other_level: str
    other: Message
    other_end: Finished | None = None


def _thought(message: Message, growing: Message | None, whose: str = "") -> list[dict[str, Any]]:
    if not message.thinking:
        return []
    is_thinking = message is growing and not message.content
    title, status = ("Thinking …", "pending") if is_thinking else (f"Thoughts{whose}", "done")
    thought = _as_part(_shown(message.thinking, is_whole=message is not growing))
    return [{"role": "assistant", "content": thought, "metadata": {"title": title, "status": status}}]


def _said(message: Message, growing: Message | None, end: Finished | None) -> list[dict[str, Any]]:
    content = message.content
    for malformed in message.malformed_calls:
        content = content.replace(malformed.text, "", 1).strip()  # its card stands for it
    if not content or message.role == "tool":  # what a tool returned stands in the card of its call
        return []
    is_typed = message.role == "user"
    text = as_typed(content) if is_typed else _shown(content, is_whole=message is not growing)
    return [{"role": message.role, "content": _as_part(text + _figures_below(end, content))}]


def _figures_below(end: Finished | None, text: str) -> str:
    """`12.3 tok/s · 512 tokens · 0.34 s to first token · finished` as the last line of an answer.

    "" without an end, and for a text that was cut off inside a code block, of which it would become a line.
    """
    if end is None or open_fence(text):
        return ""
    timings = end.timings
    parts = [speed(timings.generation_speed, disturbed=timings.disturbed), counted(timings.generated_tokens, "token")]
    parts += [_to_first_token(timings.time_to_first_token, None), end_in_words(end)]
    return (
        f"\n\n{render('reply.html#answer_figures', figures=' · '.join(parts))}"  # text: Markup would escape the answer
    )


def _answer_of(level: str, markdown: str) -> dict[str, Any]:
    """One of two answers, under the name of its level."""
    heading = str(render("reply.html#answer_of", level=level))
    return {"role": "assistant", "content": _as_part(f"{heading}\n\n{markdown}")}


def _call_cards(messages: Sequence[Message], place: int) -> list[dict[str, Any]]:
    """A card for each call of a message, malformed ones too."""
    message = messages[place]
    cards: list[tuple[str, str]] = []
    if message.tool_calls:
        results = results_of(messages, place)
        written = calls_as_text(message, results)
        calls = zip(message.tool_calls, results, written, strict=True)
        cards += [(str(call_card(call, result)), text) for call, result, text in calls]
    cards += [(str(malformed_card(call)), call.text) for call in message.malformed_calls]
    return [{"role": "assistant", "content": _as_part(_with_original(text, f"\n\n{card}"))} for card, text in cards]


@lru_cache(maxsize=512)
def _shown(text: str, *, is_whole: bool, is_marked: bool = False) -> str:
    """The Markdown that shows what a model wrote. If that is another text, a whole message brings its original along.

    is_marked: bring it along in any case.

    It stands in a comment, which no page shows, with the length of what follows, in JavaScript's characters; the copy
    button takes it from there (assets/js/copy_as_written.js).
    """
    markdown = escape_markdown(text)
    if not is_whole or (markdown == text and _ORIGINAL not in text and not is_marked):
        return markdown
    return _with_original(text, f"\n\n{markdown}")


def _with_original(written: str, shown: str) -> str:
    original = b64encode(written.encode("utf-8", "replace")).decode()
    return f"{_ORIGINAL}{original}:{len(shown.encode('utf-16-le', 'replace')) // 2}-->{shown}"


@lru_cache(maxsize=512)
def as_typed(text: str) -> str:
    """Markup that shows what a person wrote character by character.

    Tabs are written as entities, because Markdown makes spaces of them, and so is what Gradio 6.31 takes for its own
    sign of a formula.
    """
    return str(render("reply.html#as_typed", text=text)).replace("\t", "&#9;").replace("%%%", "&#37;%%")


def _as_part(markdown: str) -> dict[str, str]:
    """Gradio 6.31 takes tabs and indentation out of a message that is a plain string (`inspect.cleandoc`)."""
    return {"type": "text", "text": markdown}
