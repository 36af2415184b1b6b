"""What two answers differ in: where their texts part, and which figures are apart by more than chance.

Pure functions of results; starts no clock and marks nothing that a repetition would turn over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from playground.chat.pane import PaneResult
from playground.engine.messages import Alternative, Token


@dataclass(frozen=True)
class Choice:
    """What one pane chose where the two part. id None: it ended its text.

    own, other: how probable this pane's model held its own and the other's choice, from 0 to 1; None where it was not
    among the alternatives that came with the token.
    """

    text: str
    id: int | None
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
    """Where two answers part; None where their tokens are the same, or one was only cut off while the other went on."""
    place = _common_length(a.tokens, b.tokens)
    mine, theirs = _step(a, place), _step(b, place)
    if mine is None or theirs is None or mine.id == theirs.id:
        return None
    before = "".join(token.text for token in a.tokens[:place])
    return FirstDifference(place, before, _choice(mine, theirs), _choice(theirs, mine))


@dataclass(frozen=True)
class _Step:
    """What a pane chose at a place, and what else it might have chosen."""

    id: int | None
    text: str
    logprob: float | None
    top: tuple[Alternative, ...]


def _step(result: PaneResult, place: int) -> _Step | None:
    """None where the reply was cut off before."""
    if place < len(result.tokens):
        token = result.tokens[place]
        return _Step(token.id, _text(token), token.logprob, token.top)
    return _Step(None, "", None, ()) if result.finished.reason == "end of text" else None


def _choice(own: _Step, other: _Step) -> Choice:
    held = {alternative.id: alternative.logprob for alternative in own.top}
    theirs = held.get(other.id) if other.id is not None else None
    return Choice(own.text, own.id, _probability(own.logprob), _probability(theirs))


def _text(token: Token) -> str:
    """A token's own text: what it added to the answer may wait for the rest of a character."""
    return next((alternative.text for alternative in token.top if alternative.id == token.id), token.text)


def _probability(logprob: float | None) -> float | None:
    return None if logprob is None else math.exp(logprob)


def _common_length(a: Sequence[Token], b: Sequence[Token]) -> int:
    for place, (mine, theirs) in enumerate(zip(a, b, strict=False)):
        if mine.id != theirs.id:
            return place
    return min(len(a), len(b))
