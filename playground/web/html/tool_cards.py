"""Draws the calls of tools: each as a card in the conversation, malformed ones letter by letter, and the question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from markupsafe import Markup

from playground.app.chat.tools import STOPPED, TOO_MANY_ROUNDS
from playground.chat.session import NOT_RUN, ChatSession
from playground.chat.template.message import MalformedCall, Message, ToolCall
from playground.chat.tools.built_in import AttachedText
from playground.text_format import counted
from playground.web.html.templates import render

CallState = Literal["waits", "returned", "failed", "refused"]

_WORDS: Final[dict[CallState, str]] = {
    "waits": "not run yet",
    "returned": "ran",
    "failed": "could not run",
    "refused": "not run",
}
_SHOWN_CHARACTERS: Final = 800  # of arguments or a result in a card; saved chats have them whole
_PLAIN: Final = " .,:;/-"  # characters, besides letters and digits, that mean nothing in Markdown or markup
_VISIBLE: Final = {" ": "␣", "\n": "⏎\n", "\t": "⇥\t"}
_COMPARE: Final = "One wrong letter breaks a call. Regenerate, or ask another level of this model the same."


def call_card(call: ToolCall, result: str | None) -> Markup:
    """result: what the tool returned; None while it has not run."""
    state = _state_of(result)
    shown = "" if result is None or state == "refused" else result
    word = _WORDS[state] if state != "refused" or result == NOT_RUN else f"{_WORDS[state]}: {result}"
    return render(
        "tools.html#call_card",
        name=_as_entities(call.name),
        state=state,
        word=_as_entities(word),
        arguments=_as_entities(_shortened(call.arguments)),
        result=_as_entities(_shortened(shown)),
    )


def malformed_card(call: MalformedCall) -> Markup:
    """The text as the model wrote it, with the first wrong letter marked."""
    before, wrong, after = around_wrong_letter(call)
    if len(before) > _SHOWN_CHARACTERS:
        before = f"… {before[-_SHOWN_CHARACTERS:]}"
    return render(
        "tools.html#malformed_card",
        before=_as_entities(before),
        wrong=_as_entities(wrong),
        after=_as_entities(_shortened(after)),
        reason=_as_entities(f"{call.reason[:1].upper()}{call.reason[1:]}. {_COMPARE}"),
    )


def around_wrong_letter(call: MalformedCall) -> tuple[str, str, str]:
    """The text before the first wrong letter, the letter so that it can be seen, and the text after it."""
    text, place = call.text, call.place
    if place is None:
        return text, "", ""
    wrong = text[place : place + 1]
    return text[:place], _VISIBLE.get(wrong, wrong) or "the end", text[place + 1 :]


def calls_as_text(message: Message, results: Sequence[str | None]) -> list[str]:
    """What the copy button of each call takes."""
    return [
        f"{call.name} {call.arguments}" + ("" if result is None else f"\n{result}")
        for call, result in zip(message.tool_calls, results, strict=True)
    ]


def results_of(messages: Sequence[Message], place: int) -> list[str | None]:
    """What each call of a message returned, out of the messages that follow it; None for one without a result."""
    returned: dict[str, str] = {}
    for message in messages[place + 1 :]:
        if message.role != "tool":
            break
        returned.setdefault(message.answers, message.content)
    return [returned.get(call.id) for call in messages[place].tool_calls]


def asked_line(session: ChatSession) -> Markup | str:
    """The question whether the calls may run; "" where none waits."""
    names = [call.name for call in session.pending_calls]
    return render("tools.html#asked", names=names, many=len(names) > 1) if names else ""


def attached_line(attached: AttachedText | None) -> Markup | str:
    """The text that the tools may read, by name and length."""
    if attached is None:
        return ""
    return render("tools.html#attached", name=attached.name, length=counted(len(attached.text), "character"))


def _state_of(result: str | None) -> CallState:
    if result is None:
        return "waits"
    if result in (NOT_RUN, STOPPED, TOO_MANY_ROUNDS):
        return "refused"
    return "failed" if result.startswith('{"error": ') else "returned"


def _shortened(text: str) -> str:
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    return f"{text[:_SHOWN_CHARACTERS]} … ({counted(len(text) - _SHOWN_CHARACTERS, 'more character')})"


def _as_entities(text: str) -> Markup:
    """The text with everything but letters and digits as numbers, so that neither Markdown nor formulas change it."""
    return Markup("".join(one if one.isalnum() or one in _PLAIN else f"&#{ord(one)};" for one in text))
