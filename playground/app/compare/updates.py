"""The updates of a comparison as facts: what each pane shows, and what is known of both answers. web/ draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, Literal

from playground.app.compare.comparison import LETTERS, POSITIONS, Comparison
from playground.app.messages import (
    CLEAR,
    CUT_SHORT_SENTENCES,
    CutShortBy,
    Notice,
    StatusMessage,
    WorkProgress,
    log_refusal,
)
from playground.chat.comparison import (
    ComparisonRow,
    MeasurementNoise,
    Mode,
    Pane,
    PaneResult,
    PaneUpdate,
    TurnsReason,
    comparison_table,
)
from playground.chat.first_difference import FirstDifference, NoDifference, first_difference, why_no_difference
from playground.chat.template.render import Message
from playground.engine.protocol import Event, Token
from playground.engine.remote.protocol import RemoteModel
from playground.errors import PlaygroundError
from playground.limits.run import StoppedBy
from playground.limits.runs import Visitor
from playground.llama.params import ContextParameters
from playground.measure.fidelity import Fidelity
from playground.measure.votes import Pair, Tally
from playground.models.model_file import ModelFile

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

    name: of its model, "" before one is chosen. is_hidden: the page must not show the name or any figure; is_busy:
    whether it still works. was_hidden: the name was hidden until a vote. history: the messages; growing: the reply so
    far, after them. activity: what the model does or how its reply ended; stopped_by: who ended it before its end.
    """

    name: str
    requantized_from: str | None = None
    is_hidden: bool = False
    was_hidden: bool = False
    is_busy: bool = False
    history: tuple[Message, ...] = ()
    growing: Message | None = None
    activity: PanePreparing | Event | None = None
    stopped_by: CutShortBy | None = None
    note: StatusMessage = CLEAR


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
class NoiseResult:
    """One model asked the same question twice. is_identical: both answers have the same tokens."""

    name: str
    is_identical: bool
    table: tuple[ComparisonRow, ...]
    noise: MeasurementNoise


@dataclass(frozen=True)
class AgreementResult:
    """How probable B finds each token of A's answer."""

    names: tuple[str, str]
    fidelity: Fidelity
    is_same_model: bool  # both are levels of one model


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
    noise: NoiseResult | StatusMessage | None = None
    agreement: AgreementResult | StatusMessage | None = None
    tallies: VoteTallies | PlaygroundError | None = None
    has_new_level: bool = False  # a level was made, so there is a new file on the disk

    def after(self, earlier: CompareUpdate) -> CompareUpdate:
        """Both as one update: what is new here, else what was new before."""
        news = {part.name: value for part in fields(self) if (value := getattr(self, part.name)) is not None}
        first, second = (new or old for new, old in zip(self.panes, earlier.panes, strict=True))
        is_new_level = self.has_new_level or earlier.has_new_level
        return replace(earlier, **news | {"panes": (first, second), "has_new_level": is_new_level})

    @property
    def size(self) -> int:
        """Of the texts in it, in characters, and of the tokens of the answers, which weigh about 100 each."""
        panes = self.comparison.panes if self.comparison else ()
        messages = [message for pane in panes for message in pane.conversation.messages]
        tokens = sum(len(pane.result.tokens) for pane in panes if pane.result)
        return sum(len(message.content) + len(message.thinking) for message in messages) + 100 * tokens


def refused_update(error: PlaygroundError, visitor: Visitor) -> CompareUpdate:
    """A request that was not carried out: it is logged, and what is under way stays as it is."""
    log_refusal(error, visitor)
    return CompareUpdate(problem=error)


# --- a comparison at rest ---


def update_at_rest(comparison: Comparison) -> CompareUpdate:
    """Everything about a comparison in which nothing is under way."""
    first, second = (state_at_rest(comparison, position) for position in POSITIONS)
    return CompareUpdate(comparison, (first, second), "rest", answers=compare_answers(comparison) or CLEAR)


def state_at_rest(comparison: Comparison, position: int) -> PaneState:
    pane = comparison.pane_at(position)
    file = pane.file
    return PaneState(
        name=comparison.names[position] if file and not comparison.is_hidden else "",
        requantized_from=file.requantized_from if file and not comparison.is_hidden else None,
        is_hidden=comparison.is_hidden,
        was_hidden=comparison.blind and not comparison.is_hidden,
        history=pane.conversation.messages,
        activity=pane.result.finished if pane.result and not comparison.is_hidden else None,
    )


def compare_answers(comparison: Comparison) -> ComparedAnswers | None:
    """None until both have answered, and while nobody may know which answer is whose."""
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


# --- a comparison that runs ---


@dataclass
class _PaneProgress:
    activity: PanePreparing | Event | None
    growing: Message | None = None
    note: StatusMessage = CLEAR
    last_token: Token | None = None
    has_begun: bool = False
    result: PaneResult | None = None
    failure: PlaygroundError | None = None

    @property
    def has_ended(self) -> bool:
        return self.result is not None or self.failure is not None


class RunningPanes:
    """The panes that answer now. Applies the updates of `compare` to the comparison and to what each pane shows."""

    def __init__(self, comparison: Comparison, positions: Sequence[int]) -> None:
        self.comparison = comparison
        self._progress = {position: _PaneProgress(self._first_activity(position, positions)) for position in positions}
        self._ready: list[int] = []  # positions, in the order of `ready_panes`

    def set_model(self, position: int, file: ModelFile | RemoteModel, context: ContextParameters | None) -> None:
        """This model answers here. context: None for a server's model."""
        pane = replace(self.comparison.pane_at(position), file=file, context=context)
        self.comparison = self.comparison.with_pane_at(position, pane)
        self._progress[position].note = CLEAR
        self._ready.append(position)

    def set_note(self, position: int, note: StatusMessage) -> None:
        self._progress[position].note = note

    def set_failure(self, position: int, error: PlaygroundError) -> None:
        """This pane does not answer, or no further; the other one may."""
        self._progress[position].failure = error

    def apply_update(self, update: PaneUpdate, waiting: str = "") -> None:
        """waiting: why a load has not begun, in words."""
        position = self._ready[update.pane]
        progress = self._progress[position]
        file = self.comparison.pane_at(position).file
        level = file.level if file else LETTERS[position]
        if update.loading is not None and isinstance(file, RemoteModel):
            progress.activity = PanePreparing(server=file.server)
        elif update.loading is not None:
            progress.note = WorkProgress(waiting or f"Loading {level}", None if waiting else update.loading)
        elif update.unloaded:
            progress.note = Notice(f"{level} was unloaded to make room for the other model. It is loaded when needed.")
        elif update.takes_turns:
            progress.note = Notice(_WHY_IN_TURN[update.takes_turns])
        elif update.reply is not None:
            progress.has_begun, progress.note = True, CLEAR
            progress.growing = update.reply.message
            progress.last_token = update.reply.last_token or progress.last_token
            progress.activity = update.reply.event or progress.activity
        elif update.result is not None:
            progress.result, progress.growing = update.result, None
            remarks = update.result.remarks
            progress.note = Notice(remarks, "warning") if remarks else CLEAR
            self.comparison = self.comparison.with_result(position, update.result)
        elif update.failed is not None:
            self.set_failure(position, update.failed)

    @property
    def states(self) -> tuple[PaneState | None, PaneState | None]:
        """What the running panes show; None for a pane that does not answer now."""
        first, second = (
            self._state(position, self._progress[position]) if position in self._progress else None
            for position in POSITIONS
        )
        return first, second

    @property
    def ready_panes(self) -> list[Pane]:
        """The panes whose model is ready, in the order to which the index of a PaneUpdate refers."""
        return [pane for position in self._ready if (pane := self.comparison.pane_at(position).pane)]

    @property
    def all_ended(self) -> bool:
        """Whether every running pane has ended, with an answer or with an error."""
        return all(progress.has_ended for progress in self._progress.values())

    def final_update(self, stopped_by: StoppedBy, problem: PlaygroundError | None = None) -> CompareUpdate:
        """The comparison with what was written until now, and how each pane ended.

        problem: what ended all of it, if its visitor did not.

        A blind comparison in which a pane has no answer is revealed, because nobody can vote on it.
        """
        comparison = self.comparison
        for position, progress in self._progress.items():
            if progress.growing is not None and progress.result is None:
                failure = progress.failure or problem
                why = str(failure) if failure else CUT_SHORT_SENTENCES[stopped_by]
                comparison = comparison.with_partial_reply(position, progress.growing, why)
        if comparison.is_hidden and not all(progress.result for progress in self._progress.values()):
            comparison = comparison.revealed()
        update = update_at_rest(comparison)
        states = list(update.panes)
        for position, progress in self._progress.items():
            shown_at = comparison.shown_order.index(self.comparison.shown_order[position])
            state = states[shown_at]
            if progress.result or state is None:
                continue
            ended_by: CutShortBy = stopped_by
            if progress.failure:
                ended_by = "failure"
                state = replace(state, note=progress.failure)
            if progress.has_begun:
                state = replace(state, activity=progress.last_token, stopped_by=ended_by)
            states[shown_at] = state
        return replace(update, panes=(states[0], states[1]))

    def _state(self, position: int, progress: _PaneProgress) -> PaneState:
        state = replace(state_at_rest(self.comparison, position), is_busy=not progress.has_ended)
        if state.is_hidden:  # the answer appears when both have ended: its speed would show which model it is
            history = state.history[:-1] if progress.result else state.history
            return replace(state, history=history, is_busy=True)
        if progress.failure:
            ended_by: CutShortBy | None = "failure" if progress.has_begun else None
            state = replace(state, activity=progress.last_token, stopped_by=ended_by)
            return replace(state, growing=progress.growing, note=progress.failure)
        activity = progress.result.finished if progress.result else progress.activity
        return replace(state, growing=progress.growing, activity=activity, note=progress.note)

    def _first_activity(self, position: int, positions: Sequence[int]) -> PanePreparing:
        request = self.comparison.request
        is_second = len(positions) == 2 and position == positions[1]
        if is_second and request and request.mode == "in turn":
            return PanePreparing(after=self.comparison.names[0])
        return PanePreparing()


_WHY_IN_TURN: Final[dict[TurnsReason, str]] = {
    "no room for both": "The two do not fit in memory together, so they answer one after the other.",
    "one model": "Both panes use the same model, so they answer one after the other.",
}
