"""What happens when the tools are used: an answer to the question, a text that is attached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import gradio as gr

from playground.app.chat.service import ChatService
from playground.app.chat.updates import ChatUpdate
from playground.chat.session import ChatSession
from playground.web.server.sessions import visitor_of
from playground.web.server.uploads import discard_upload
from playground.web.streaming import Streaming, Updates, Values
from playground.web.tabs.chat.layout import ChatTab
from playground.web.tabs.chat.tab import draw_update, read_request

_QUICK: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}


def wire_chat_tools(tab: ChatTab, service: ChatService, streaming: Streaming) -> None:
    """The answer to the question, and the text for the tools."""
    controls = tab.tool_controls
    visitor = partial(visitor_of, runs=service.runs, via="chat")

    def answer(allow: bool, request: gr.Request, values: Values) -> Iterator[Updates]:
        session, key = values[tab.session], str(values[tab.storage.key] or "")
        updates = service.answer_calls(visitor(request), session, read_request(tab, values), key, allow=allow)
        for update in updates:
            yield draw_update(tab, update)

    def attach(request: gr.Request, path: str | None, session: ChatSession) -> Updates:
        try:
            return draw_update(tab, service.attach_text(visitor(request), session, Path(path or "")))
        finally:
            discard_upload(path)

    def detach(session: ChatSession) -> Updates:
        return draw_update(tab, ChatUpdate(replace(session, attached=None)))

    inputs = {tab.session, tab.storage.key, *tab.request_inputs}
    for button, allow in ((controls.run, True), (controls.refuse, False)):
        streaming.wire([button.click], partial(answer, allow), inputs, tab.outputs, tab.growing)
    controls.attach.upload(attach, [controls.attach, tab.session], tab.outputs, **_QUICK)
    controls.detach.click(detach, tab.session, tab.outputs, **_QUICK)
