"""Draws the panes of the comparison: whose answer it is, the answer, its checks, figures and buttons.

While an answer grows it is plain text. Once both are there, it is drawn token by token (answer_tokens.py).
"""

from __future__ import annotations

from typing import Any, Final, Literal

from markupsafe import Markup

from playground.app.compare.comparison import LETTERS
from playground.app.compare.further_answers import FurtherAnswer, FurtherAnswers, WhyNone
from playground.app.compare.updates import PanePreparing, PaneState
from playground.app.messages import CLEAR
from playground.chat.prompts import ComparisonPrompt
from playground.engine.protocol import Finished, Token
from playground.text_format import UNKNOWN, about, bits, count, gigabytes, in_gibibytes, percent, speed
from playground.web.html.compare.answer_tokens import plain_runs, token_runs
from playground.web.html.page import status_message
from playground.web.html.reply import live_line
from playground.web.html.templates import render

_SIDES: Final = ("a", "b")
_NO_FURTHER: Final[dict[WhyNone, str]] = {
    "": "When B moves on, its answer stays here. Up to four levels stand beside each other.",
    "not asked": "Answers of more levels stand here: up to four beside each other.",
    "hidden": "More levels show after your vote.",
    "not one model": "More levels stand here while A and B are levels of one model on this computer.",
}
_NO_ANSWER: Final = "It ended without an answer."
_NO_MORE: Final = "This model has no more levels here."


def pane_markup(
    state: PaneState, position: int, names: tuple[str, str] = LETTERS, *, is_recorded: bool = False
) -> Markup:
    """One pane as it is now. names: of A and B, for the panel of a token.

    What the model does stands in the place of the first word, and how its answer ended below that once both have ended:
    a line below a growing answer would move.
    """
    answer = state.answer
    text = answer.content if answer else ""
    activity = state.activity
    has_figures = isinstance(activity, Token | Finished) and not state.is_hidden
    may_repeat = isinstance(activity, Finished) and not state.is_busy and not is_recorded
    note = "" if state.note == CLEAR else status_message(state.note)
    line = "" if is_recorded else note or pane_line(state)
    ended_empty = not text and may_repeat and not state.is_hidden
    is_first = not text and (state.is_busy or not isinstance(activity, Finished))
    buttons = []
    if may_repeat and state.is_cut_off:
        buttons.append(("continue", "Continue"))
    if may_repeat:
        buttons.append(("again", "Regenerate"))
    return render(
        "panes.html#pane",
        letter=LETTERS[position],
        side=_SIDES[position],
        is_hidden=state.is_hidden,
        name=state.name,
        bits=bits(state.bits_per_weight) if state.bits_per_weight else "",
        was_hidden=state.was_hidden,
        origin=state.requantized_from or "",
        rate=_rate(activity) if has_figures else "",
        thinking=answer.thinking if answer else "",
        runs=token_runs(state.tokens, position, names) if state.tokens else plain_runs(text),
        checks=state.checks,
        begins=line if is_first else plain_line(_NO_ANSWER, "rests") if ended_empty else "",
        ends="" if is_first or (state.is_busy and not note) else line,
        is_writing=state.is_busy and has_figures and not isinstance(activity, Finished),
        buttons=buttons,
        is_recorded=is_recorded,
    )


def _rate(activity: object) -> str:
    if isinstance(activity, Finished):
        return speed(activity.timings.generation_speed)
    return speed(activity.tokens_per_second) if isinstance(activity, Token) else ""


def pane_line(state: PaneState) -> str:
    """What the pane's model does now, or how its reply ended; nothing about its speed while names are hidden."""
    if state.is_hidden and state.is_busy:
        return plain_line("Writing … both answers appear together, so that speed gives nothing away", "waits")
    if state.is_hidden:
        return plain_line("Speed and length show after your vote", "rests")
    if isinstance(state.activity, PanePreparing):
        if state.activity.server:
            return plain_line(f"Asking {state.activity.server}", "waits")
        if state.activity.after:
            return plain_line(f"Waiting for {state.activity.after} to answer first", "waits")
        return plain_line("Getting ready", "waits")
    return live_line(state.activity, stopped=state.stopped_by)


def plain_line(text: str, kind: Literal["waits", "rests"]) -> str:
    """A pane's line in words, as high as the line of figures."""
    return render("compare.html#plain_line", text=text, kind=kind)


def headline() -> Markup:
    """What the page is for, in one question."""
    return render("panes.html#headline")


def pane_switch() -> Markup:
    """On a phone: which of the two panes shows."""
    return render("panes.html#pane_switch")


def question_box(text: str, prompt: ComparisonPrompt | None = None, *, is_blind: bool = False) -> Markup:
    """The question that both panes answer; before the first, where to find one. prompt: the example that it is.

    is_blind: the names are hidden now, so the dial shows no letters (theme.css) and does not move.
    """
    look_for, title = (prompt.look_for, prompt.title) if prompt else ("", "")
    return render("panes.html#question", text=text, look_for=look_for, title=title, is_blind=is_blind)


def further_section(further: FurtherAnswers) -> Markup:
    """What stands beside A and B on a wide screen: answers of other levels, and the level to ask next."""
    stop = further.next_stop
    room = _NO_FURTHER[further.why_none] if stop or further.why_none else _NO_MORE
    return render(
        "further.html#further",
        answers=[_further_pane(one) for one in further.answers],
        is_open=further.why_none != "not asked" and not further.is_blind,  # two answers have all the room
        room="One more level has room here." if further.answers and stop else room,
        ask=stop.value if stop else "",
        ask_name=stop.name if stop else "",
        is_busy=further.is_busy,
        made_in=about(stop.make_seconds) if stop and stop.make_seconds is not None else "",
        end="Every level on the dial has answered." if len(further.answers) > 1 else "",
    )


def _further_pane(one: FurtherAnswer) -> dict[str, Any]:
    shared = ", while A and B shared the cores" if one.is_shared else ""
    known = f"How many of A’s words {one.name} would have said too"
    facts = [
        ("File", gigabytes(one.file_bytes), in_gibibytes(one.file_bytes)),
        ("Memory", gigabytes(one.memory_bytes), f"Planned: {in_gibibytes(one.memory_bytes)}"),
        (
            "Speed",
            UNKNOWN if one.speed is None else speed(one.speed),
            f"Measured while it wrote this answer{shared}",
        ),
        (
            "A’s words too",
            UNKNOWN if one.agreement is None else percent(one.agreement),
            f"{known}: it is measured while {one.name} is B" if one.agreement is None else known,
        ),
    ]
    notes = ["" if one.cut_off_at is None else f"cut off at {count(one.cut_off_at)} tokens"]
    notes += ["speed disturbed" if one.is_disturbed else ""]
    return {
        "value": one.value,
        "name": one.name,
        "bits": bits(one.bits_per_weight) if one.bits_per_weight else "",
        "origin": one.requantized_from or "",
        "runs": plain_runs(one.text or UNKNOWN),
        "checks": one.checks,
        "facts": facts,
        "note": ", ".join(filter(None, notes)).capitalize(),
    }


def recorded_line(model: str, machine: str, date: str, starter: str = "") -> Markup:
    """That the answers below were recorded, of which model, where and when.

    starter: the name of the tiny model that would run here and gets an easier question; "" if a larger one would.
    """
    return render("panes.html#recorded", model=model, machine=machine, date=date, starter=starter)
