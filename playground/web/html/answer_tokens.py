"""Draws the tokens of two answers: the first that differs, and how probable B finds each token of A's answer.

The panel with both top fives is filled by the page's script from the JSON that each token carries.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Final

from markupsafe import Markup

from playground.app.compare.updates import AgreementResult, ComparedAnswers
from playground.chat.first_difference import NoDifference
from playground.engine.protocol import Alternative, TokenScore
from playground.text_format import UNKNOWN, counted, percent
from playground.web.html.templates import render

# How probable B finds a token of A: (at least, step of disagreement, in words).
STEPS: Final = (
    (0.5, 0, "B would probably say the same"),
    (0.2, 1, "B finds it possible"),
    (0.05, 2, "B finds it unlikely"),
    (0.0, 3, "B would hardly ever say this"),
)
_SHOWN_BEFORE: Final = 220  # characters of the common text: enough to read the sentence
_VISIBLE: Final = {"\n": "⏎", "\t": "⇥", "\r": "⏎"}


# --- the first difference ---


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
        return render("answer_tokens.html#first_difference", summary=summary, before="", names=(), rows=(), hints=hints)
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
        "answer_tokens.html#first_difference",
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
        return render("answer_tokens.html#probability", share=None, text=unknown, side=side)
    width = f"{100 * min(max(share, 0.0), 1.0):.1f}"
    return render("answer_tokens.html#probability", share=width, text=percent(share), side=side)


def visible_token(text: str, *, is_end: bool = False) -> str:
    """A token for people: spaces and line ends are visible, and the end of an answer has a word."""
    if is_end:
        return "(ends here)"
    if not text:
        return "(part of a character)"
    shown = "".join(_VISIBLE.get(character, character) for character in text)
    return f"␣{shown[1:]}" if shown.startswith(" ") and not shown.strip() else shown.strip(" ")


# --- the agreement ---


def agreement_section(result: AgreementResult) -> str:
    """The figures of an answer, its text coloured by disagreement, and the panel for a token's top fives."""
    fidelity = result.fidelity
    if fidelity.kl_divergence == 0 and fidelity.top_token_agreement == 1:
        meaning = "Here the two are identical."
    else:
        what = "quantization" if result.is_same_model else "model"
        meaning = f"Both read exactly the same tokens, so only the {what} differs."
    return render(
        "answer_tokens.html#agreement",
        first=result.names[0],
        second=result.names[1],
        same_choice=percent(fidelity.top_token_agreement),
        tokens_in_all=counted(len(fidelity.tokens), "token"),
        divergence=nats(fidelity.kl_divergence),
        meaning=meaning,
        steps=[(step, words) for _, step, words in STEPS],
        tokens=[_token(token) for token in fidelity.tokens],
    )


def nats(divergence: float) -> str:
    """A KL divergence with the digits that matter: "0", "0.0031", "1.42"; "0" only for exactly 0."""
    if divergence == 0:
        return "0"
    if abs(divergence) < 1e-4:
        return "under 0.0001"
    return f"{divergence:.4f}" if divergence < 0.1 else f"{divergence:.2f}"


def disagreement_step(probability: float) -> int:
    """How much B disagrees with a token of this probability: 0 not at all, 3 most."""
    return next(step for least, step, _ in STEPS if probability >= least)


def _token(token: TokenScore) -> dict[str, Any]:
    probability = math.exp(token.logprob)
    step = disagreement_step(probability)
    in_a = "" if token.reference_logprob is None else f"A: {percent(math.exp(token.reference_logprob))}, "
    sentence = f"“{visible_token(token.text)}” {in_a}B: {percent(probability)}. {STEPS[step][2]}."
    top = {"said": sentence, "a": _top_tokens(token.reference_top), "b": _top_tokens(token.top)}
    return {
        "text": token.text.replace("\n", "⏎") or "·",
        "step": step,
        "sentence": sentence,
        "top": json.dumps(top, ensure_ascii=False),
        "line_ends": token.text.count("\n"),
    }


def _top_tokens(top: Sequence[Alternative]) -> list[tuple[str, float, str]]:
    """(token, probability, the same in words), as the page's script reads them."""
    return [(visible_token(one.text), round(math.exp(one.logprob), 4), percent(math.exp(one.logprob))) for one in top]
