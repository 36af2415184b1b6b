"""The search of the Models tab without a browser: which of several answers is drawn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr

from playground.app.hub.view import SearchView
from playground.models.hub.client import FoundRepository
from playground.web.tabs.models.hub import lay_out_hub, wire_hub


def test_an_answer_that_comes_after_a_newer_search_is_not_drawn() -> None:
    page: gr.Blocks
    with gr.Blocks() as page:
        part = lay_out_hub()
        drawn: dict[str, Any] = {}

        def answer(words: str) -> SearchView:
            if words == "fo":  # the person types on before the Hub has answered
                drawn["fox"] = search(request, "fox")[part.results]
            return SearchView(words, (FoundRepository(f"owner/{words}", 1, 0, None, gated=False),))

        service: Any = SimpleNamespace(hub=SimpleNamespace(search_repositories=answer), why_unreachable=None)
        wire_hub(page, part, service, dict, [])
    (search,) = (one.fn for one in page.fns.values() if one.fn and (part.text._id, "input") in one.targets)
    request = gr.Request(session_hash="one")
    drawn["fo"] = search(request, "fo")[part.results]
    assert "owner/fox" in drawn["fox"].props["rows"] and drawn["fo"] == gr.skip()
