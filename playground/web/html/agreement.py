"""How far one model agrees with the other's answer, to HTML: figures in words, and the answer token by token.

Pure functions; a token's text comes from a model file and is escaped. How much the other model disagrees is told by
colour, by the thickness of a line and in words; the panel of top fives is filled by the page's script
(compare_layout.py) from what each token carries.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from typing import Final

from playground.engine.protocol import Alternative
from playground.measure.fidelity import Fidelity, Phase, TokenScore
from playground.text_format import count, percent
from playground.web.html.first_difference import token_words

PHASES: Final[dict[Phase, str]] = {
    "loading the reference": "Loading A",
    "reading the reference": "A reads its own answer",
    "loading the candidate": "Loading B",
    "reading the candidate": "B reads A’s answer",
}
# How probable B finds A's token, from which on it disagrees so much: (at least, step, in words).
STEPS: Final = (
    (0.5, 0, "B would mostly say the same"),
    (0.2, 1, "B finds it likely, among others"),
    (0.05, 2, "B finds it unlikely"),
    (0.0, 3, "B would hardly ever say this"),
)


def agreement_card(titles: tuple[str, str], found: Fidelity) -> str:
    """The figures of an answer, its text coloured by disagreement, and the panel for a token's top fives."""
    first, second = map(escape, titles)
    divergence = found.kl_divergence
    return (
        '<section class="gp-agreement"><h2 class="gp-section">How much B disagrees with A’s answer</h2>'
        f"<p>At <b>{percent(found.top_token_agreement)}</b> of the {count(len(found.tokens))} tokens of {first}’s "
        f"answer {second} would have chosen as {first} does. KL divergence: <b>{nats(divergence)}</b>.</p>"
        f'<p class="gp-hint">KL divergence says how far {second}’s probabilities of every possible next token are from '
        f"{first}’s, averaged over the answer: 0 is the very same model, 0.01 hardly ever changes a word, 1 is another "
        f"mind. {_same(found)}</p>"
        f"{_legend()}{_panel(titles)}{_text(found.tokens)}</section>"
    )


def nats(divergence: float) -> str:
    """A divergence with the digits that matter: "0", "0.0031", "1.42"; never 0 for what is not."""
    if divergence == 0:
        return "0"
    if abs(divergence) < 1e-4:
        return "under 0.0001"
    return f"{divergence:.4f}" if divergence < 0.1 else f"{divergence:.2f}"


def step_of(probability: float) -> int:
    """How much B disagrees with a token that it finds so probable: 0 not at all, 3 most."""
    return next(step for least, step, _ in STEPS if probability >= least)


def _same(found: Fidelity) -> str:
    if found.kl_divergence == 0 and found.top_token_agreement == 1:
        return "Here the two are the very same."
    return "A level’s own loss and nothing else: both read the same tokens in the same pieces."


def _legend() -> str:
    items = "".join(f'<li><span class="gp-token-{step}">word</span> {words}</li>' for _, step, words in STEPS)
    return f'<ul class="gp-token-legend">{items}</ul>'


def _panel(titles: tuple[str, str]) -> str:
    sides = "".join(
        f'<div><p class="gp-top-title"><span class="gp-letter">{letter}</span>{escape(title)}</p>'
        f'<ol class="gp-top-{letter.lower()}"></ol></div>'
        for letter, title in zip("AB", titles, strict=True)
    )
    return (
        '<div class="gp-top-five" role="status" aria-label="The likeliest next tokens of both">'
        '<p class="gp-top-word">Point at a word, or go to it with Tab and the arrow keys.</p>'
        f'<div class="gp-top-sides">{sides}</div></div>'
    )


def _text(tokens: Sequence[TokenScore]) -> str:
    body = "".join(_token(token, place) for place, token in enumerate(tokens))
    return f'<div class="gp-tokens" role="group" aria-label="A’s answer, token by token">{body}</div>'


def _token(token: TokenScore, place: int) -> str:
    probability = math.exp(token.logprob)
    step = step_of(probability)
    words = STEPS[step][2]
    own = "" if token.reference_logprob is None else f"A: {percent(math.exp(token.reference_logprob))}, "
    said = f"“{token_words(token.text)}” {own}B: {percent(probability)}. {words}."
    facts = {"said": said, "a": _items(token.reference_top), "b": _items(token.top)}
    data = escape(json.dumps(facts, ensure_ascii=False), quote=True)
    ends = "<br>" * token.text.count("\n")
    return (
        f'<span class="gp-token gp-token-{step}" role="button" tabindex="{0 if place == 0 else -1}"'
        f' aria-label="{escape(said, quote=True)}" title="{escape(said, quote=True)}" data-top="{data}">'
        f"{escape(_seen(token.text))}</span>{ends}"
    )


def _seen(text: str) -> str:
    """The token in its sentence: spaces as they are, a line's end visible."""
    return text.replace("\n", "⏎") or "·"


def _items(top: Sequence[Alternative]) -> list[tuple[str, float, str]]:
    return [(token_words(one.text), round(math.exp(one.logprob), 4), percent(math.exp(one.logprob))) for one in top]
