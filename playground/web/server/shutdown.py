"""The end of the page: what is under way ends with its last words, and they arrive before the server goes.

A browser asks for the last words itself: a reply is told by several events in a row, and the chat is kept for a reload
by one more. So the server stays until nobody asks any more. Knows no tab.
"""

from __future__ import annotations

import time
from typing import Final

import gradio as gr

from playground.limits.runs import Runs
from playground.web.streaming import Streaming

QUIET_SECONDS: Final = 0.5  # after which no browser goes on with what it was told: some round trips
_LOOK_SECONDS: Final = 0.05


def see_off(page: gr.Blocks, streaming: Streaming, runs: Runs, seconds: float) -> None:
    """End what is under way, and return when all of it is told; at once where nothing is, after so long in any case."""
    until = time.monotonic() + seconds
    somebody_waits = bool(runs.under_way())
    runs.close()
    runs.wait_until_idle(seconds)
    quiet_since = time.monotonic()
    while (now := time.monotonic()) < until:
        if streaming.is_passing or _is_telling(page):
            quiet_since, somebody_waits = now, True
        elif not somebody_waits or now - quiet_since >= QUIET_SECONDS:
            return
        time.sleep(_LOOK_SECONDS)


def _is_telling(page: gr.Blocks) -> bool:
    """Whether an event of some page has words that have not reached it yet."""
    return any(list(page._queue.pending_event_ids_session.values()))
