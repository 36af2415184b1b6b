"""Where two answers part: the first token that differs, and what each model thought of its own choice and the other's.

Pure functions of results. Tokens are compared by their number, so both models must have one vocabulary, as all levels
of a model do; of models with different ones nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from playground.chat.pane import PaneResult
from playground.engine.messages import Alternative, Token


@dataclass(frozen=True)
class Choice:
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
    mine: Choice
    theirs: Choice


def first_difference(a: PaneResult, b: PaneResult) -> FirstDifference | None:
    """Where two answers part.

    None where the tokens are the same, where one was only cut off while the other went on, and where the models have
    different vocabularies (`comparable` tells).
    """
    if not comparable(a, b):
        return None
    place = _common_length(a.tokens, b.tokens)
    mine, theirs = _step(a, place), _step(b, place)
    if mine is None or theirs is None or (mine.ends, mine.id) == (theirs.ends, theirs.id):
        return None
    before = "".join(token.text for token in a.tokens[:place])
    return FirstDifference(place, before, _choice(mine, theirs), _choice(theirs, mine))


def comparable(a: PaneResult, b: PaneResult) -> bool:
    """Whether the same number stands for the same token in both; their sizes tell vocabularies apart."""
    return a.vocabulary_size == b.vocabulary_size


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


def _choice(own: _Step, other: _Step) -> Choice:
    held = {alternative.id: alternative.logprob for alternative in own.top}
    theirs = held.get(other.id) if other.id is not None else None
    return Choice(own.text, own.id, own.ends, _probability(own.logprob), _probability(theirs))


def _own_text(token: Token) -> str:
    """What the token stands for; what it added to the answer may wait for the rest of a character."""
    return next((alternative.text for alternative in token.top if alternative.id == token.id), token.text)


def _probability(logprob: float | None) -> float | None:
    return None if logprob is None else math.exp(logprob)


def _common_length(a: Sequence[Token], b: Sequence[Token]) -> int:
    for place, (mine, theirs) in enumerate(zip(a, b, strict=False)):
        if mine.id != theirs.id:
            return place
    return min(len(a), len(b))
