"""Draws the panes of the comparison: whose answer it is, the answer token by token, its checks, figures and buttons.

While an answer grows it is plain text. Once both are there, the first difference is marked in both, and the tokens of
A's answer are underlined by how unlikely B finds them. The panel with the top fives is made by pane.js from the JSON
that each token carries.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from markupsafe import Markup

from playground.app.compare.answer_tokens import AnswerToken, Choices
from playground.app.compare.comparison import LETTERS
from playground.app.compare.further_answers import FurtherAnswer, FurtherAnswers, WhyNone
from playground.app.compare.updates import PaneState
from playground.app.messages import CLEAR
from playground.chat.prompts import ComparisonPrompt
from playground.engine.protocol import Finished, Token
from playground.text_format import UNKNOWN, about, bits, count, gigabytes, in_gibibytes, percent, speed
from playground.web.html.compare.answer_tokens import visible_token
from playground.web.html.compare.figures import pane_line, plain_line
from playground.web.html.compare.markdown_parts import FENCE, MarkdownParts, StyledText
from playground.web.html.page import status_message
from playground.web.html.templates import render

# How probable B finds a token of A: (at least, step of disagreement, in words).
STEPS: Final = (
    (0.5, 0, "B would probably say the same"),
    (0.2, 1, "B finds it possible"),
    (0.05, 2, "B finds it unlikely"),
    (0.0, 3, "B would hardly ever say this"),
)
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
        runs=_runs(state.tokens, position, names) if state.tokens else plain_runs(text),
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


# --- the answer, token by token ---


@dataclass
class _Run:
    """Consecutive tokens that are all text, or all within a code fence."""

    is_code: bool
    tokens: list[dict[str, Any]] = field(default_factory=list)


def plain_runs(text: str) -> list[_Run]:
    """A text without tokens, in the same parts."""
    runs, styles, start = [], MarkdownParts(text), 0
    for number, part in enumerate(text.split(FENCE)):
        is_code = number % 2 == 1
        shown = f"{FENCE}{part}{FENCE}" if is_code and number < text.count(FENCE) else part
        if is_code and number == text.count(FENCE):  # not closed yet
            shown = f"{FENCE}{part}"
        parts = [StyledText(shown)] if is_code else styles.parts(start, start + len(part))
        runs.append(_Run(is_code, [{"parts": parts, "top": ""}]))
        start += len(part) + len(FENCE)
    return runs


def _runs(tokens: Sequence[AnswerToken], position: int, names: tuple[str, str]) -> list[_Run]:
    runs: list[_Run] = []
    entry = _entry_place(tokens)
    written = ""
    styles = MarkdownParts("".join(token.text for token in tokens))
    first_texts = _texts_at_difference(tokens)
    for place, token in enumerate(tokens):
        was_code = written.count(FENCE) % 2 == 1
        parts = styles.parts(len(written), len(written) + len(token.text))
        written += token.text
        is_code = was_code or written.count(FENCE) % 2 == 1
        if not runs or runs[-1].is_code != is_code:
            runs.append(_Run(is_code))
        parts = [StyledText(token.text)] if is_code else parts
        drawn = _drawn_token(token, position, names, parts, is_entry=place == entry, near=first_texts)
        runs[-1].tokens.append(drawn)
    return runs


def _entry_place(tokens: Sequence[AnswerToken]) -> int:
    """Where Tab enters the answer: at the first difference, else at its beginning."""
    return next((place for place, token in enumerate(tokens) if token.is_first_difference), 0)


def _texts_at_difference(tokens: Sequence[AnswerToken]) -> set[str]:
    """The likeliest texts of both models at the first difference, to see whether only a space tells them apart."""
    token = next((token for token in tokens if token.is_first_difference), None)
    if token is None:
        return set()
    return {token.text} | {top[0][0] for top in (token.top_a, token.top_b) if top}


def _drawn_token(
    token: AnswerToken,
    position: int,
    names: tuple[str, str],
    parts: list[StyledText],
    *,
    is_entry: bool,
    near: set[str],
) -> dict[str, Any]:
    step = disagreement_step(token.in_b) if position == 0 and token.is_scored and token.in_b is not None else 0
    sentence = _sentence(token, position)
    facts = {
        "said": sentence,
        "a": list(_choices(token.top_a)),
        "b": list(_choices(token.top_b)),
        "names": names,
    }
    text = token.text
    if token.is_first_difference and len({one.strip() for one in near}) < len(near) and text.startswith(" "):
        text = f"␣{text[1:]}"  # the space is the difference
    elif token.is_first_difference and not text.strip():
        text = text.replace(" ", "␣").replace("\n", "⏎\n") or "∅"
    return {
        "parts": parts if text == token.text else [StyledText(text)],
        "step": step,
        "is_first": token.is_first_difference,
        "is_entry": is_entry,
        "sentence": sentence,
        "top": json.dumps(facts, ensure_ascii=False) if token.top_a or token.top_b else "",
    }


def _sentence(token: AnswerToken, position: int) -> str:
    known = zip("AB", (token.in_a, token.in_b), strict=True)
    shares = [f"{letter}: {percent(share)}" for letter, share in known if share is not None]
    said = f"“{visible_token(token.text)}” {', '.join(shares) or UNKNOWN}."
    if token.is_first_difference:
        return f"{said} Here the answers differ for the first time."
    if position == 0 and token.is_scored and token.in_b is not None:
        return f"{said} {STEPS[disagreement_step(token.in_b)][2]}."
    return said


def disagreement_step(probability: float) -> int:
    """How much B disagrees with a token of this probability: 0 not at all, 3 most."""
    return next(step for least, step, _ in STEPS if probability >= least)


def _choices(top: Choices) -> Iterator[tuple[str, float, str]]:
    """(token, probability, the same in words), as pane.js reads them; spaces show where they tell two apart."""
    stripped = [text.strip() for text, _ in top]
    for text, share in top:
        is_ambiguous = stripped.count(text.strip()) > 1
        shown = f"␣{text[1:]}" if is_ambiguous and text.startswith(" ") else visible_token(text)
        yield shown, round(share, 4), percent(share)
