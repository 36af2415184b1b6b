"""How things come back in the Chat tab: a chat after a reload, a cleared chat, a message to edit, a chat out of a file.

The browser's tab keeps the chat, the growing reply, the text in the message box and the settings in its own storage,
which survives a reload and which other tabs do not see. The server keeps only a reply that was under way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import gradio as gr

from playground.app.chat.keeping import KeptChat
from playground.app.chat.service import ChatService
from playground.app.chat.updates import ChatUpdate
from playground.app.messages import Notice
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.view import what_replaced
from playground.app.resumable import read_key
from playground.chat.saved_chat import ChatSettings
from playground.chat.session import ChatSession
from playground.errors import RequestRefused
from playground.limits.runs import Visitor
from playground.web.html.page import notice, status_message
from playground.web.model_picker import picker_views
from playground.web.server.sessions import visitor_of
from playground.web.server.uploads import discard_upload
from playground.web.streaming import Streaming, Updates, what_is_new
from playground.web.tabs.chat import draw_update
from playground.web.tabs.chat_layout import ChatTab
from playground.web.widgets import draft_js, javascript, keep_js, kept_js

_CHAT: Final = "gguf-playground-chat"  # the names of what the tab's storage holds
_GROWING: Final = "gguf-playground-growing"
_DRAFT: Final = "gguf-playground-draft"
_KEY: Final = "gguf-playground-key"
_SETTINGS: Final = "gguf-playground-settings"

_PRIVATE: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}
_QUICK: Final[dict[str, Any]] = {**_PRIVATE, "queue": False}

VisitorOf = Callable[[gr.Request], Visitor]


def wire_chat_keeping(page: gr.Blocks, tab: ChatTab, service: ChatService, streaming: Streaming) -> None:
    """Every event that brings something back, and those that keep it."""
    visitor = partial(visitor_of, runs=service.runs, via="chat")
    _wire_storage(page, tab, service, streaming, visitor)
    _wire_settings(page, tab, service)
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


def _wire_settings(page: gr.Blocks, tab: ChatTab, service: ChatService) -> None:
    """The chosen model and the sampling settings: kept at each change, back when the page opens."""
    picker, sampling = tab.picker, tab.sampling
    controls = list(vars(sampling).values())

    def open_settings(stored: str) -> Updates:
        return draw_settings(tab, service.keeping.read_settings(stored or "")) | {tab.not_restored: ""}

    def open_picker(request: gr.Request, stored: str) -> Iterator[Updates]:
        settings = service.keeping.read_settings(stored or "")
        choice = service.picker.choice_of_chat(settings) or ModelChoice()
        yield from _fill_picker(tab, service, request, settings, choice)

    values = [picker.model, picker.level, *picker.settings, *controls]
    numbers = json.dumps([name for name in vars(sampling) if name != "system"])
    keep_settings = f"(...values) => ({javascript('keep_settings.js')})('{_SETTINGS}', {numbers}, values)"
    kept = kept_js(_SETTINGS, is_one=True)
    # An event of its own: where another tab is open, the page draws only the last update of a generator.
    drawn = page.load(open_settings, tab.storage.settings, [*controls, tab.not_restored], js=kept, **_PRIVATE)
    opened = drawn.then(  # so that the page is open only once no setting is written over any more
        open_picker, tab.storage.settings, [*picker.outputs, tab.not_restored], js=kept, **_PRIVATE
    )  # fmt: skip
    opened.then(None, values, None, js=f"(...values) => {{ window.chatIsOpen = true; ({keep_settings})(...values); }}")
    changes = [
        picker.line.change,
        *(one.input if isinstance(one, gr.HTML) else one.change for one in picker.settings[1:]),
        *(control.change for control in controls),
    ]
    keep_if_open = f"(...values) => {{ if (window.chatIsOpen) ({keep_settings})(...values); }}"
    gr.on(changes, None, values, None, js=keep_if_open, **_PRIVATE)


def _fill_picker(
    tab: ChatTab, service: ChatService, request: gr.Request, settings: ChatSettings, choice: ModelChoice
) -> Iterator[Updates]:
    """The picker with the model of a chat, and a sentence if something of the chat could not come back."""
    view, drawn = None, Updates()
    for view in picker_views(tab.picker, service.picker, request, choice, fills=True):
        drawn = tab.picker.choice_updates(view) | {tab.not_restored: ""}
        yield drawn
    sentences = [what_replaced(choice, view) if view else ""]
    if settings.ignored:
        names = ", ".join(settings.ignored)
        sentences.append(f"These settings could not be read and have their usual values: {names}.")
    if not tab.picker.redraws.is_filled(str(request.session_hash)):  # the visitor has chosen something meanwhile
        drawn = {}
    if lost := " ".join(filter(None, sentences)):
        yield drawn | {tab.not_restored: status_message(Notice(lost, "warning"))}


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
            yield from _fill_picker(tab, service, request, settings, choice)

    tools.clear.click(clear, [tab.session, tab.storage.key], tab.outputs, **_QUICK)
    tools.undo.click(undo, tab.session, tab.outputs, **_QUICK)
    controls = list(vars(tab.sampling).values())
    outputs = [*tab.outputs, *tab.picker.outputs, *controls]
    tools.open.upload(open_file, [tools.open, tab.session], list(dict.fromkeys(outputs)), **_PRIVATE)
