"""Answers to the present question that other levels gave before: on a wide screen they stand beside A and B.

They are kept answers, so no model is in memory for them. More levels answer one at a time: B moves there, and what it
said before stays in sight.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Literal

from playground.app.compare.comparison import POSITIONS, CompareRequest, Comparison, PaneSession
from playground.app.compare.dial import Dial, DialStop
from playground.app.compare.kept_answers import KeptAnswers
from playground.app.model_picker.choice import ModelChoice
from playground.chat.answer_checks import CheckResult, check_answer
from playground.chat.prompts import find_comparison_prompt
from playground.models.model_file import ModelFile

MOST_FURTHER: Final = 2  # beside A and B: four panes in all

WhyNone = Literal["", "not asked", "hidden", "not one model"]


@dataclass(frozen=True)
class FurtherAnswer:
    """What one level answered. Sizes in bytes, speed in tokens per second; None for what is unknown.

    value: the level as the dial knows it; name: as people do. memory_bytes: planned. is_disturbed: something else had
    the processor while it wrote; is_shared: A and B wrote at the same time. agreement: the fraction of A's tokens that
    this level would have chosen too. cut_off_at: the tokens of an answer that reached its length limit.
    """

    value: str
    name: str
    text: str
    bits_per_weight: float | None = None
    requantized_from: str | None = None
    file_bytes: int | None = None
    memory_bytes: int | None = None
    speed: float | None = None
    is_disturbed: bool = False
    is_shared: bool = False
    agreement: float | None = None
    cut_off_at: int | None = None
    checks: tuple[CheckResult, ...] = ()


@dataclass(frozen=True)
class FurtherAnswers:
    """The newest answers of other levels, from many bits to few.

    next_stop: the level to ask next, None once all have answered. is_busy: not before A and B have answered. is_blind:
    of a blind comparison, also after the vote. why_none: why there cannot be any answers now.
    """

    answers: tuple[FurtherAnswer, ...] = ()
    next_stop: DialStop | None = None
    is_busy: bool = False
    is_blind: bool = False
    why_none: WhyNone = ""


NOT_ASKED: Final = FurtherAnswers(why_none="not asked")


def further_answers(
    comparison: Comparison,
    kept: KeptAnswers,
    dial_of: Callable[[str | None], Dial],
    owner: str,
    *,
    is_busy: bool = False,
) -> FurtherAnswers:
    """What stands beside A and B of a comparison. owner: under which the answers of its page are kept."""
    request = comparison.request
    if comparison.is_empty or request is None:
        return NOT_ASKED
    if comparison.is_hidden:
        return FurtherAnswers(is_blind=True, why_none="hidden")
    first, second = (_choice_at(comparison, request, position) for position in POSITIONS)
    dial = dial_of(second.model)
    places = {stop.value: place for place, stop in enumerate(dial.usable_stops)}
    if first.model != second.model or second.level not in places:
        return FurtherAnswers(why_none="not one model")
    others = {
        pane.choice.level: pane
        for pane in kept.find_levels(owner, request, second, comparison.pane_at(1))
        if pane.choice and pane.choice.level in places and pane.choice.level not in (first.level, second.level)
    }
    shown = sorted(list(others)[:MOST_FURTHER], key=lambda level: places[level or ""])
    return FurtherAnswers(
        tuple(_answer_of(comparison, others[level], kept, owner) for level in shown),
        next_stop(dial, second.level, {first.level, second.level, *others}),
        is_busy,
        comparison.blind,
    )


def next_stop(dial: Dial, level: str | None, answered: Collection[str | None]) -> DialStop | None:
    """The next level with fewer bits that has not answered; below the last, the next one with more."""
    stops = dial.usable_stops
    place = next((place for place, stop in enumerate(stops) if stop.value == level), -1)
    in_turn = (*stops[place + 1 :], *reversed(stops[: max(place, 0)]))
    return next((stop for stop in in_turn if stop.value not in answered), None)


def _choice_at(comparison: Comparison, request: CompareRequest, position: int) -> ModelChoice:
    """Of the model that has answered there, or will."""
    pane = comparison.pane_at(position)
    return pane.choice if pane.choice and pane.result else request.choices[comparison.shown_order[position]]


def _answer_of(comparison: Comparison, pane: PaneSession, kept: KeptAnswers, owner: str) -> FurtherAnswer:
    result, file = pane.result, pane.file
    assert result and file and pane.choice and pane.choice.level  # what is kept has answered
    timings, text = result.finished.timings, result.reply.content
    agreement = kept.find_agreement(owner, comparison.pane_at(0), pane)
    prompt = find_comparison_prompt(comparison.question, pane.conversation.system)
    return FurtherAnswer(
        value=pane.choice.level,
        name=file.level,
        text=text,
        bits_per_weight=pane.bits_per_weight,
        requantized_from=file.requantized_from,
        file_bytes=file.size if isinstance(file, ModelFile) else None,
        memory_bytes=result.plan.needed if result.plan else None,
        speed=timings.generation_speed,
        is_disturbed=timings.disturbed,
        is_shared=result.mode == "at once",
        agreement=agreement.top_token_agreement if agreement else None,
        cut_off_at=timings.generated_tokens if result.finished.reason == "length limit" else None,
        checks=check_answer(text, prompt.checks) if prompt else (),
    )
