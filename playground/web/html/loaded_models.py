"""Records to HTML and words for what is in memory: who uses it, what a swap takes, why one waits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from playground.app.format import UNKNOWN, about, count, seconds
from playground.engine.local.load_queue import LoadTime

SwapRoom = Literal["beside", "idle gives way", "waits for others", "never"]


@dataclass(frozen=True)
class LoadedModelRow:
    """A model in memory. value: what its button sends, "" where it cannot be chosen; is_mine: it is the choice."""

    title: str
    context_size: int
    users: int
    is_loading: bool = False
    value: str = ""
    is_mine: bool = False


@dataclass(frozen=True)
class Swap:
    """What loading the choice would mean, where it is not in memory."""

    room: SwapRoom
    time: LoadTime | None


def resident_card(rows: Sequence[LoadedModelRow], swap: Swap | None) -> str:
    """What is in memory, each with a button to join it; and what it takes to have one's own choice instead."""
    if not rows:
        return ""
    items = "".join(map(_row, rows))
    mine = f"<p>{_swap_sentence(swap)}</p>" if swap and swap.room != "never" else ""
    return (
        '<section class="gp-residents" aria-label="Models in memory"><p>In memory now</p>'
        f"<ul>{items}</ul>{mine}</section>"
    )


def _row(row: LoadedModelRow) -> str:
    if row.is_mine:
        end = '<b class="gp-residents-mine">your choice</b>'
    elif row.value:
        end = (
            f'<button type="button" class="gp-small-button" data-value="{escape(row.value, quote=True)}"'
            f' aria-label="Use {escape(row.title, quote=True)}">Use this one</button>'
        )
    else:
        end = ""
    state = "is being loaded" if row.is_loading else users(row.users)
    return (
        f"<li><span><b>{escape(row.title)}</b> · {count(row.context_size)} tokens"
        f"<small>{state}</small></span>{end}</li>"
    )


def users(number: int) -> str:
    """How many use a model at this moment."""
    if number == 0:
        return "nobody uses it now"
    return "1 uses it now" if number == 1 else f"{number} use it now"


def load_time_words(time: LoadTime | None) -> str:
    """`0.84 s (the last time)`, `about 4 s (an estimate from other loads)`, or a dash."""
    if time is None:
        return UNKNOWN
    if time.is_measured:
        return f"{seconds(time.seconds)} (the last time)"
    return f"{about(time.seconds)} (estimated from other loads)"


def _swap_sentence(swap: Swap) -> str:
    takes = f"loading it takes {load_time_words(swap.time)}"
    if swap.room == "beside":
        return f"Your choice fits beside it: {takes}."
    if swap.room == "idle gives way":
        return f"Your choice takes the place of what nobody uses: {takes}."
    return f"Your choice has to wait until there is room, because nobody’s model is taken away; then {takes}."


def waiting_words(place: int, in_the_way: Sequence[LoadedModelRow]) -> str:
    """Why a model does not load yet, as one or two sentences; "" where it is about to."""
    if not in_the_way:
        return "" if place <= 1 else f"Waiting to load: {_before(place)} before you"
    names = " and ".join(row.title for row in in_the_way)
    if place == 0:
        return f"{names} has waited for its turn and comes first; then it is yours again"
    if all(row.is_loading for row in in_the_way):
        return f"Waiting while {names} loads"
    using = " and ".join(f"{row.title} ({users(row.users)})" for row in in_the_way)
    line = "you are next" if place == 1 else f"{_before(place)} before you"
    return f"Waiting for the memory of {using}: {line}. You may use that model instead, or stop"


def _before(place: int) -> str:
    return "1 other is" if place == 2 else f"{place - 1} others are"
