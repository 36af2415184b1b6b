"""How things come back in the Chat tab: a chat after a reload, a cleared chat, a message to edit, a chat out of a file.

The browser's tab keeps the chat, the growing reply, the text in the message box and the settings in its own storage,
which survives a reload and which other tabs do not see. The server keeps only a reply that was under way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, get_args

import gradio as gr

from playground.app.chat.keeping import KeptChat
from playground.app.chat.service import ChatService
from playground.app.chat.tools import read_tool_use
from playground.app.chat.updates import ChatUpdate, ToolUse
from playground.app.compare.link import SIDES
from playground.app.messages import Notice
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.view import PickerView, what_replaced
from playground.app.resumable import read_key
from playground.chat.saved_chat import ChatSettings
from playground.chat.session import ChatSession
from playground.errors import RequestRefused
from playground.limits.visitor import Visitor
from playground.web.html.page import notice, status_message
from playground.web.model_picker.picker import picker_views
from playground.web.server.sessions import visitor_of
from playground.web.server.uploads import discard_upload
from playground.web.streaming import Streaming, Updates, what_is_new
from playground.web.tabs.chat.layout import ChatTab
from playground.web.tabs.chat.tab import draw_update
from playground.web.widgets import draft_js, javascript, keep_early_values, keep_js, kept_js

_CHAT: Final = "gguf-playground-chat"  # the names of what the tab's storage holds
_GROWING: Final = "gguf-playground-growing"
_DRAFT: Final = "gguf-playground-draft"
_KEY: Final = "gguf-playground-key"
_SETTINGS: Final = "gguf-playground-settings"
_TOOL_USE: Final = "gguf-playground-tools"
# Gradio refuses a value that is no choice, and with it the whole event.
_KEPT_TOOL_USE_JS: Final = (
    f"{json.dumps(get_args(ToolUse))}.find(use => use === ({kept_js(_TOOL_USE, is_one=True)})()) || 'off'"
)

_PRIVATE: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}
_QUICK: Final[dict[str, Any]] = {**_PRIVATE, "queue": False}

VisitorOf = Callable[[gr.Request], Visitor]


def wire_chat_keeping(page: gr.Blocks, tab: ChatTab, service: ChatService, streaming: Streaming, tabs: gr.Tabs) -> None:
    """Every event that brings something back, and those that keep it."""
    visitor = partial(visitor_of, runs=service.runs, via="chat")
    _wire_storage(page, tab, service, streaming, visitor)
    _wire_settings(page, tab, service, tabs)
    _wire_editing(tab)
    _wire_other_chats(tab, service, visitor)


# --- react ---


def draw_settings(tab: ChatTab, settings: ChatSettings) -> Updates:
    """The controls with the values of a chat; what it does not say stays as it is."""
    numbers = ((getattr(tab.sampling, name), number) for name, number in settings.numbers.items())
    return what_is_new((tab.sampling.system, settings.system), *numbers)


def draw_editing(tab: ChatTab, session: ChatSession, text: str, hint: str) -> Updates:
    """The message box with a text, while a message is edited or after that."""
    is_editing = session.editing is not None
    return {
        tab.session: session,
        tab.storage.chat: session.to_stored_text(),
        tab.message: text,
        tab.problem: hint,
        tab.cancel_edit: gr.Button(visible=is_editing),
    }


# --- wire ---


def _wire_storage(
    page: gr.Blocks, tab: ChatTab, service: ChatService, streaming: Streaming, visitor: VisitorOf
) -> None:
    """The chat, its growing reply and the draft: kept at each change, back when the page opens."""
    storage = tab.storage

    def restore(request: gr.Request, *values: str | None) -> Iterator[Updates]:
        chat, growing, key, draft = (value or "" for value in values)
        yield {storage.key: read_key(key)}
        for update in service.keeping.restore_chat(visitor(request), KeptChat(chat, growing, key)):
            # The question may have reached the server although no answer emptied the box any more.
            is_sent = update.phase == "replying" and update.session and update.session.last_question == draft
            yield draw_update(tab, update) | ({tab.message: ""} if is_sent else {})

    kept = [storage.chat, storage.growing, storage.key, tab.message]
    page.load(None, None, tab.message, js=draft_js(_DRAFT, "chat-message"), **_PRIVATE)
    outputs = [*tab.outputs, storage.key, tab.message]
    streaming.wire([page.load], restore, kept, outputs, tab.growing, js=kept_js(_CHAT, _GROWING, _KEY, _DRAFT))
    for part, name in ((storage.chat, _CHAT), (storage.growing, _GROWING), (storage.key, _KEY), (tab.message, _DRAFT)):
        part.change(None, part, None, js=keep_js(name), **_PRIVATE)


def _wire_settings(page: gr.Blocks, tab: ChatTab, service: ChatService, tabs: gr.Tabs) -> None:
    """The chosen model, the sampling settings, whether tools may be called: kept at each change, back in the next page.

    The page's address follows the model and how it runs; a link with them wins over what the tab kept.
    """
    storage, tools = tab.storage, tab.tool_controls.use

    def open_tab(request: gr.Request, stored: str, whose: str, tool_use: str) -> Iterator[Updates]:
        query = dict(request.query_params)
        kept = service.keeping.read_settings(stored or "")
        link = None if whose == "own" else service.keeping.read_link(query)
        opened: Updates = {tabs: gr.Tabs(selected="chat")} if link and _leads_to_chat(query) else {}
        yield opened | draw_settings(tab, kept) | {tools: read_tool_use(tool_use), tab.not_restored: ""}
        settings = link or kept
        choice = service.picker.choice_of_chat(settings) or ModelChoice()
        yield from _fill_picker(tab, service, request, settings, choice, "link" if link else "opening")

    read = f"() => [...({kept_js(_SETTINGS)})(), ({javascript('whose_address.js')})(), {_KEPT_TOOL_USE_JS}]"
    outputs = [*vars(tab.sampling).values(), tools, *tab.picker.outputs, tab.not_restored, tabs]
    opened = page.load(open_tab, [storage.settings, storage.own_address, tools], outputs, js=read, **_PRIVATE)
    _wire_kept_settings(tab, keep_early_values("Chat", [*vars(tab.sampling).values(), tools], opened))


def _wire_kept_settings(tab: ChatTab, opened: Any) -> None:
    """What the browser's tab keeps of the settings, and the page's address. opened: the event that brings them back.

    Nothing is kept before that has ended: it would be a value with which every page begins.
    """
    picker, sampling = tab.picker, tab.sampling
    controls = list(vars(sampling).values())
    values = [picker.model, picker.level, *picker.settings, *controls]
    names = json.dumps([name for name in vars(sampling) if name != "system"])
    keep = f"({javascript('keep_settings.js')})({javascript('device_text.js')}, '{_SETTINGS}', {names}, values)"
    functions = f"values => {keep}, {javascript('write_address.js')}"

    def follow(is_touched: str, first: str = "") -> str:
        return f"(...values) => {{ {first} ({javascript('chat_set_up.js')})({functions}, {is_touched}, values); }}"

    kept = opened.then(None, values, None, js=follow("false", "window.chatIsOpen = true;"))
    changes = [
        picker.line.change,
        *(one.input if isinstance(one, gr.HTML) else one.change for one in picker.settings[1:]),
        *(control.change for control in controls),
    ]
    gr.on(changes, None, values, None, js=follow("false"), **_PRIVATE)
    keep_tool_use = f"use => {{ if (window.chatIsOpen) ({keep_js(_TOOL_USE)})(use); }}"
    tools = tab.tool_controls.use
    kept.then(None, tools, None, js=keep_tool_use)
    tools.change(None, tools, None, js=keep_tool_use, **_PRIVATE)
    by_a_person = [
        *picker.changes, tab.dial.input, tab.loading.loaded_models.input, tab.send.click, tab.message.submit,
        *(example.click for example in tab.examples),
    ]  # fmt: skip
    gr.on(by_a_person, None, values, None, js=follow("true"), **_PRIVATE)


def _leads_to_chat(query: Mapping[str, str]) -> bool:
    """Whether a link with a set-up of Chat opens that tab: it may have a comparison, too, and was copied in either."""
    return query.get("tab") == "chat" or not any(side in query for side in SIDES)


def _fill_picker(
    tab: ChatTab,
    service: ChatService,
    request: gr.Request,
    settings: ChatSettings,
    choice: ModelChoice,
    source: Literal["file", "link", "opening"],
) -> Iterator[Updates]:
    """The picker with the model of a chat, and a sentence if something of the chat could not come back.

    source: a chat out of a file, a link that opens the page, or what the tab kept for the page that opens.
    """
    view: PickerView | None = None
    for view in picker_views(tab.picker, service.picker, request, choice, "page" if source == "file" else "opening"):
        yield tab.picker.choice_updates(view) | {tab.not_restored: ""}
    sentences = []
    if view and tab.picker.redraws.is_filled(str(request.session_hash)):  # the visitor has not chosen another meanwhile
        sentences.append(what_replaced(choice, view, "link" if source == "link" else "chat"))
    if settings.ignored:
        names = ", ".join(settings.ignored)
        sentences.append(f"These settings could not be read and have their usual values: {names}.")
    if lost := " ".join(filter(None, sentences)):
        yield {tab.not_restored: status_message(Notice(lost, "warning"))}


def _wire_editing(tab: ChatTab) -> None:
    """A message is put into the box, and replaces itself when it is sent."""

    def edit(number: int, session: ChatSession, text: str | None, growing: str | None) -> Updates:
        try:
            if growing:
                raise RequestRefused("This chat is still busy.", "Wait for the reply, or stop it first.")
            session = session.with_editing(number, text or "")
        except RequestRefused as error:
            return {tab.problem: status_message(error)}
        assert session.editing is not None
        which = "your last" if session.editing == session.questions[-1] else "an earlier"
        hint = notice(
            f"You are changing {which} message. Sending it replaces the old one and what follows; Cancel or Escape "
            "leaves it as it is."
        )
        return draw_editing(tab, session, session.conversation.messages[session.editing].content, hint)

    def edit_at_pencil(pressed: Any, session: ChatSession, text: str | None, growing: str | None) -> Updates:
        is_number = isinstance(pressed, str) and pressed.isascii() and pressed.isdigit() and len(pressed) < 6
        number = int(pressed) if is_number else -2
        return edit(number, session, text, growing) | {tab.pencils: ""}

    def cancel(session: ChatSession) -> Updates:
        return draw_editing(tab, session.without_editing(), session.draft, "")

    inputs = [tab.session, tab.message, tab.storage.growing]
    outputs = [tab.session, tab.storage.chat, tab.message, tab.problem, tab.cancel_edit]
    tab.tools.edit.click(partial(edit, -1), inputs, outputs, **_QUICK)
    tab.pencils.input(edit_at_pencil, [tab.pencils, *inputs], [*outputs, tab.pencils], **_QUICK)
    tab.cancel_edit.click(cancel, tab.session, outputs, **_QUICK)


def _wire_other_chats(tab: ChatTab, service: ChatService, visitor: VisitorOf) -> None:
    """Another chat in place of the one on the page: an empty one, the one before, one out of a file."""
    tools = tab.tools

    def draw_other(update: ChatUpdate) -> Updates:
        return draw_update(tab, update) | {tab.details: ""}

    def clear(session: ChatSession, key: str | None) -> Updates:
        return draw_other(service.keeping.clear_chat(session, key or ""))

    def undo(session: ChatSession) -> Updates:
        return draw_other(service.keeping.undo_clear(session))

    def open_file(request: gr.Request, path: str | None, session: ChatSession) -> Iterator[Updates]:
        try:
            update, settings = service.keeping.open_chat(visitor(request), session, Path(path or ""))
        finally:
            discard_upload(path)
        if update.session is None:
            yield draw_update(tab, update)
            return
        yield draw_other(update) | draw_settings(tab, settings) | {tab.not_restored: ""}
        if choice := service.picker.choice_of_chat(settings):
            yield from _fill_picker(tab, service, request, settings, choice, "file")

    tools.clear.click(clear, [tab.session, tab.storage.key], tab.outputs, **_QUICK)
    tools.undo.click(undo, tab.session, tab.outputs, **_QUICK)
    controls = list(vars(tab.sampling).values())
    outputs = [*tab.outputs, *tab.picker.outputs, *controls]
    tools.open.upload(open_file, [tools.open, tab.session], list(dict.fromkeys(outputs)), **_PRIVATE)
