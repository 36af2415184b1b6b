"""Draws the first difference of two answers: both sentences up to it, and how probable each model held both tokens."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

from playground.app.compare.updates import ComparedAnswers
from playground.chat.first_difference import NoDifference
from playground.text_format import UNKNOWN, counted, percent
from playground.web.html.compare.answer_tokens import visible_token
from playground.web.html.templates import render

_SHOWN_BEFORE: Final = 220  # characters of the common text: enough to read the sentence


def first_difference_section(answers: ComparedAnswers) -> str:
    """Both sentences up to the first different token, with the probabilities of both tokens in both models."""
    difference = answers.first_difference
    hints = []
    if answers.is_random:
        hints.append(
            "The temperature is above 0, so chance also makes answers differ. At 0 a model always takes its likeliest "
            "token."
        )
    if isinstance(difference, NoDifference):
        summary = _no_difference_in_words(difference)
        return render(
            "first_difference.html#first_difference", summary=summary, before="", names=(), rows=(), hints=hints
        )
    if answers.by_text:
        hints.insert(0, "A server does not send token ids, so tokens are compared by their text.")
    before = difference.common_text[-_SHOWN_BEFORE:]
    first, second = difference.choices
    # a server seldom reports the probability of an end: then it is unknown, not small
    unknown = [UNKNOWN if answers.by_text and choice.is_end else "not in its top 5" for choice in difference.choices]
    rows = [
        {
            "letter": letter,
            "side": side,
            "word": visible_token(choice.text, is_end=choice.is_end),
            "probabilities": [probability_bar(a, "a", text), probability_bar(b, "b", text)],
        }
        for letter, side, choice, (a, b), text in zip(
            "AB",
            "ab",
            difference.choices,
            ((first.own, second.other), (first.other, second.own)),
            unknown,
            strict=True,
        )
    ]
    return render(
        "first_difference.html#first_difference",
        summary=f"Identical for {counted(difference.common_tokens, 'token')}, then:"
        if difference.common_tokens
        else "Different from the first token on:",
        before=before if len(before) == len(difference.common_text) else f"… {before}",
        names=answers.names,
        rows=rows,
        hints=hints,
    )


def _no_difference_in_words(difference: NoDifference) -> str:
    same = counted(difference.common_tokens, "token")
    return {
        "identical": f"Identical answers ({same}).",
        "cut off": f"Identical until one of them was cut off ({same}).",
        "different vocabularies": "The models use different vocabularies, so tokens cannot be compared.",
        "tokens not shown": "The server sends neither the probabilities of its tokens nor where one ends and the next "
        "begins, so tokens cannot be compared.",
    }[difference.reason]


def probability_bar(share: float | None, side: str, unknown: str = "not in its top 5") -> Markup:
    """A probability as a small bar and a figure. side: "a" or "b"; unknown: the text if there is no probability."""
    if share is None:
        return render("first_difference.html#probability", share=None, text=unknown, side=side)
    width = f"{100 * min(max(share, 0.0), 1.0):.1f}"
    return render("first_difference.html#probability", share=width, text=percent(share), side=side)
