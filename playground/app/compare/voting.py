"""Blind votes: keeps a vote, shows the names, and says what was preferred until now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from playground.app.compare.comparison import BALLOT, LETTERS, POSITIONS, Comparison
from playground.app.compare.measurements import ComparisonMeasurements
from playground.app.compare.setup import CompareSetup
from playground.app.compare.updates import CompareUpdate, VoteTallies, refused_update
from playground.app.messages import CLEAR, Notice, StatusMessage, log_refusal
from playground.errors import PlaygroundError
from playground.limits.runs import Runs
from playground.limits.visitor import Visitor
from playground.measure.votes import Pair, VoteStore
from playground.models.model_file import ModelFile

_TAKEN_BACK: Final = "Your vote was taken back and does not count. Vote as you meant to."


class BlindVoting:
    """Serves the votes of all visitors. forget_reply: by a page's key, so that a reload does not find it again."""

    def __init__(
        self,
        store: VoteStore,
        runs: Runs,
        setup: CompareSetup,
        measurements: ComparisonMeasurements,
        forget_reply: Callable[[str], None],
    ) -> None:
        self._store, self._runs, self._setup, self._measurements = store, runs, setup, measurements
        self._forget_reply = forget_reply

    def cast_vote(
        self, visitor: Visitor, comparison: Comparison, word: str, key: str = "", guess: str = ""
    ) -> CompareUpdate:
        """Keep the vote and show the names; they also show if the vote cannot be kept.

        guess: "A" or "B", the side that was thought to have fewer bits; anything else for none.
        """
        self._forget_reply(key)  # or a reload would bring the names back hidden, for a second vote
        try:
            vote = comparison.read_vote(word)
        except PlaygroundError as error:
            return refused_update(error, visitor)
        problem: StatusMessage = CLEAR
        kept = None
        try:
            self._runs.add_result(visitor)
            self._store.add_vote(vote)
            kept = vote
        except PlaygroundError as error:
            log_refusal(error, visitor)
            problem = error
        voted = replace(comparison, voted=vote.preference, kept_vote=kept)
        bits = [self._setup.bits_per_weight(file) if (file := voted.pane_at(p).file) else None for p in POSITIONS]
        voted, guessed = judged_guess(voted, guess, bits)
        tallies = self.read_tallies(voted)
        update = self._measurements.at_rest(voted, key or visitor.session)
        reveal = " ".join(filter(None, (reveal_sentence(voted, word, tallies), guessed)))
        return replace(update, problem=problem, tallies=tallies, reveal=reveal)

    def take_back_vote(self, visitor: Visitor, comparison: Comparison, key: str = "") -> CompareUpdate:
        """The last vote does not count any more, and both answers can be voted on again, with their names hidden."""
        try:
            hidden = comparison.without_vote()
            if comparison.kept_vote:
                self._store.remove_vote(comparison.kept_vote)
        except PlaygroundError as error:
            return refused_update(error, visitor)
        update = self._measurements.at_rest(hidden, key or visitor.session)
        return replace(update, problem=Notice(_TAKEN_BACK), tallies=self.read_tallies(hidden))

    def read_tallies(self, comparison: Comparison | None = None) -> VoteTallies | PlaygroundError:
        """The votes until now; if they cannot be read, why."""
        try:
            tallies = tuple(self._store.tallies())
        except PlaygroundError as error:
            return error
        pair = None
        if comparison and not comparison.is_hidden and all(pane.file for pane in comparison.panes):
            pair = Pair.in_order(comparison.panes[0].contestant, comparison.panes[1].contestant)
        return VoteTallies(tallies, pair, self._store.set_aside)


def reveal_sentence(comparison: Comparison, word: str, tallies: VoteTallies | PlaygroundError) -> str:
    """`You preferred B: Q2_0, the smaller one. Q8_0 1, Q2_0 3 so far.`"""
    names = comparison.names
    if word in BALLOT[:2]:
        chosen = BALLOT.index(word)
        said = f"You preferred {LETTERS[chosen]}: {names[chosen]}{_which(comparison, chosen)}."
    else:
        said = f"A was {names[0]}, B was {names[1]}."
    if isinstance(tallies, PlaygroundError) or tallies.current is None:
        return said
    tally = next((one for one in tallies.tallies if one.pair == tallies.current), None)
    if tally is None:
        return said
    first, second = tally.pair.first, tally.pair.second
    is_one = first.model == second.model
    shown = [one.level if is_one else f"{one.model} {one.level}" for one in (first, second)]
    return f"{said} So far: {shown[0]} {tally.first}, {shown[1]} {tally.second}."


def _which(comparison: Comparison, chosen: int) -> str:
    """`, the smaller one`; of two models `, the smaller file`, which may be the one with more bits per weight."""
    own, other = (comparison.pane_at(position).file for position in (chosen, 1 - chosen))
    if not isinstance(own, ModelFile) or not isinstance(other, ModelFile) or own.size == other.size:
        return ""
    size = "smaller" if own.size < other.size else "larger"
    return f", the {size} {'one' if own.base_name == other.base_name else 'file'}"


def judged_guess(comparison: Comparison, guess: str, bits: Sequence[float | None]) -> tuple[Comparison, str]:
    """The comparison with its score, and `Your guess was right: B has fewer bits. 2 of 3 right so far.`

    bits: per weight, of A and B. Nothing is said of a guess that cannot be judged.
    """
    first, second = bits
    if guess not in LETTERS or first is None or second is None or first == second:
        return comparison, ""
    fewer = LETTERS[0] if first < second else LETTERS[1]
    guessed = comparison.with_guess(guess == fewer)
    right, made = guessed.guesses
    verdict = "right" if guess == fewer else "wrong"
    return guessed, f"Your guess was {verdict}: {fewer} has fewer bits. {right} of {made} right so far."
