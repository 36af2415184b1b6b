"""The panes that answer now: runs them, and applies their updates to the comparison and to what each pane shows."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from playground.app.compare.comparison import LETTERS, POSITIONS, CompareRequest, Comparison, PaneSession
from playground.app.compare.updates import CompareUpdate, PanePreparing, PaneState, state_at_rest, update_at_rest
from playground.app.messages import CLEAR, CUT_SHORT_SENTENCES, CutShortBy, Notice, StatusMessage, WorkProgress
from playground.app.model_picker.choice import ModelChoice
from playground.app.services import Services
from playground.chat.compare import compare
from playground.chat.comparison import Mode, Pane, PaneResult, PaneUpdate, TurnsReason
from playground.chat.template.message import Message
from playground.engine.protocol import Event, Token
from playground.engine.remote.protocol import RemoteModel
from playground.errors import PlaygroundError
from playground.limits.run import Run, StoppedBy
from playground.llama.params import ContextParameters
from playground.models.model_file import ModelFile


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


def run_panes(
    services: Services, panes: Sequence[Pane], request: CompareRequest, run: Run, mode: Mode
) -> Generator[PaneUpdate, None, None]:
    """The updates of the panes' answers, which end with the run."""
    updates = compare(
        services.pool,
        services.planner,
        panes,
        request.sampling,
        request.max_tokens,
        mode=mode,
        interval_seconds=1 / services.settings.updates_per_second,
        remotes=services.remotes,
        visitor=run.visitor,
    )
    run.close_if_abandoned(updates)
    return updates


class RunningPanes:
    """The panes that answer now. Applies the updates of `compare` to the comparison and to what each pane shows."""

    def __init__(self, comparison: Comparison, positions: Sequence[int]) -> None:
        self.comparison = comparison
        self._progress = {
            position: _PaneProgress(self._first_activity(position, positions), _reply_so_far(comparison, position))
            for position in positions
        }
        self._ready: list[int] = []  # positions, in the order of `ready_panes`

    def set_model(
        self,
        position: int,
        file: ModelFile | RemoteModel,
        context: ContextParameters | None,
        choice: ModelChoice | None = None,
        bits_per_weight: float | None = None,
    ) -> None:
        """This model, found by that choice, answers here. context: None for a server's model."""
        pane = replace(
            self.comparison.pane_at(position),
            file=file,
            context=context,
            choice=choice,
            bits_per_weight=bits_per_weight,
        )
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

    def pane_of(self, update: PaneUpdate) -> PaneSession:
        """The pane that an update is about, as the comparison has it now."""
        return self.comparison.pane_at(self._ready[update.pane])

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
            going_on = comparison.pane_at(position).going_on
            if going_on and progress.result is None and progress.growing in (None, going_on.reply):
                comparison = comparison.with_result(position, going_on)  # nothing was added to it
            elif progress.growing is not None and progress.result is None:
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
        # Busy until all have ended: what is asked of one pane ends the other's answer.
        state = replace(state_at_rest(self.comparison, position), is_busy=True)
        if state.is_hidden:  # the answer appears when both have ended: its speed would show which model it is
            history = state.history[:-1] if progress.result else state.history
            return replace(state, history=history)
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


def _reply_so_far(comparison: Comparison, position: int) -> Message | None:
    """What is there of an answer that goes on."""
    going_on = comparison.pane_at(position).going_on
    return going_on.reply if going_on else None


_WHY_IN_TURN: Final[dict[TurnsReason, str]] = {
    "no room for both": "The two do not fit in memory together, so they answer one after the other.",
    "one model": "Both panes use the same model, so they answer one after the other.",
}
