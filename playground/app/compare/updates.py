"""The two panes while they work: what the updates of a comparison mean for each, and what is left at the end.

Holds no model and starts nothing. While a round is blind every pane says the same neutral words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from playground.app.compare.comparison import LETTERS, Comparison, names
from playground.app.refusals import error_message
from playground.chat.comparison import PaneResult, PaneUpdate
from playground.chat.template.render import Message
from playground.engine.protocol import Token
from playground.engine.remote.protocol import RemoteModel
from playground.errors import PlaygroundError
from playground.limits.run import StoppedBy
from playground.limits.runs import Visitor
from playground.llama.params import ContextParameters
from playground.models.library import ModelFile
from playground.web.html.compare import differences_table, hidden_line, pane_head, plain_line
from playground.web.html.first_difference import parting_card
from playground.web.html.page import error_card, notice
from playground.web.html.reply import live_line, load_progress

PLACES = (0, 1)


@dataclass(frozen=True)
class PaneFrame:
    """What is new of one pane; None leaves a part as it is. `growing` is the reply so far, shown after the history."""

    head: str | None = None
    history: tuple[Message, ...] | None = None
    growing: Message | None = None
    live: str | None = None
    note: str | None = None


@dataclass
class _Pane:
    growing: Message | None = None
    live: str = ""
    note: str = ""
    token: Token | None = None
    result: PaneResult | None = None
    failed: str = ""
    works: bool = False


class Board:
    """The places that answer now; `duel` is kept up to date with the files that answer."""

    def __init__(self, duel: Comparison, places: Sequence[int]) -> None:
        self.duel = duel
        self.places = tuple(places)
        self.seated: list[int] = []  # the places whose file is ready, in the order of the comparison's panes
        self.stopped_by: StoppedBy = "person"
        self._panes = {place: _Pane(live=self._waiting(place)) for place in places}

    def seat(self, place: int, file: ModelFile | RemoteModel, context: ContextParameters | None) -> None:
        """From now on this model answers here; context None where a server has its own."""
        side = replace(self.duel.at(place), file=file, context=context)
        self.duel = self.duel.with_place(place, side)
        self._panes[place].note = ""
        self.seated.append(place)

    def fail(self, place: int, error: PlaygroundError) -> None:
        """This place does not answer; the other may."""
        self._panes[place].failed = error_card(error)
        self._panes[place].growing = None

    def making(self, place: int, level: str, made_from: str, fraction: float) -> None:
        stage = f"Making {level} from {made_from}, than which it cannot be better" if made_from else f"Making {level}"
        self._panes[place].note = load_progress(fraction, stage)

    def take(self, update: PaneUpdate, waits: str = "") -> None:
        """What an update of a comparison changes; its index counts the places that are seated.

        waits: in words, why a load has not begun.
        """
        place = self.seated[update.pane]
        pane = self._panes[place]
        file = self.duel.at(place).file
        level = file.level if file else LETTERS[place]
        if update.loading is not None and isinstance(file, RemoteModel):
            pane.live = plain_line(f"Asking {file.server}", "waits")
        elif update.loading is not None:
            pane.note = load_progress(None if waits else update.loading, waits or f"Loading {level}")
        elif update.gave_way:
            pane.note = notice(f"{level} gave its memory to the other model; it comes back when it is asked again.")
        elif update.takes_turns:
            pane.note = notice(_TURNS[update.takes_turns])
        elif update.reply is not None:
            reply = update.reply
            pane.works, pane.note = True, ""
            pane.growing = reply.message
            pane.token = reply.last_token or pane.token
            if reply.event:
                pane.live = live_line(reply.event)
        elif update.result is not None:
            pane.result, pane.growing, pane.note = update.result, None, ""
            self.duel = self.duel.answered(place, update.result)
        elif update.failed is not None:
            self.fail(place, update.failed)

    def panes(self) -> tuple[PaneFrame, PaneFrame]:
        """All of the panes that answer; nothing of another."""
        first, second = (self._frame(place) for place in PLACES)
        return first, second

    @property
    def is_finished(self) -> bool:
        """Whether every place that answers now has ended, with an answer or with what went wrong."""
        return all(pane.result or pane.failed for pane in self._panes.values())

    @property
    def failures(self) -> str:
        return "".join(pane.failed for pane in self._panes.values())

    def finished(self) -> Comparison:
        """The comparison with what was written until now; a blind round that broke hides nothing any more."""
        duel = self.duel
        for place, pane in self._panes.items():
            if pane.growing is not None and pane.result is None:
                duel = duel.broken_off(place, pane.growing)
        return duel if not duel.is_hidden or self._all_answered else duel.revealed()

    def last_words(self, panes: tuple[PaneFrame, PaneFrame]) -> tuple[PaneFrame, PaneFrame]:
        """The panes at rest, with how each of those that answered now has ended."""
        first, second = (self._at_the_end(place, pane) for place, pane in zip(PLACES, panes, strict=True))
        return first, second

    @property
    def _all_answered(self) -> bool:
        return all(pane.result for pane in self._panes.values())

    def _at_the_end(self, place: int, frame: PaneFrame) -> PaneFrame:
        pane = self._panes.get(place)
        if pane is None or pane.result is not None or self.duel.is_hidden:
            return frame
        return replace(
            frame, live=live_line(pane.token, stopped=self.stopped_by if pane.works else None), note=pane.failed
        )

    def _frame(self, place: int) -> PaneFrame:
        pane = self._panes.get(place)
        if pane is None:
            return PaneFrame()
        head, history = pane_head(self.duel, place), self.duel.at(place).conversation.messages
        if self.duel.is_hidden:
            asked = history if not pane.result else history[:-1]
            return PaneFrame(head, asked, None, hidden_line(is_writing=True), "")
        live = pane.live
        if pane.result is not None:
            live = live_line(pane.result.finished)
        return PaneFrame(head, history, pane.growing, live, pane.failed or pane.note)

    def _waiting(self, place: int) -> str:
        if len(self.places) == 2 and place == 1 and self.duel.wish and self.duel.wish.mode == "in turn":
            return plain_line(f"Waits until {names(self.duel)[0]} has answered", "waits")
        return plain_line("Getting ready", "waits")


_TURNS = {
    "no room for both": "There is no memory for both at once: they answer in turn.",
    "one model": "Both sides are the same model: it answers in turn.",
}


Phase = Literal["rest", "busy"]
PLACE: Final = "comparison"  # of a page, where one thing at a time goes on


@dataclass(frozen=True)
class CompareUpdate:
    """What is new on the page; None leaves a part as it is."""

    duel: Comparison | None = None
    panes: tuple[PaneFrame, PaneFrame] = (PaneFrame(), PaneFrame())
    phase: Phase | None = None
    problem: str | None = None
    differences: str | None = None
    parting: str | None = None
    control: str | None = None
    agreement: str | None = None
    tally: str | None = None
    is_made: bool = False  # a level is on the disk that was not before


def at_rest(duel: Comparison) -> CompareUpdate:
    """Everything about a comparison at rest."""
    first, second = (_pane_at_rest(duel, place) for place in PLACES)
    return CompareUpdate(
        duel, (first, second), phase="rest", differences=differences_of(duel), parting=_parting_of(duel)
    )


def differences_of(duel: Comparison) -> str:
    """The table of both answers' figures; "" while there are not both, or nobody may know which is whose."""
    both = _both_results(duel)
    return differences_table(names(duel), *both, duel.spread) if both else ""


def refusal(error: PlaygroundError, visitor: Visitor) -> CompareUpdate:
    """Nothing has begun: whatever is under way stays as it is."""
    return CompareUpdate(problem=error_message(error, visitor))


def _parting_of(duel: Comparison) -> str:
    both = _both_results(duel)
    return parting_card(names(duel), *both) if both else ""


def _both_results(duel: Comparison) -> tuple[PaneResult, PaneResult] | None:
    first, second = (duel.at(place).result for place in PLACES)
    return None if duel.is_hidden or first is None or second is None else (first, second)


def _pane_at_rest(duel: Comparison, place: int) -> PaneFrame:
    side = duel.at(place)
    live = hidden_line() if duel.is_hidden else live_line(side.result.finished if side.result else None)
    return PaneFrame(pane_head(duel, place), side.conversation.messages, live=live, note="")
