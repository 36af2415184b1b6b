"""Who sent an event of the page, as the ledger of visits knows visitors."""

from __future__ import annotations

import gradio as gr

from playground.limits.runs import Runs, Via, Visitor


def visitor_of(request: gr.Request, runs: Runs, via: Via) -> Visitor:
    """The visitor behind an event: the open page, the address it came from where that can be told, and which tab."""
    client = request.client
    return runs.visitor(
        str(request.session_hash),
        client.host if client else None,
        str(request.headers.get("x-forwarded-for") or ""),
        via,
    )
