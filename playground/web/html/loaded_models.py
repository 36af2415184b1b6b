"""Records to markup for the models in memory: who uses them, what it takes to load the chosen one instead."""

from __future__ import annotations

from html import escape

from playground.app.loaded_models import LoadedModelRow, LoadedModelsView, Swap, users_in_words
from playground.engine.local.load_queue import LoadTime
from playground.text_format import UNKNOWN, about, count, seconds


def loaded_models_card(view: LoadedModelsView) -> str:
    """What is in memory, each with a button to join it; and what it takes to have one's own choice instead."""
    if not view.rows:
        return ""
    items = "".join(map(_row, view.rows))
    mine = f"<p>{_swap_sentence(view.swap)}</p>" if view.swap and view.swap.room != "never" else ""
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
    state = "is being loaded" if row.is_loading else users_in_words(row.users)
    return (
        f"<li><span><b>{escape(row.title)}</b> · {count(row.context_size)} tokens"
        f"<small>{state}</small></span>{end}</li>"
    )


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
