"""Where two answers part: the first token that differs, and what each model thought of its own choice and the other's.

Pure functions of results. Tokens are compared by their number, so both models must have one vocabulary, as all levels
of a model do; of models with different ones nothing is said. Servers keep the numbers to themselves: with one of them,
tokens are compared by their text, where the server gives a log-probability for each and so shows what the tokens are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from playground.chat.comparison import PaneResult
from playground.engine.protocol import UNKNOWN_ID, Alternative, Token


@dataclass(frozen=True)
class TokenChoice:
    """What one pane chose where the two part; with `ends` it ended its text there, and the text is that token's own.

    own, other: how probable this pane's model held its own and the other's choice, from 0 to 1, before temperature and
    the rest of the sampling; None where it was not among the alternatives that came with the token. id None: unknown.
    """

    text: str
    id: int | None
    ends: bool
    own: float | None
    other: float | None


@dataclass(frozen=True)
class FirstDifference:
    """place: tokens that the answers have in common, so the index of the first that differs. before: their text."""

    place: int
    before: str
    mine: TokenChoice
    theirs: TokenChoice


def first_difference(a: PaneResult, b: PaneResult) -> FirstDifference | None:
    """Where two answers part.

    None where the tokens are the same, where one was only cut off while the other went on, and where the models have
    different vocabularies (`comparable` tells).
    """
    if not comparable(a, b):
        return None
    by_text = a.is_remote or b.is_remote
    place = _common_length(a.tokens, b.tokens, by_text)
    mine, theirs = _step(a, place), _step(b, place)
    if mine is None or theirs is None or (mine.ends and theirs.ends):
        return None
    if not by_text and (mine.ends, mine.id) == (theirs.ends, theirs.id):
        return None
    before = "".join(token.text for token in a.tokens[:place])
    return FirstDifference(place, before, _choice(mine, theirs, by_text), _choice(theirs, mine, by_text))


def comparable(a: PaneResult, b: PaneResult) -> bool:
    """Whether the same number stands for the same token in both; their sizes tell vocabularies apart.

    With a server's answer: whether it shows its tokens.
    """
    if a.is_remote or b.is_remote:
        return all(shows_tokens(result) for result in (a, b))
    return a.vocabulary_size == b.vocabulary_size


def shows_tokens(result: PaneResult) -> bool:
    """Whether each Token of the answer is one token; a server that gives no log-probabilities sends pieces of text."""
    return not result.is_remote or all(token.logprob is not None for token in result.tokens)


@dataclass(frozen=True)
class _Step:
    """What a pane chose at a place, and what else it might have chosen."""

    text: str
    id: int | None
    ends: bool
    logprob: float | None
    top: tuple[Alternative, ...]


def _step(result: PaneResult, place: int) -> _Step | None:
    """None where the reply was cut off before."""
    if place < len(result.tokens):
        token = result.tokens[place]
        return _Step(_own_text(token), token.id, False, token.logprob, token.top)
    if result.finished.reason != "end of text":
        return None
    end = result.finished.end
    if end is None:
        return _Step("", None, True, None, ())
    return _Step(end.text, end.id, True, end.logprob, result.finished.top)


def _choice(own: _Step, other: _Step, by_text: bool) -> TokenChoice:
    if by_text:
        theirs = None if other.ends else {one.text: one.logprob for one in reversed(own.top)}.get(other.text)
    else:
        theirs = None if other.id is None else {one.id: one.logprob for one in own.top}.get(other.id)
    id = None if own.id == UNKNOWN_ID else own.id
    return TokenChoice(own.text, id, own.ends, _probability(own.logprob), _probability(theirs))


def _own_text(token: Token) -> str:
    """What the token stands for; what it added to the answer may wait for the rest of a character."""
    if token.id == UNKNOWN_ID:
        return token.text
    return next((alternative.text for alternative in token.top if alternative.id == token.id), token.text)


def _probability(logprob: float | None) -> float | None:
    return None if logprob is None else math.exp(logprob)


def _common_length(a: Sequence[Token], b: Sequence[Token], by_text: bool) -> int:
    for place, (mine, theirs) in enumerate(zip(a, b, strict=False)):
        if not _same_text(_own_text(mine), _own_text(theirs)) if by_text else mine.id != theirs.id:
            return place
    return min(len(a), len(b))


def _same_text(a: str, b: str) -> bool:
    """Parts of a character have no text of their own: everyone writes them differently, and they pass as the same."""
    return a == b or all(not text or "�" in text for text in (a, b))
