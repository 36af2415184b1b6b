"""What follows the picker in Chat: the slim dial and the models in memory; and the choice between two answers.

The dial and the picker's list of levels are one choice: the list has the notes, verdicts and expected speeds, the dial
asks the last question again. They tell each other of a change in the browser, so nothing that comes late undoes a move.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import gradio as gr

from playground.app.chat.service import ChatService
from playground.app.compare.dial import DialService
from playground.chat.session import ChatSession
from playground.web.html.dial import slim_dial_rows
from playground.web.model_picker.picker import fill_pickers, wire_redraw
from playground.web.streaming import Updates, Values
from playground.web.tabs.chat.layout import ChatTab
from playground.web.tabs.chat.tab import draw_loaded_models, draw_update

_PRIVATE: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}
_QUICK: Final[dict[str, Any]] = {**_PRIVATE, "queue": False}
_TO_PICKER_JS: Final = "text => JSON.parse(text || '{}').level || ''"
_FROM_PICKER_JS: Final = "level => JSON.stringify({level: level || ''})"


def wire_chat_dial(tab: ChatTab, service: ChatService, dials: DialService) -> None:
    """The dial's levels and its place among them, and the two buttons that keep an answer."""
    picker = tab.picker

    def follow_picker(values: Values) -> Iterator[Updates]:
        """The models in memory, then the dial, whose levels take a moment when they are asked for first."""
        choice = picker.read_choice(values)
        yield draw_loaded_models(tab, service, choice)
        yield {tab.dial: gr.HTML(rows=slim_dial_rows(dials.dial_of(choice.model)))}

    def keep_newest(session: ChatSession, key: str | None) -> Updates:
        return draw_update(tab, service.keep_answer(session, is_newest=True, key=key or ""))

    def keep_other(request: gr.Request, values: Values) -> Iterator[Updates]:
        """The answer beside; its level is chosen again."""
        session: ChatSession = values[tab.session]
        drawn = draw_update(tab, service.keep_answer(session, is_newest=False, key=values[tab.storage.key] or ""))
        yield drawn
        choice = picker.read_choice(values)
        if session.beside and session.beside.model.chosen:
            model, level = session.beside.model.chosen
            choice = replace(choice, model=model, level=level)
        yield from fill_pickers([picker], service.picker, request, [choice])

    beside = [tab.dial, tab.loading.loaded_models, tab.loading.load]
    picker.line.change(follow_picker, picker.inputs, beside, trigger_mode="always_last", **_PRIVATE)
    picker.level.change(None, picker.level, tab.dial, js=_FROM_PICKER_JS, **_PRIVATE)
    moved = tab.dial.input(None, tab.dial, picker.level, js=_TO_PICKER_JS, **_PRIVATE)
    wire_redraw(picker, service.picker, moved)
    tab.keep_newest.click(keep_newest, [tab.session, tab.storage.key], tab.outputs, **_QUICK)
    kept = {tab.session, tab.storage.key, *picker.inputs}
    tab.keep_other.click(keep_other, kept, list(dict.fromkeys([*tab.outputs, *picker.outputs])), **_PRIVATE)
