"""Draws a comparison: the panes' heads and lines, what to expect, the table of figures, the noise, the votes.

The better value of a row is marked by words and a colour, unless the difference may be measurement noise.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from markupsafe import Markup

from playground.app.compare.comparison import BALLOT, Comparison
from playground.app.compare.updates import (
    ComparedAnswers,
    CompareOutlook,
    PanePreparing,
    PaneState,
    VoteTallies,
)
from playground.chat.comparison import DISTURBED_SENTENCE, MEMORY_SENTENCE, ComparisonRow, MeasurementNoise, Mode
from playground.errors import PlaygroundError
from playground.measure.votes import Contestant, Pair, Tally
from playground.text_format import UNKNOWN, count, gigabytes, percent, seconds
from playground.web.html.page import error_card, notice
from playground.web.html.reply import live_line
from playground.web.html.templates import render

_MODE_IN_WORDS: Final[dict[Mode, str]] = {
    "in turn": "Each model gets all cores in turn, so speeds are comparable.",
    "at once": "Both answer at the same time and share the cores. Waiting time is not counted.",
}
_MODE_WITH_SERVER: Final[dict[Mode, str]] = {
    "in turn": "One model answers after the other.",
    "at once": "Both answer at the same time, and share nothing if each runs on a machine of its own.",
}
_SERVERS_SPEED: Final = "A server’s speed is measured from here, so it includes the network and its other users."
_RESIDENCY: Final = {
    "together": "Both models stay in memory.",
    "one after the other": "The two do not fit in memory together, so they are swapped for each answer.",
}
_SHARED: Final = {
    "cores": "Both wrote at the same time and shared the cores. These speeds are not what each model reaches alone, so "
    "none is highlighted.",
    "server": "Both wrote at the same time on one server, where each may have slowed the other down. These speeds may "
    "not be what each model reaches alone, so none is highlighted.",
}
NEXT_QUESTION: Final = "next question"  # what a press on a ballot means, beside the words of BALLOT
TAKE_BACK: Final = "take back"
_TIMES_FROM: Final = 1.5  # from this ratio on, "times as fast" reads better than a per cent


# --- the panes ---


def pane_line(state: PaneState) -> str:
    """What the pane's model does now, or how its reply ended; nothing about its speed while names are hidden."""
    if state.is_hidden and state.is_busy:
        return plain_line("Writing … both answers appear together, so that speed gives nothing away", "waits")
    if state.is_hidden:
        return plain_line("Speed and length show after your vote", "rests")
    if isinstance(state.activity, PanePreparing):
        if state.activity.server:
            return plain_line(f"Asking {state.activity.server}", "waits")
        if state.activity.after:
            return plain_line(f"Waiting for {state.activity.after} to answer first", "waits")
        return plain_line("Getting ready", "waits")
    return live_line(state.activity, stopped=state.stopped_by)


def plain_line(text: str, kind: Literal["waits", "rests"]) -> str:
    """A pane's line in words, as high as the line of figures."""
    return render("compare.html#plain_line", text=text, kind=kind)


# --- before ---


def outlook_line(outlook: CompareOutlook) -> str:
    """What to expect of speeds and memory, before anything runs."""
    if outlook.has_server:
        return render("compare.html#hint", text=f"{_MODE_WITH_SERVER[outlook.mode]} {_SERVERS_SPEED}")
    text = _MODE_IN_WORDS[outlook.mode]
    if outlook.to_make:
        text += f" {' and '.join(outlook.to_make)} will be created first."
    elif outlook.residency:
        text += f" {_RESIDENCY[outlook.residency]}"
    return render("compare.html#hint", text=text)


# --- after ---


def differences_table(answers: ComparedAnswers) -> str:
    """The figures of both answers, with by how much the better one is better."""
    rows = [
        (row.title, [(text, _advantage(row) if row.better == index else "") for index, text in enumerate(row.texts)])
        for row in answers.table
    ]
    if answers.shared:  # what disturbed a speed was the other answer
        hint = _SHARED[answers.shared]
    elif any(any(row.disturbed) for row in answers.table):
        hint = DISTURBED_SENTENCE
    else:
        hint = _noise_in_words(answers.noise)
    return render("compare.html#differences", names=answers.names, rows=rows, hint=f"{hint} {MEMORY_SENTENCE}")


def _advantage(row: ComparisonRow) -> str:
    """`1.6 times as fast`, `65.0 MB less`."""
    first, second = (float(value or 0) for value in row.values)
    if row.unit == "bytes":
        return f"{gigabytes(int(abs(first - second)))} less"
    if row.unit == "seconds":
        return f"{seconds(abs(first - second))} sooner"
    ratio = max(first, second) / min(first, second)
    return f"{ratio:.1f} times as fast" if ratio >= _TIMES_FROM else f"{percent(ratio - 1)} faster"


def _noise_in_words(noise: MeasurementNoise) -> str:
    limits = (
        f"Differences under {percent(noise.generation_speed)} in generation speed, {percent(noise.prompt_speed)} in "
        f"prompt speed and {percent(noise.time_to_first_token)} in time to first token are not highlighted"
    )
    if noise.is_measured:
        return f"{limits}: they are within the measured noise."
    return f"{limits}: they can be measurement noise."


# --- votes ---


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
