"""The part of the Models tab for newcomers: three good first models with a button each, and the other known models.

What it downloads goes on in the background; when it is here, Chat opens with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import gradio as gr

from playground.app.first_models import SortColumn
from playground.app.messages import Notice
from playground.app.model_picker.service import ModelPickerService
from playground.app.models import ModelsService
from playground.web.html.models import catalogue, first_model_cards, first_models_to_come, part_title
from playground.web.html.page import status_message
from playground.web.model_picker.picker import PickerComponents, fill_pickers
from playground.web.redraws import PageValues, Redraws
from playground.web.server.sessions import visitor_of
from playground.web.streaming import Updates, Values
from playground.web.tabs.models.hub import HubPart, draw_downloads
from playground.web.widgets import button_rows, change_stamp, hidden_text, markup_place

_QUIET: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class FirstPart:
    """The cards; the rest of the catalogue, further down. awaited: the download after which Chat opens, or "".

    arrived: changes when that download is here.
    """

    cards: gr.HTML
    message: gr.HTML
    rows: gr.HTML
    awaited: gr.State
    arrived: gr.Textbox


@dataclass(frozen=True)
class ChatTarget:
    """Where a model is opened for a chat: the page's tabs, and the picker of the Chat tab."""

    tabs: gr.Tabs
    picker: PickerComponents
    service: ModelPickerService

    @property
    def outputs(self) -> list[Any]:
        return [self.tabs, *self.picker.outputs]

    def open_file(self, request: gr.Request, path: Path) -> Iterator[Updates]:
        """Chat, with the model of this file chosen; nothing for a file that is not among the models."""
        found = self.service.find_choice(path.absolute())
        if found is None:
            return
        yield {self.tabs: gr.Tabs(selected="chat")}
        yield from fill_pickers([self.picker], self.service, request, [found[0]])


# --- lay out ---


def lay_out_first() -> tuple[gr.HTML, gr.HTML]:
    """The cards and what is said of them, inside the column that is open."""
    gr.HTML(part_title("Good first models for this computer"), apply_default_css=False)
    cards = button_rows(first_models_to_come(), "models-first")
    return cards, markup_place("models-first-said")


def lay_out_catalogue(cards: gr.HTML, message: gr.HTML) -> FirstPart:
    """The rest of the catalogue, inside the column that is open."""
    gr.HTML(part_title("More models"), apply_default_css=False)
    rows = button_rows("", "models-catalogue")
    arrived = hidden_text("models-arrived")
    return FirstPart(cards=cards, message=message, rows=rows, awaited=gr.State(""), arrived=arrived)


# --- react ---


def draw_first(part: FirstPart, service: ModelsService, column: SortColumn = "size") -> Updates:
    """The cards and the rest, sorted by a column."""
    view, may_download = service.first_models.view(column), service.settings.allow_downloads
    cards = first_model_cards(view, may_download=may_download, is_offline=service.why_unreachable is not None)
    return {
        part.cards: gr.HTML(value="", rows=cards),
        part.rows: gr.HTML(value="", rows=catalogue(view)),
    }


# --- wire ---


def wire_first(tab: gr.Tab, part: FirstPart, hub: HubPart, service: ModelsService, chat: ChatTarget) -> Any:
    """The tab is filled when it is opened, since planning takes a moment. Returns the event that fills it."""

    redraws = Redraws()
    columns: PageValues[SortColumn] = PageValues()  # by which each page sorts; a late drawing keeps it, too

    def draw(request: gr.Request) -> Updates:
        """Nothing where the rows were sorted anew meanwhile: planning takes longer than a click."""
        session = str(request.session_hash)
        is_newest = redraws.begin_redraw(session)
        updates = draw_first(part, service, columns.value_of(session, "size"))
        return updates if is_newest() else {part.cards: gr.skip()}

    def get(request: gr.Request, action: Any) -> Iterator[Updates]:
        verb, _, id = str(action).partition(" ")
        yield {part.cards: gr.HTML(value=""), part.message: status_message(Notice("Asking the Hub …"))}
        visitor = visitor_of(request, service.runs, "models")
        message, download = service.download_first_model(id if verb == "get" else "", visitor)
        updates: Updates = {part.message: status_message(message), part.awaited: download}
        if download and service.downloaded_file(download):
            updates |= {part.arrived: change_stamp()}
        yield updates | draw_downloads(hub, service.downloads())

    def press(request: gr.Request, action: Any) -> Updates:
        """A column to sort by, or a repository to open above."""
        verb, _, what = str(action).partition(" ")
        if verb == "open":
            return {part.rows: gr.HTML(value=""), hub.wanted: what}
        known: tuple[SortColumn, ...] = get_args(SortColumn)
        column: SortColumn = next((name for name in known if name == what), "size")
        session = str(request.session_hash)
        columns.set_value(session, column)
        redraws.begin_redraw(session)
        return draw_first(part, service, column)

    def look(download: str) -> Updates:
        """Whether the awaited download is here now."""
        here = bool(download) and service.downloaded_file(download) is not None
        return {part.arrived: change_stamp()} if here else {part.awaited: download}

    def open_chat(request: gr.Request, values: Values) -> Iterator[Updates]:
        download = str(values[part.awaited])
        path = service.downloaded_file(download) if download else None
        if path is None:
            return
        yield {part.awaited: "", part.message: ""}
        yield from chat.open_file(request, path)

    drawn = tab.select(draw, None, [part.cards, part.rows], **_QUIET)
    part.cards.input(
        get, part.cards,
        [part.cards, part.message, part.awaited, part.arrived, hub.downloads, hub.timer], **_QUIET,
    )  # fmt: skip
    part.rows.input(press, part.rows, [part.cards, part.rows, hub.wanted], **_QUIET)
    hub.done.change(look, part.awaited, [part.awaited, part.arrived], **_QUIET)
    part.arrived.change(open_chat, {part.awaited}, [part.awaited, part.message, *chat.outputs], **_QUIET)
    return drawn
