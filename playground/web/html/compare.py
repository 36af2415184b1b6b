"""Records of a comparison to HTML: the heads of the panes, what the mode means, the table of differences, the tally.

Pure functions; whatever comes from a file or a visitor is escaped. The better figure is marked by a word and a colour,
and nothing is marked where asking the same model twice differs as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final, Literal

from playground.app.compare.comparison import LETTERS, Comparison, names
from playground.chat.comparison import DifferenceRow, Figure, Mode, PaneResult, Spread, Value, differences
from playground.engine.protocol import FINISH_WORDS
from playground.measure.votes import Contestant, Pair, Tally
from playground.text_format import (
    UNKNOWN,
    count,
    counted,
    gibibytes,
    gibibytes_apart,
    percent,
    seconds,
    speed,
)

MODE_SENTENCES: Final[dict[Mode, str]] = {
    "in turn": "One answers after the other, each with all cores: the speeds are true.",
    "at once": "Both answer at the same moment and share the cores in short turns; the speeds leave the waiting out.",
}
_WITH_SERVER: Final[dict[Mode, str]] = {
    "in turn": "One answers after the other.",
    "at once": "Both answer at the same moment, and share nothing if each has a machine of its own.",
}
_SERVERS_SPEED: Final = "A server’s speed is measured here, so the way there counts, and so do its other visitors."
_RESIDENCY: Final = {
    "together": "Both models stay in memory.",
    "one after the other": "Both do not fit into memory together: each gives way to the other, which takes a load.",
}


def pane_head(duel: Comparison, place: int) -> str:
    """Which one this is, or that it is hidden; after a vote, what it was."""
    letter = f'<span class="gp-letter">{LETTERS[place]}</span>'
    side = duel.at(place)
    if duel.is_hidden:
        return f'<div class="gp-pane-head">{letter}<p>Its name shows after your vote</p></div>'
    if side.file is None:
        return f'<div class="gp-pane-head">{letter}</div>'
    origin = side.file.requantized_from
    note = f'<p class="gp-pane-note">requantized from {escape(origin)}: cannot be better than it</p>' if origin else ""
    was = "was " if duel.blind else ""
    return f'<div class="gp-pane-head">{letter}<p>{was}<b>{escape(names(duel)[place])}</b></p>{note}</div>'


def plain_line(text: str, kind: Literal["waits", "rests"]) -> str:
    """A pane's line in words alone, as high as the line of figures."""
    return (
        f'<div class="gp-live gp-live-{kind}"><span class="gp-pulse" aria-hidden="true"></span>'
        f'<p>{escape(text)}</p><span class="gp-hidden" role="status"></span></div>'
    )


def hidden_line(*, is_writing: bool = False) -> str:
    """A pane's line in a blind round: its speed would give it away."""
    if is_writing:
        return plain_line("Being written; both answers show together, since the pace would tell them apart", "waits")
    return plain_line("Speed and length show after your vote", "rests")


def beforehand_line(
    mode: Mode,
    residency: Literal["together", "one after the other"] | None,
    to_make: tuple[str, ...] = (),
    *,
    with_server: bool = False,
) -> str:
    """What to expect of the speeds and of the memory, said before anything runs.

    to_make: levels not here yet; with_server: at least one side runs elsewhere.
    """
    if with_server:
        return f'<p class="gp-hint">{_WITH_SERVER[mode]} {_SERVERS_SPEED}</p>'
    memory = f" {_RESIDENCY[residency]}" if residency else ""
    if to_make:
        memory = f" {escape(' and '.join(to_make))} will be made here first, when you ask."
    return f'<p class="gp-hint">{MODE_SENTENCES[mode]}{memory}</p>'


def look_for_line(text: str) -> str:
    """What a good answer to an example has in it."""
    return f'<p class="gp-look-for"><b>What to look for:</b> {escape(text)}</p>' if text else ""


# --- the table of differences ---

_TITLES: Final[dict[Figure, str]] = {
    "generation_speed": "Writing speed",
    "prompt_speed": "Reading speed",
    "time_to_first_token": "Time to first token",
    "memory_planned": "Memory, planned",
    "memory_measured": "Memory, measured",
    "tokens": "Length",
    "finish_reason": "Ended with",
}
_ENOUGH_FOR_TIMES: Final = 1.5  # from here on "times as fast" reads better than a per cent


def differences_table(titles: tuple[str, str], a: PaneResult, b: PaneResult, spread: Spread) -> str:
    """The figures of both answers; the better one is marked by a word and a colour."""
    rows = "".join(_row(row) for row in differences([a, b], spread))
    heads = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    shared = "at once" in (a.mode, b.mode)
    return (
        '<section class="gp-differences"><h2 class="gp-section">Differences</h2><table class="gp-table"><thead><tr>'
        f'<th scope="col"><span class="gp-hidden">Figure</span></th>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        f'<p class="gp-hint">{_AT_ONCE if shared else _spread_sentence(spread)}</p></section>'
    )


_AT_ONCE: Final = (
    "They wrote at the same moment and shared the cores: these speeds are not what each reaches alone, and so none is "
    "marked."
)


def _row(row: DifferenceRow) -> str:
    first, second = row.values
    texts = _texts(row.figure, first, second)
    cells = "".join(
        f'<td class="gp-better">{text} <span>{_in_words(row.figure, first, second)}</span></td>'
        if place == row.better
        else f"<td>{text}</td>"
        for place, text in enumerate(texts)
    )
    return f'<tr><th scope="row">{_TITLES[row.figure]}</th>{cells}</tr>'


def _texts(figure: Figure, first: Value, second: Value) -> tuple[str, str]:
    if isinstance(first, int) and isinstance(second, int) and figure.startswith("memory"):
        return gibibytes_apart(first, second)
    return _text(figure, first), _text(figure, second)


def _text(figure: Figure, value: Value) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        return FINISH_WORDS[value]  # type: ignore[index]
    if figure.startswith("memory"):
        return gibibytes(int(value))
    if figure == "tokens":
        return counted(int(value), "token")
    return seconds(value) if figure == "time_to_first_token" else speed(value)


def _in_words(figure: Figure, first: Value, second: Value) -> str:
    """How much better the better one is."""
    if not isinstance(first, int | float) or not isinstance(second, int | float):
        return ""
    if figure.startswith("memory"):
        return f"{gibibytes(int(abs(first - second)))} less"
    if figure == "time_to_first_token":
        return f"{seconds(abs(first - second))} sooner"
    ratio = max(first, second) / min(first, second)
    return f"{ratio:.1f} times as fast" if ratio >= _ENOUGH_FOR_TIMES else f"{percent(ratio - 1)} faster"


def _spread_sentence(spread: Spread) -> str:
    figures = (
        f"Not marked is what may be chance: up to {percent(spread.generation_speed)} in writing speed, "
        f"{percent(spread.prompt_speed)} in reading speed and {percent(spread.time_to_first_token)} in the time to the "
        "first token"
    )
    if spread.is_measured:
        return f"{figures}, by the control below."
    return f"{figures}. Run the same model twice to see how much it is on this computer."


# --- the control ---


def control_card(title: str, a: PaneResult, b: PaneResult, spread: Spread) -> str:
    """What one model asked twice differs by, in words; spread is what follows from it."""
    same = [token.id for token in a.tokens] == [token.id for token in b.tokens]
    text = "the same text, token for token" if same else "not the same text: something but the level differs here"
    rows = [
        f"{_TITLES[row.figure].lower()} {' and '.join(_texts(row.figure, *row.values))}"
        for row in differences([a, b], spread)
        if row.figure in ("generation_speed", "prompt_speed", "time_to_first_token")
    ]
    return (
        f'<div class="gp-card gp-info" role="status"><p><b>{escape(title)} beside itself:</b> {text}; '
        f"{'; '.join(rows)}.</p><p>So much differs by itself, from chance and this computer’s other work.</p></div>"
    )


# --- votes ---


def tally_table(tallies: Sequence[Tally], pair: Pair | None) -> str:
    """The votes by pair of levels, with count and interval; the pair at hand first and marked."""
    if not tallies:
        return '<p class="gp-hint">No votes yet. Hide the names, ask something, and say which answer is better.</p>'
    ordered = sorted(tallies, key=lambda tally: tally.pair != pair)
    rows = "".join(_tally_row(tally, tally.pair == pair) for tally in ordered)
    return (
        '<div class="gp-tally"><table class="gp-table"><thead><tr><th scope="col">Pair</th>'
        '<th scope="col">Votes</th><th scope="col">First better</th><th scope="col">Second better</th>'
        '<th scope="col">Tie</th><th scope="col">Both bad</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
        '<p class="gp-hint">The range is where the share would lie, 19 times in 20, if the vote went on '
        "(Wilson interval of the votes that prefer one).</p></div>"
    )


def _tally_row(tally: Tally, is_current: bool) -> str:
    first, second = _contestants(tally.pair)
    mark = ' class="gp-current"' if is_current else ""
    figures = (tally.count, tally.first, tally.second, tally.ties, tally.both_bad)
    cells = "".join(f"<td>{count(figure)}</td>" for figure in figures)
    said = f'<span class="gp-figures">{escape(share_sentence(tally))}</span>'
    return f'<tr{mark}><th scope="row"><b>{escape(first)}</b> beside <b>{escape(second)}</b><br>{said}</th>{cells}</tr>'


def share_sentence(tally: Tally) -> str:
    """`Q8_0 preferred in 3 of 4 (75%, between 30% and 95%)`."""
    if tally.share is None:
        return "nobody has preferred one yet"
    low, high = tally.interval
    return (
        f"{_contestants(tally.pair)[0]} preferred in {tally.first} of {tally.decided} "
        f"({percent(tally.share)}, between {percent(low)} and {percent(high)})"
    )


def _contestants(pair: Pair) -> tuple[str, str]:
    if pair.first.model == pair.second.model:
        return pair.first.level, pair.second.level
    return _named(pair.first), _named(pair.second)


def _named(contestant: Contestant) -> str:
    return f"{contestant.model or UNKNOWN} {contestant.level}"
