"""The tokens of both answers as the panes show them: where they differ first, and how probable the other finds each.

Up to the first difference both models read the same text, so each token has the likeliest alternatives of both. Beyond
it, a token of A has B's once B has read A's answer (measure/fidelity.py); a token of B has its own only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from playground.app.compare.comparison import POSITIONS, Comparison
from playground.chat.comparison import PaneResult
from playground.chat.first_difference import FirstDifference, first_difference, shows_tokens
from playground.engine.protocol import Alternative, Token, TokenScore
from playground.measure.fidelity import Fidelity

Choices = tuple[tuple[str, float], ...]  # the likeliest next tokens with their probabilities, the likeliest first


@dataclass(frozen=True)
class AnswerToken:
    """One token of an answer. in_a, in_b: its probability in each model, None if unknown.

    is_first_difference: here the two answers differ for the first time. is_scored: `in_b` was measured by letting B
    read A's answer.
    """

    text: str
    in_a: float | None = None
    in_b: float | None = None
    top_a: Choices = ()
    top_b: Choices = ()
    is_first_difference: bool = False
    is_scored: bool = False


def answer_tokens(
    comparison: Comparison, fidelity: Fidelity | None = None
) -> tuple[tuple[AnswerToken, ...], tuple[AnswerToken, ...]]:
    """The tokens of A's and B's answer; empty for one whose tokens are not known or do not make up its text."""
    results = [comparison.pane_at(position).result for position in POSITIONS]
    difference = None
    if results[0] and results[1]:
        difference = first_difference(results[0], results[1])
    first = _tokens_of(results[0], 0, difference)
    second = _tokens_of(results[1], 1, difference)
    if results[0] and results[1]:
        common = difference.common_tokens if difference else min(len(results[0].tokens), len(results[1].tokens))
        first, second = _with_tops_of_other(first, second, common), _with_tops_of_other(second, first, common)
    if fidelity and len(fidelity.tokens) == len(first):
        first = [_scored(token, score) for token, score in zip(first, fidelity.tokens, strict=True)]
    return _of_the_answer(first, results[0]), _of_the_answer(second, results[1])


def _tokens_of(result: PaneResult | None, position: int, difference: FirstDifference | None) -> list[AnswerToken]:
    if result is None or not shows_tokens(result):
        return []
    place = difference.common_tokens if difference else None
    tokens = [_own_token(token, position) for token in result.tokens]
    if place is not None and place < len(tokens):
        tokens[place] = replace(tokens[place], is_first_difference=True)
    return tokens


def _own_token(token: Token, position: int) -> AnswerToken:
    share = None if token.logprob is None else math.exp(token.logprob)
    top = _choices(token.top)
    if position == 0:
        return AnswerToken(token.text, in_a=share, top_a=top)
    return AnswerToken(token.text, in_b=share, top_b=top)


def _with_tops_of_other(own: Sequence[AnswerToken], other: Sequence[AnswerToken], common: int) -> list[AnswerToken]:
    """Up to the first difference and with it, what the other model found likely after the same text."""
    tokens = list(own)
    for place in range(min(common + 1, len(own), len(other))):
        token, beside = own[place], other[place]
        top_a, top_b = token.top_a or beside.top_a, token.top_b or beside.top_b
        in_a, in_b = token.in_a, token.in_b
        if place < common:
            in_a = beside.in_a if in_a is None else in_a
            in_b = beside.in_b if in_b is None else in_b
        tokens[place] = replace(token, top_a=top_a, top_b=top_b, in_a=in_a, in_b=in_b)
    return tokens


def _scored(token: AnswerToken, score: TokenScore) -> AnswerToken:
    reference = None if score.reference_logprob is None else math.exp(score.reference_logprob)
    return replace(
        token,
        in_a=token.in_a if reference is None else reference,
        in_b=math.exp(score.logprob),
        top_a=_choices(score.reference_top) or token.top_a,
        top_b=_choices(score.top),
        is_scored=True,
    )


def _choices(top: Sequence[Alternative]) -> Choices:
    return tuple((one.text, math.exp(one.logprob)) for one in top)


def _of_the_answer(tokens: Sequence[AnswerToken], result: PaneResult | None) -> tuple[AnswerToken, ...]:
    """Those that make up the shown text, without thoughts and marks before it; empty if they do not."""
    if result is None or not tokens:
        return ()
    answer = result.conversation.messages[-1].content
    written = "".join(token.text for token in tokens)
    start = written.rfind(answer)
    if not answer or start < 0:
        return ()
    kept, place = [], 0
    for token in tokens:
        begin, end = max(place, start), min(place + len(token.text), start + len(answer))
        if begin < end or (token.is_first_difference and start <= place <= start + len(answer)):
            kept.append(replace(token, text=written[begin:end] if begin < end else ""))
        place += len(token.text)
    return tuple(kept)
