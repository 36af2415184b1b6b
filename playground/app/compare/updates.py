"""The updates of a comparison as facts: what each pane shows, and what is known of both answers. web/ draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, Literal

from playground.app.compare.answer_tokens import AnswerToken, answer_tokens
from playground.app.compare.comparison import POSITIONS, Comparison
from playground.app.compare.further_answers import FurtherAnswers
from playground.app.compare.result import ResultFacts
from playground.app.messages import CLEAR, CutShortBy, Notice, StatusMessage, log_refusal
from playground.chat.answer_checks import CheckResult, check_answer
from playground.chat.comparison import (
    ComparisonRow,
    MeasurementNoise,
    Mode,
    PaneResult,
    comparison_table,
)
from playground.chat.first_difference import FirstDifference, NoDifference, first_difference, why_no_difference
from playground.chat.prompts import find_comparison_prompt
from playground.chat.template.message import Message
from playground.engine.protocol import Event, Finished
from playground.errors import PlaygroundError
from playground.limits.visitor import Visitor
from playground.measure.fidelity import Fidelity
from playground.measure.votes import Pair, Tally

Phase = Literal["rest", "busy"]
PLACE: Final = "comparison"  # of a page, where one thing at a time goes on


# --- what is yielded ---


@dataclass(frozen=True)
class PanePreparing:
    """A pane before its answer. after: the name of the pane that answers first; server: the server that is asked."""

    after: str = ""
    server: str = ""


@dataclass(frozen=True)
class PaneState:
    """Everything that one pane shows.

    name: of its model, "" before one is chosen; bits_per_weight: of its file. is_hidden: the page must not show the
    name or any figure; is_busy: whether either pane still works. was_hidden: the name was hidden until a vote.
    history: the messages; growing: the reply so far, after them. tokens: of the whole answer, once both have answered.
    checks: what a program checked of it. activity: what the model does or how its reply ended; stopped_by: who ended it
    early.
    """

    name: str
    bits_per_weight: float | None = None
    requantized_from: str | None = None
    is_hidden: bool = False
    was_hidden: bool = False
    is_busy: bool = False
    history: tuple[Message, ...] = ()
    growing: Message | None = None
    tokens: tuple[AnswerToken, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    activity: PanePreparing | Event | None = None
    stopped_by: CutShortBy | None = None
    note: StatusMessage = CLEAR

    @property
    def answer(self) -> Message | None:
        """What is written of the answer to the last question; None before its first word."""
        if self.growing is not None:
            return self.growing
        return self.history[-1] if self.history and self.history[-1].role == "assistant" else None

    @property
    def is_cut_off(self) -> bool:
        """Whether the answer reached its length limit, so that it could go on."""
        return isinstance(self.activity, Finished) and self.activity.reason == "length limit"


@dataclass(frozen=True)
class ComparedAnswers:
    """What the answers of A and B differ in.

    shared: what both used at the same time, so that speeds are not compared; None if nothing. by_text: tokens were
    compared by text, because a server answered. is_random: the temperature was above 0.
    """

    names: tuple[str, str]
    table: tuple[ComparisonRow, ...]
    noise: MeasurementNoise
    first_difference: FirstDifference | NoDifference
    shared: Literal["cores", "server"] | None
    by_text: bool
    is_random: bool


@dataclass(frozen=True)
class VoteTallies:
    """The votes by pair of models. current: the pair on the page; warning: a sentence about a damaged file, or ""."""

    tallies: tuple[Tally, ...]
    current: Pair | None = None
    warning: str = ""


@dataclass(frozen=True)
class CompareOutlook:
    """What to expect of a comparison before it runs.

    residency: None if it is not known. to_make: levels that have to be made first. has_server: a server answers.
    """

    mode: Mode
    residency: Literal["together", "one after the other"] | None = None
    to_make: tuple[str, ...] = ()
    has_server: bool = False


@dataclass(frozen=True)
class CompareUpdate:
    """What is new. None leaves a part of the page as it is, CLEAR empties it; `panes` are those shown as A and B."""

    comparison: Comparison | None = None
    panes: tuple[PaneState | None, PaneState | None] = (None, None)
    phase: Phase | None = None
    problem: StatusMessage | None = None
    answers: ComparedAnswers | Notice | None = None
    result: ResultFacts | None = None
    further: FurtherAnswers | None = None
    reveal: str = ""  # after a blind vote, which model was preferred, in a sentence
    tallies: VoteTallies | PlaygroundError | None = None
    has_new_level: bool = False  # a level was made, so there is a new file on the disk

    def after(self, earlier: CompareUpdate) -> CompareUpdate:
        """Both as one update: what is new here, else what was new before."""
        news = {part.name: value for part in fields(self) if (value := getattr(self, part.name)) is not None}
        news |= {"reveal": self.reveal or earlier.reveal}
        first, second = (new or old for new, old in zip(self.panes, earlier.panes, strict=True))
        is_new_level = self.has_new_level or earlier.has_new_level
        return replace(earlier, **news | {"panes": (first, second), "has_new_level": is_new_level})

    @property
    def size(self) -> int:
        """Of the texts in it, in characters, and of the tokens of the answers, which weigh about 100 each."""
        panes = self.comparison.panes if self.comparison else ()
        messages = [message for pane in panes for message in pane.conversation.messages]
        tokens = sum(len(pane.result.tokens) for pane in panes if pane.result)
        further = sum(len(one.text) for one in self.further.answers) if self.further else 0
        return sum(len(message.content) + len(message.thinking) for message in messages) + 100 * tokens + further


def refused_update(error: PlaygroundError, visitor: Visitor) -> CompareUpdate:
    """A request that was not carried out: it is logged, and what is under way stays as it is."""
    log_refusal(error, visitor)
    return CompareUpdate(problem=error)


# --- a comparison at rest ---


def update_at_rest(comparison: Comparison, fidelity: Fidelity | None = None) -> CompareUpdate:
    """Everything about a comparison in which nothing is under way. fidelity: how far B agrees, if it was measured."""
    return CompareUpdate(
        comparison, marked_states(comparison, fidelity), "rest", answers=compare_answers(comparison) or CLEAR
    )


def marked_states(comparison: Comparison, fidelity: Fidelity | None = None) -> tuple[PaneState, PaneState]:
    """Both panes at rest, with the tokens of their answers and what a program checked of them."""
    first, second = (state_at_rest(comparison, position) for position in POSITIONS)
    if comparison.is_hidden:
        return first, second
    tokens_a, tokens_b = answer_tokens(comparison, fidelity)
    checks_a, checks_b = (checks_of(comparison, position) for position in POSITIONS)
    return replace(first, tokens=tokens_a, checks=checks_a), replace(second, tokens=tokens_b, checks=checks_b)


def checks_of(comparison: Comparison, position: int) -> tuple[CheckResult, ...]:
    """What a program checked of an answer; empty for a question of the visitor's own, and before the answer."""
    pane = comparison.pane_at(position)
    prompt = find_comparison_prompt(comparison.question, pane.conversation.system)
    if prompt is None or pane.result is None:
        return ()
    return check_answer(pane.result.conversation.messages[-1].content, prompt.checks)


def state_at_rest(comparison: Comparison, position: int) -> PaneState:
    pane = comparison.pane_at(position)
    file = pane.file
    return PaneState(
        name=comparison.names[position] if file and not comparison.is_hidden else "",
        bits_per_weight=None if comparison.is_hidden else pane.bits_per_weight,
        requantized_from=file.requantized_from if file and not comparison.is_hidden else None,
        is_hidden=comparison.is_hidden,
        was_hidden=comparison.blind and not comparison.is_hidden,
        history=pane.conversation.messages,
        activity=pane.result.finished if pane.result and not comparison.is_hidden else None,
    )


def compare_answers(comparison: Comparison) -> ComparedAnswers | None:
    """None until both have answered, and while their names are hidden."""
    results = comparison.results
    if results is None:
        return None
    return ComparedAnswers(
        names=comparison.names,
        table=comparison_table(results, comparison.noise),
        noise=comparison.noise,
        first_difference=first_difference(*results) or why_no_difference(*results),
        shared=_shared(results),
        by_text=any(result.is_remote for result in results),
        is_random=any(result.sampling.temperature > 0 for result in results),
    )


def _shared(results: Sequence[PaneResult]) -> Literal["cores", "server"] | None:
    if not any(result.mode == "at once" for result in results):
        return None
    return "server" if all(result.is_remote for result in results) else "cores"
