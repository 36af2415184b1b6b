"""Records to markup for the models in memory: who uses each, and what it takes to load the selected one."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

from playground.app.loaded_models import LoadedModelsView, Swap, SwapRoom
from playground.engine.local.load_queue import LoadTime
from playground.text_format import about, seconds
from playground.web.html.templates import render

_SWAP_SENTENCES: Final[dict[SwapRoom, str]] = {
    "beside": "The selected model fits in memory as well.",
    "replaces idle": "Loading the selected model replaces an idle model.",
    "waits for others": "The selected model has to wait for memory: a model in use is never unloaded.",
    "never": "",  # the verdict beside the memory bar says so
}


def loaded_models_card(view: LoadedModelsView) -> Markup:
    """The models in memory, each with a button to choose it, and what it takes to load the selected one instead."""
    if not view.rows:
        return Markup("")
    return render("loaded_models.html#card", rows=view.rows, swap=_swap_sentences(view.swap))


def _swap_sentences(swap: Swap | None) -> str:
    if swap is None or swap.room == "never":
        return ""
    takes = f" Loading takes {load_time(swap.time)}." if swap.time else ""
    return f"{_SWAP_SENTENCES[swap.room]}{takes}"


def load_time(time: LoadTime) -> str:
    """`0.84 s (as last time)`, or `about 4 s (estimated from other loads)`."""
    return f"{seconds(time.seconds)} (as last time)" if time.is_measured else f"{about(time.seconds)} (estimated)"
