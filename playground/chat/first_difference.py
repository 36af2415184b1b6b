"""Finds the first token in which two answers differ, and how probable each model held both choices.

Tokens are compared by id, which needs one vocabulary: all levels of a model share it. Servers do not send ids, so an
answer of a server is compared by the text of its tokens, if the server gives a log-probability for each token; without
those it sends pieces of text whose boundaries mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from playground.chat.comparison import PaneResult
from playground.engine.protocol import UNKNOWN_ID, Alternative, Token

NoDifferenceReason = Literal["identical", "cut off", "different vocabularies", "tokens not shown"]


@dataclass(frozen=True)
class TokenChoice:
    """What one model chose at the first difference. is_end: it ended its answer there; `text` is the end token's.

    own, other: the probability (0 to 1) that this model gave its own choice and the other model's choice, before
    temperature and the other sampling settings. None: not among the alternatives that came with the token. id: None if
    unknown.
    """

    text: str
    id: int | None
    is_end: bool
    own: float | None
    other: float | None


@dataclass(frozen=True)
class FirstDifference:
    """common_tokens: number of tokens before the difference; common_text: their text. choices: of both models."""

    common_tokens: int
    common_text: str
    choices: tuple[TokenChoice, TokenChoice]

    def to_json(self) -> dict[str, Any]:
        """The names that the API, `compare --json` and saved comparisons use."""
        mine, theirs = (
            {"text": choice.text, "id": choice.id, "ends": choice.is_end, "own": choice.own, "other": choice.other}
            for choice in self.choices
        )
        return {"place": self.common_tokens, "before": self.common_text, "mine": mine, "theirs": theirs}


@dataclass(frozen=True)
class NoDifference:
    """Why there is no first difference, and how many tokens are the same.

    "cut off": the shorter answer is the beginning of the longer one. "tokens not shown": a server sent text only.
    """

    reason: NoDifferenceReason
    common_tokens: int


def first_difference(a: PaneResult, b: PaneResult) -> FirstDifference | None:
    """The first token in which two answers differ, or None; then `why_no_difference` gives the reason."""
    if not are_comparable(a, b):
        return None
    by_text = a.is_remote or b.is_remote
    common = _common_length(a.tokens, b.tokens, by_text)
    first, second = _step_at(a, common), _step_at(b, common)
    if first is None or second is None or (first.is_end and second.is_end):
        return None
    if not by_text and (first.is_end, first.id) == (second.is_end, second.id):
        return None
    common_text = "".join(token.text for token in a.tokens[:common])
    choices = _choice(first, second, by_text), _choice(second, first, by_text)
    return FirstDifference(common, common_text, choices)


def why_no_difference(a: PaneResult, b: PaneResult) -> NoDifference:
    """For two answers of which `first_difference` is None."""
    if not are_comparable(a, b):
        return NoDifference("tokens not shown" if a.is_remote or b.is_remote else "different vocabularies", 0)
    common = min(len(a.tokens), len(b.tokens))
    return NoDifference("identical" if len(a.tokens) == len(b.tokens) else "cut off", common)


def are_comparable(a: PaneResult, b: PaneResult) -> bool:
    """Whether the tokens of both can be compared: by id, or beside a server's answer by text.

    Vocabularies of the same size count as the same.
    """
    if a.is_remote or b.is_remote:
        return shows_tokens(a) and shows_tokens(b)
    return a.vocabulary_size == b.vocabulary_size


def shows_tokens(result: PaneResult) -> bool:
    """Whether each Token of the answer is one token; a server that gives no log-probabilities sends pieces of text."""
    return not result.is_remote or all(token.logprob is not None for token in result.tokens)


@dataclass(frozen=True)
class _Step:
    """What a model chose at one position, and its likeliest alternatives there."""

    text: str
    id: int | None
    is_end: bool
    logprob: float | None
    top: tuple[Alternative, ...]


def _step_at(result: PaneResult, position: int) -> _Step | None:
    """None if the reply was cut off before this position."""
    if position < len(result.tokens):
        token = result.tokens[position]
        return _Step(_text_of(token), token.id, False, token.logprob, token.top)
    if result.finished.reason != "end of text":
        return None
    end = result.finished.end
    if end is None:
        return _Step("", None, True, None, ())
    return _Step(end.text, end.id, True, end.logprob, result.finished.top)


def _choice(own: _Step, other: _Step, by_text: bool) -> TokenChoice:
    if by_text:
        logprob = None if other.is_end else {one.text: one.logprob for one in reversed(own.top)}.get(other.text)
    else:
        logprob = None if other.id is None else {one.id: one.logprob for one in own.top}.get(other.id)
    id = None if own.id == UNKNOWN_ID else own.id
    return TokenChoice(own.text, id, own.is_end, _probability(own.logprob), _probability(logprob))


def _text_of(token: Token) -> str:
    """The token's own text; `token.text` is what it added to the answer, which may wait for the rest of a character."""
    if token.id == UNKNOWN_ID:
        return token.text
    return next((alternative.text for alternative in token.top if alternative.id == token.id), token.text)


def _probability(logprob: float | None) -> float | None:
    return None if logprob is None else math.exp(logprob)


def _common_length(a: Sequence[Token], b: Sequence[Token], by_text: bool) -> int:
    for position, (first, second) in enumerate(zip(a, b, strict=False)):
        differ = not _same_text(_text_of(first), _text_of(second)) if by_text else first.id != second.id
        if differ:
            return position
    return min(len(a), len(b))


def _same_text(a: str, b: str) -> bool:
    """Parts of a character count as the same: they have no text of their own, and every program writes them its way."""
    return a == b or all(not text or "�" in text for text in (a, b))
