"""A comparison as its tab keeps it on the server: two sides with their histories, and what is hidden until the vote.

Plain frozen data, because Gradio copies a session's state. A side is left or right as it was chosen; a place is A or B
as it is shown. They are the same thing until a blind round shuffles them. Knows no model and no component.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from typing import Final

from playground.app.model_choice import ModelChoice
from playground.chat.comparison import Mode, Pane, PaneResult, Spread
from playground.chat.conversation import Conversation
from playground.chat.history import HistoryLimits, checked_text
from playground.chat.template.render import Message
from playground.engine.protocol import GREEDY, Finished, Sampling
from playground.engine.remote.protocol import RemoteModel
from playground.errors import RequestRefused
from playground.llama.params import ContextParameters
from playground.measure.votes import Contestant, Pair, Preference, Vote
from playground.models.library import ModelFile

LETTERS: Final = ("A", "B")
USUAL_TOKENS: Final = 128  # of an answer: enough to see what is lost, and a level that babbles soon comes to its end
BALLOT: Final = ("A better", "B better", "Tie", "Both bad")


@dataclass(frozen=True)
class CompareRequest:
    """How the next comparison should be made, as the page holds it."""

    choices: tuple[ModelChoice, ModelChoice]
    system: str = ""
    sampling: Sampling = GREEDY
    max_tokens: int = USUAL_TOKENS
    mode: Mode = "in turn"
    blind: bool = False


@dataclass(frozen=True)
class Side:
    """One model's part: what it was asked and said, and by which model; context None where that is a server's.

    result: of its last reply; ends: the place among the messages of each whole reply, and how it ended.
    """

    conversation: Conversation = field(default_factory=Conversation)
    file: ModelFile | RemoteModel | None = None
    context: ContextParameters | None = None
    result: PaneResult | None = None
    ends: tuple[tuple[int, Finished], ...] = ()

    @property
    def pane(self) -> Pane | None:
        """The side as a comparison takes it; None before a model answers here."""
        return Pane(self.file, self.context, self.conversation) if self.file else None

    @property
    def contestant(self) -> Contestant:
        return Contestant(self.file.base_name, self.file.level) if self.file else Contestant("", "")


@dataclass(frozen=True)
class Comparison:
    """order: which side (0 left, 1 right) stands in place A and which in B."""

    sides: tuple[Side, Side] = (Side(), Side())
    order: tuple[int, int] = (0, 1)
    blind: bool = False
    voted: Preference | None = None
    wish: CompareRequest | None = None  # of the last question
    spread: Spread = field(default_factory=Spread)

    @property
    def is_empty(self) -> bool:
        return not any(side.conversation.messages for side in self.sides)

    @property
    def is_hidden(self) -> bool:
        """Whether the page must not say which is which."""
        return self.blind and self.voted is None

    @property
    def may_vote(self) -> bool:
        return self.is_hidden and all(side.result for side in self.sides)

    @property
    def question(self) -> str:
        messages = self.sides[0].conversation.messages
        return next((message.content for message in reversed(messages) if message.role == "user"), "")

    def at(self, place: int) -> Side:
        """The side that is shown as A (0) or B (1)."""
        return self.sides[self.order[place]]

    def with_place(self, place: int, side: Side) -> Comparison:
        sides = list(self.sides)
        sides[self.order[place]] = side
        return replace(self, sides=(sides[0], sides[1]))

    def asked(self, text: str, wish: CompareRequest, limits: HistoryLimits) -> Comparison:
        """With one more question to both; a blind round is shuffled, and begins with nothing that would give it away.

        Raises RequestRefused for too much or nothing.
        """
        checked_text(text, "The message", limits)
        duel = self
        if wish.blind != self.blind or self.voted is not None:
            duel = self.cleared()
        if wish.blind and duel.is_empty:
            duel = replace(duel, order=((0, 1), (1, 0))[secrets.randbelow(2)])
        sides = [
            replace(side, conversation=replace(side.conversation.ask(text), system=wish.system.strip()), result=None)
            for side in duel.sides
        ]
        if any(len(side.conversation.messages) > limits.messages for side in sides):
            raise RequestRefused("This chat has as many messages as the playground takes.", "Clear it and begin anew.")
        return replace(duel, sides=(sides[0], sides[1]), blind=wish.blind, wish=wish)

    def asked_again(self, place: int, wish: CompareRequest) -> Comparison:
        """One side without its last reply; raises RequestRefused where there is none, or while votes are out."""
        if self.is_hidden:
            raise RequestRefused("Another answer would give it away.", "Vote first.")
        side = self.at(place)
        conversation = replace(side.conversation.without_last_reply(), system=wish.system.strip())
        if not conversation.messages:
            raise RequestRefused("There is no question to answer again.", "Ask something first.")
        ends = tuple(end for end in side.ends if end[0] < len(conversation.messages))
        again = replace(side, conversation=conversation, result=None, ends=ends)
        return replace(self.with_place(place, again), wish=wish)

    def answered(self, place: int, result: PaneResult) -> Comparison:
        side, conversation = self.at(place), result.conversation
        ends = (*side.ends, (len(conversation.messages) - 1, result.finished))
        return self.with_place(place, replace(side, conversation=conversation, result=result, ends=ends))

    def broken_off(self, place: int, message: Message) -> Comparison:
        """With as much of a reply as there is."""
        side = self.at(place)
        if not (message.content or message.thinking):
            return self
        return self.with_place(place, replace(side, conversation=side.conversation.answered(message)))

    def cleared(self) -> Comparison:
        """A new chat; what is known of the spread stays."""
        return Comparison(spread=self.spread)

    def revealed(self) -> Comparison:
        """With the sides where they were chosen, and nothing hidden."""
        return replace(self, order=(0, 1), blind=False, voted=None)

    def vote(self, ballot: str) -> Vote:
        """The vote that a word of `BALLOT` means; raises RequestRefused when there is nothing to vote on."""
        if ballot not in BALLOT:
            raise RequestRefused("That is no vote.", "Choose A, B, tie or both bad.")
        if not self.may_vote:
            raise RequestRefused("There is nothing to vote on.", "Ask both models something with names hidden.")
        shown = [self.at(place).contestant for place in (0, 1)]
        pair = Pair.in_order(*shown)
        first_place = 0 if pair.first == shown[0] else 1
        place = BALLOT.index(ballot)
        preference: Preference = "tie" if ballot == "Tie" else "both bad"
        if place < 2:
            preference = "first" if place == first_place else "second"
        return Vote(pair, preference, "first" if first_place == 0 else "second")


def names(duel: Comparison) -> tuple[str, str]:
    """What places A and B are called: the level where that tells them apart, else with the model's name."""
    first, second = (duel.at(place).file for place in (0, 1))
    if duel.is_hidden:
        return LETTERS
    if first is None or second is None:
        return first.level if first else LETTERS[0], second.level if second else LETTERS[1]
    if first.base_name == second.base_name:
        same = first.level == second.level
        return (f"{first.level} (A)", f"{second.level} (B)") if same else (first.level, second.level)
    return f"{first.display_name} {first.level}", f"{second.display_name} {second.level}"
