"""Draws an answer token by token, as runs of text and of code.

The first difference is marked in both answers, and the tokens of A's answer are underlined by how unlikely B finds
them. The panel with the top fives is made by pane.js from the JSON that each token carries.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from playground.app.compare.answer_tokens import AnswerToken, Choices
from playground.text_format import UNKNOWN, percent
from playground.web.html.compare.markdown_parts import FENCE, MarkdownParts, StyledText

# How probable B finds a token of A: (at least, step of disagreement, in words).
STEPS: Final = (
    (0.5, 0, "B would probably say the same"),
    (0.2, 1, "B finds it possible"),
    (0.05, 2, "B finds it unlikely"),
    (0.0, 3, "B would hardly ever say this"),
)
_VISIBLE: Final = {"\n": "⏎", "\t": "⇥", "\r": "⏎"}


def visible_token(text: str, *, is_end: bool = False) -> str:
    """A token for people: spaces and line ends are visible, and the end of an answer has a word."""
    if is_end:
        return "(ends here)"
    if not text:
        return "(part of a character)"
    shown = "".join(_VISIBLE.get(character, character) for character in text)
    return f"␣{shown[1:]}" if shown.startswith(" ") and not shown.strip() else shown.strip(" ")


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


def token_runs(tokens: Sequence[AnswerToken], position: int, names: tuple[str, str]) -> list[_Run]:
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
