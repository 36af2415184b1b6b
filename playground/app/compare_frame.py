"""What the Compare tab shows: frames, and the whole of a comparison at rest as one.

Pure functions of a comparison. What happens to it is compare_desk.py's and compare_lab.py's to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from playground.app.compare_state import Comparison, names
from playground.app.compare_view import PLACES, PaneFrame
from playground.app.refusals import error_message
from playground.chat.compare import PaneResult
from playground.errors import PlaygroundError
from playground.limits.runs import Visitor
from playground.web.html.compare import differences_table, hidden_line, pane_head
from playground.web.html.first_difference import parting_card
from playground.web.html.reply import live_line

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
