"""Draws the ballot of a blind comparison, and the votes until now."""

from __future__ import annotations

from typing import Any, Final

from markupsafe import Markup

from playground.app.compare.comparison import BALLOT, Comparison
from playground.app.compare.updates import VoteTallies
from playground.errors import PlaygroundError
from playground.measure.votes import Contestant, Pair, Tally
from playground.text_format import UNKNOWN, count, percent
from playground.web.html.page import error_card, notice
from playground.web.html.templates import render

NEXT_QUESTION: Final = "next question"  # what a press on a ballot means, beside the words of BALLOT
TAKE_BACK: Final = "take back"


def ballot_sheet(comparison: Comparison, reveal: str = "") -> Markup | str:
    """Which answer is better; after the vote, what was preferred and what comes next. reveal: that, in a sentence."""
    if comparison.may_vote:
        return render("compare.html#ballot", words=list(enumerate(BALLOT, 1)))
    if comparison.voted is None:
        return ""
    return render("compare.html#vote_cast", sentence=reveal, next_question=NEXT_QUESTION, take_back=TAKE_BACK)


def tally_table(votes: VoteTallies | PlaygroundError) -> str:
    """The votes by pair of models, with the confidence interval; the pair on the page comes first and is marked."""
    if isinstance(votes, PlaygroundError):
        return error_card(votes)
    warning = notice(votes.warning, "warning") if votes.warning else ""
    if not votes.tallies:
        text = "No votes yet. Switch on “Blind”, ask something, and say which answer is better."
        return warning + render("compare.html#hint", text=text)
    ordered = sorted(votes.tallies, key=lambda tally: tally.pair != votes.current)
    rows = [_tally_row(tally, is_current=tally.pair == votes.current) for tally in ordered]
    return warning + render("compare.html#tallies", rows=rows)


def _tally_row(tally: Tally, *, is_current: bool) -> dict[str, Any]:
    first, second = _names(tally.pair)
    return {
        "is_current": is_current,
        "first": first,
        "second": second,
        "sentence": preference_sentence(tally),
        "votes": count(tally.count),
        "first_votes": count(tally.first),
        "second_votes": count(tally.second),
        "ties": count(tally.ties),
        "both_bad": count(tally.both_bad),
    }


def preference_sentence(tally: Tally) -> str:
    """`Q8_0 preferred in 3 of 4 (75%, between 30% and 95%)`."""
    if tally.share is None:
        return "nobody has preferred one yet"
    low, high = tally.interval
    return (
        f"{_names(tally.pair)[0]} preferred in {tally.first} of {tally.decided} "
        f"({percent(tally.share)}, between {percent(low)} and {percent(high)})"
    )


def _names(pair: Pair) -> tuple[str, str]:
    """Levels alone if both are of one model."""
    if pair.first.model == pair.second.model:
        return pair.first.level, pair.second.level
    return _name(pair.first), _name(pair.second)


def _name(contestant: Contestant) -> str:
    return f"{contestant.model or UNKNOWN} {contestant.level}"
