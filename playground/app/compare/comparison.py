"""A comparison as the page's session keeps it: two panes with their conversations, and what a blind vote hides.

Two ways to count the panes: `panes` holds them as they were chosen (0 left, 1 right); a `position` says where a pane is
shown (0 as A, 1 as B). They differ only while a blind comparison has swapped the panes. Frozen data, because Gradio
copies a session's state.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field, replace
from typing import Final

from playground.app.model_picker.choice import ModelChoice
from playground.chat.comparison import MeasurementNoise, Mode, Pane, PaneResult
from playground.chat.conversation import Conversation
from playground.chat.history import HistoryLimits, checked_text
from playground.chat.saved_chat import growing_text, read_growing_reply
from playground.chat.template.message import Message
from playground.chat.template.thinking import AS_IT_LIKES
from playground.engine.protocol import Finished
from playground.engine.remote.protocol import RemoteModel
from playground.errors import RequestRefused
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY, Sampling
from playground.measure.votes import BALLOT_WORDS, Contestant, Preference, Vote, read_ballot
from playground.models.model_file import ModelFile

POSITIONS: Final = (0, 1)
LETTERS: Final = ("A", "B")  # by position
USUAL_TOKENS: Final = 128  # of an answer: enough to see what is lost, and a level that babbles ends soon
BALLOT: Final = BALLOT_WORDS
_SEPARATOR: Final = "\x1d"  # GROUP SEPARATOR


@dataclass(frozen=True)
class CompareRequest:
    """How the next comparison should be made. choices: of the left and the right picker.

    follows_up: whether a question goes on from the questions and answers before it.
    """

    choices: tuple[ModelChoice, ModelChoice]
    system: str = ""
    sampling: Sampling = GREEDY
    max_tokens: int = USUAL_TOKENS
    mode: Mode = "in turn"
    blind: bool = False
    follows_up: bool = True


@dataclass(frozen=True)
class PaneSession:
    """One pane of the page: its conversation and the model that answered last.

    file: None before a model has answered; context: None for a server's model. choice: that the file was found by.
    bits_per_weight: of the file, measured. result: of the last reply. going_on: of one that goes on. finished: for each
    whole reply, its index among the messages and how it ended. cut_short: for each other reply, its index and why it
    has no end, in a sentence.
    """

    conversation: Conversation = field(default_factory=Conversation)
    file: ModelFile | RemoteModel | None = None
    context: ContextParameters | None = None
    choice: ModelChoice | None = None
    bits_per_weight: float | None = None
    result: PaneResult | None = None
    going_on: PaneResult | None = None
    finished: tuple[tuple[int, Finished], ...] = ()
    cut_short: tuple[tuple[int, str], ...] = ()

    @property
    def pane(self) -> Pane | None:
        """What `compare` runs; None before a model is chosen."""
        if self.file is None:
            return None
        thinking = self.choice.thinking if self.choice else AS_IT_LIKES
        return Pane(self.file, self.context, self.conversation, thinking, self.going_on)

    @property
    def question(self) -> Conversation:
        """The conversation up to and including the last question."""
        return self.conversation.without_last_reply()

    def asked(self, conversation: Conversation, system: str) -> PaneSession:
        """Before the answer to the last question of the conversation."""
        return replace(self, conversation=replace(conversation, system=system), result=None, going_on=None)

    @property
    def contestant(self) -> Contestant:
        return Contestant(self.file.base_name, self.file.level) if self.file else Contestant("", "")


@dataclass(frozen=True)
class Comparison:
    """shown_order: the index in `panes` of the pane that is shown as A, and of the one shown as B.

    request: of the last question. noise: survives "Clear", because it is a property of the computer; so do the guesses
    of which side has fewer bits: how many were right, and how many there were. replaced: the comparison before it was
    cleared, until the next question. kept_vote: as it is in the store, None if it could not be kept;
    guessed_right: whether the guess that came with the vote was, None if there was none.
    """

    panes: tuple[PaneSession, PaneSession] = (PaneSession(), PaneSession())
    shown_order: tuple[int, int] = (0, 1)
    blind: bool = False
    voted: Preference | None = None
    kept_vote: Vote | None = None
    guessed_right: bool | None = None
    request: CompareRequest | None = None
    noise: MeasurementNoise = field(default_factory=MeasurementNoise)
    replaced: Comparison | None = None
    guesses: tuple[int, int] = (0, 0)

    @property
    def is_empty(self) -> bool:
        return not any(pane.conversation.messages for pane in self.panes)

    @property
    def is_hidden(self) -> bool:
        """Whether the page must not say which model is which."""
        return self.blind and self.voted is None

    @property
    def may_vote(self) -> bool:
        return self.is_hidden and all(pane.result for pane in self.panes)

    @property
    def question(self) -> str:
        """The last question, "" before the first."""
        messages = self.panes[0].conversation.messages
        return next((message.content for message in reversed(messages) if message.role == "user"), "")

    @property
    def results(self) -> tuple[PaneResult, PaneResult] | None:
        """Of A and B; None while one is missing, or while their names are hidden."""
        first, second = (self.pane_at(position).result for position in POSITIONS)
        return None if self.is_hidden or first is None or second is None else (first, second)

    @property
    def names(self) -> tuple[str, str]:
        """What A and B are called: their levels if that tells them apart, else with the model's name."""
        if self.is_hidden:
            return LETTERS
        first, second = (self.pane_at(position).file for position in POSITIONS)
        if first is None or second is None:
            return first.level if first else LETTERS[0], second.level if second else LETTERS[1]
        if first.base_name != second.base_name:
            return f"{first.display_name} {first.level}", f"{second.display_name} {second.level}"
        if first.level == second.level:
            return f"{first.level} (A)", f"{second.level} (B)"
        return first.level, second.level

    def pane_at(self, position: int) -> PaneSession:
        """The pane that is shown as A (0) or B (1)."""
        return self.panes[self.shown_order[position]]

    def with_pane_at(self, position: int, pane: PaneSession) -> Comparison:
        panes = list(self.panes)
        panes[self.shown_order[position]] = pane
        return replace(self, panes=(panes[0], panes[1]))

    def to_stored_text(self) -> str:
        """The texts for the browser to keep, as they are shown; "" if there are none."""
        panes = [self.pane_at(position).conversation.to_json() for position in POSITIONS]
        return "" if self.is_empty else json.dumps({"panes": panes})

    # --- what happens to it; each returns a new comparison ---

    def with_question(self, text: str, request: CompareRequest, limits: HistoryLimits) -> Comparison:
        """One more question to both panes.

        A blind comparison starts empty, so that no earlier answer gives it away, and in random order. Raises
        RequestRefused for an empty or too long text and for too many messages.
        """
        checked_text(text, "The message", limits)
        comparison = self
        if request.blind != self.blind or self.voted is not None or not request.follows_up:
            comparison = self.cleared()
        if request.blind and comparison.is_empty:
            comparison = replace(comparison, shown_order=((0, 1), (1, 0))[secrets.randbelow(2)])
        system = request.system.strip()
        left, right = (pane.asked(pane.conversation.with_question(text), system) for pane in comparison.panes)
        if any(len(pane.conversation.messages) > limits.messages for pane in (left, right)):
            raise RequestRefused("This chat has reached the maximum number of messages.", "Clear it to start again.")
        return replace(comparison, panes=(left, right), blind=request.blind, request=request, replaced=None)

    def without_reply_at(self, position: int, request: CompareRequest) -> Comparison:
        """One pane without its last reply, for another one. Raises RequestRefused before a question or a vote."""
        if self.is_hidden:
            raise RequestRefused("Another answer would show which model is which.", "Vote first.")
        pane = self.pane_at(position)
        conversation = replace(pane.conversation.without_last_reply(), system=request.system.strip())
        if not conversation.messages:
            raise RequestRefused("There is no question to answer again.", "Ask something first.")
        finished = tuple(end for end in pane.finished if end[0] < len(conversation.messages))
        cut_short = tuple(end for end in pane.cut_short if end[0] < len(conversation.messages))
        again = replace(
            pane, conversation=conversation, result=None, going_on=None, finished=finished, cut_short=cut_short
        )
        return replace(self.with_pane_at(position, again), request=request)

    def with_going_on(self, position: int, request: CompareRequest) -> Comparison:
        """One pane whose last answer goes on. Raises RequestRefused if there is none that was cut off."""
        result = self.pane_at(position).result
        if result is None:
            raise RequestRefused("There is no answer to continue.", "Ask something first.")
        again = self.without_reply_at(position, request)
        return again.with_pane_at(position, replace(again.pane_at(position), going_on=result))

    def with_levels(self, request: CompareRequest) -> tuple[Comparison, tuple[int, ...]]:
        """The same question to the models that are chosen now, and the positions whose answer is not there any more."""
        comparison, missing = replace(self, request=request), []
        for position in POSITIONS:
            pane, choice = self.pane_at(position), request.choices[self.shown_order[position]]
            if pane.choice == choice and pane.result:
                continue
            missing.append(position)
            comparison = comparison.with_pane_at(position, PaneSession(pane.question))
        return comparison, tuple(missing)

    def with_result(self, position: int, result: PaneResult) -> Comparison:
        pane, conversation = self.pane_at(position), result.conversation
        finished = (*pane.finished, (len(conversation.messages) - 1, result.finished))
        return self.with_pane_at(
            position, replace(pane, conversation=conversation, result=result, going_on=None, finished=finished)
        )

    def with_partial_reply(self, position: int, message: Message, why: str) -> Comparison:
        """Keeps what was written of a reply that did not finish, and why it did not; nothing if it is empty."""
        pane = self.pane_at(position)
        if not (message.content or message.thinking):
            return self
        conversation = pane.conversation.with_reply(message)
        cut_short = (*pane.cut_short, (len(conversation.messages) - 1, why))
        return self.with_pane_at(position, replace(pane, conversation=conversation, cut_short=cut_short))

    def cleared(self) -> Comparison:
        """A new comparison."""
        return Comparison(noise=self.noise, guesses=self.guesses)

    def cleared_for_now(self) -> Comparison:
        """A new comparison, from which one can go back to this one."""
        return self if self.is_empty else replace(self.cleared(), replaced=self)

    def revealed(self) -> Comparison:
        """With nothing hidden, and both panes where they were chosen."""
        return replace(self, shown_order=(0, 1), blind=False, voted=None, kept_vote=None, guessed_right=None)

    def with_guess(self, is_right: bool) -> Comparison:
        """One more guess of which side has fewer bits."""
        right, made = self.guesses
        return replace(self, guesses=(right + is_right, made + 1), guessed_right=is_right)

    def without_vote(self) -> Comparison:
        """As it was before the vote. Raises RequestRefused if there is no vote, or an answer has gone since."""
        if self.voted is None or not all(pane.result for pane in self.panes):
            raise RequestRefused("There is no vote to take back.", "Ask both models something with names hidden.")
        right, made = self.guesses
        if self.guessed_right is not None:
            right, made = right - self.guessed_right, made - 1
        return replace(self, voted=None, kept_vote=None, guesses=(right, made), guessed_right=None)

    def read_vote(self, word: str) -> Vote:
        """The vote that a word of `BALLOT` means; raises RequestRefused if there is nothing to vote on."""
        if not self.may_vote:
            raise RequestRefused("There is nothing to vote on.", "Ask both models something with names hidden.")
        return read_ballot(word, (self.pane_at(0).contestant, self.pane_at(1).contestant))


def growing_answers(first: Message | None, second: Message | None) -> str:
    """The parts of both answers that are there, for a browser's tab to keep; None for an answer that has not begun."""
    return _SEPARATOR.join(growing_text(message) if message else "" for message in (first, second))


def read_stored_comparison(text: str, growing: str, limits: HistoryLimits) -> Comparison:
    """What `Comparison.to_stored_text` and `growing_answers` wrote, without models; empty if it cannot be read."""
    if not text or len(text) > 16 * limits.all_characters:
        return Comparison()
    try:
        first, second = (Conversation.from_untrusted(pane, limits) for pane in json.loads(text)["panes"])
    except (ValueError, TypeError, KeyError, RecursionError, RequestRefused):
        return Comparison()
    left, _, right = growing.partition(_SEPARATOR)
    panes = _with_growth(first, left, limits), _with_growth(second, right, limits)
    return Comparison(panes)


def _with_growth(conversation: Conversation, growing: str, limits: HistoryLimits) -> PaneSession:
    """A pane with the part of its answer that was kept."""
    message = read_growing_reply(growing, limits)
    is_waiting = bool(conversation.messages) and conversation.messages[-1].role == "user"
    if is_waiting and (message.content or message.thinking):
        conversation = conversation.with_reply(message)
    return PaneSession(conversation)
