"""The Chat tab at work: reads its components, draws updates into them, and wires every event.

What comes back after a reload, a clear or a mistake is in keeping.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import gradio as gr

from playground.app.chat.service import ChatService
from playground.app.chat.updates import ChatRequest, ChatUpdate, LoadReport
from playground.app.compare.dial import read_level
from playground.app.model_picker.choice import ModelChoice
from playground.chat.export import as_json, as_markdown
from playground.chat.saved_chat import growing_text
from playground.chat.session import ChatSession
from playground.chat.template.message import Message
from playground.limits.visitor import Visitor
from playground.web.html.loaded_models import loaded_models_card
from playground.web.html.page import status_message
from playground.web.html.reply import (
    AnswerPair,
    chatbot_messages,
    context_gauge,
    instructions_line,
    live_line,
    load_report,
    reply_details,
)
from playground.web.model_picker.picker import picker_views, wire_choices
from playground.web.redraws import Redraws
from playground.web.server.sessions import visitor_of
from playground.web.streaming import Streaming, Updates, Values
from playground.web.tabs.chat.layout import LOAD, UNLOAD, ChatTab
from playground.web.tabs.chat.tool_controls import draw_tools
from playground.web.widgets import change_stamp, save_file_js

_SENDABLE_JS: Final = "text => ({__type__: 'update', interactive: text.trim() !== ''})"

_PRIVATE: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}
_QUICK: Final[dict[str, Any]] = {**_PRIVATE, "queue": False}
_NOTHING: Final = Message("assistant", "")

VisitorOf = Callable[[gr.Request], Visitor]


# --- react ---


def read_request(tab: ChatTab, values: Values) -> ChatRequest:
    """What the picker and the sampling settings hold."""
    controls = tab.sampling
    return ChatRequest(
        choice=tab.picker.read_choice(values),
        system=str(values[controls.system] or ""),
        sampling=controls.read_sampling(values),
        max_tokens=int(values[controls.max_tokens]),
        tools=tab.tool_controls.read_use(values),
    )


def draw_update(tab: ChatTab, update: ChatUpdate) -> Updates:
    """The new values of the components that the update changes."""
    drawn: Updates = {}
    if update.activity:
        now = update.activity
        drawn[tab.live] = live_line(
            now.event,
            stopped=now.stopped_by,
            load_seconds=now.load_seconds,
            trace=now.trace,
            is_starting=update.phase == "replying",
        )
    if update.context:
        drawn[tab.gauge] = context_gauge(update.context)
    if update.details:
        drawn[tab.details] = reply_details(update.details)
    elif update.phase == "replying":
        drawn[tab.details] = ""  # those of the reply before
    if update.problem:
        drawn[tab.problem] = status_message(update.problem)
    if isinstance(update.progress, LoadReport):
        drawn[tab.loading.progress] = load_report(update.progress)
    elif update.progress:
        drawn[tab.loading.progress] = status_message(update.progress)
    if update.session:
        messages = update.session.conversation.messages
        pair, ends = answer_pair(update), dict(update.session.finished)
        drawn[tab.log] = chatbot_messages(messages, update.growing, update.opening, pair, ends)
        begins = update.phase == "replying"
        if update.growing is None or update.phase is not None:  # a slow page gets the question with the first words
            drawn |= _draw_session(tab, update.session) | draw_tools(tab.tool_controls, update.session, update.phase)
        if begins:
            drawn[tab.not_restored] = ""
        is_growing = begins or update.growing is not None
        drawn[tab.storage.growing] = growing_text(update.growing or _NOTHING) if is_growing else ""
    if update.has_new_level:
        drawn[tab.picker.models_changed] = change_stamp()
    load_button: dict[str, Any] = {}
    if update.loaded_models is not None:
        drawn[tab.loading.loaded_models] = gr.HTML(value="", rows=loaded_models_card(update.loaded_models))
        load_button["value"] = UNLOAD if update.loaded_models.has_selected else LOAD
    if update.phase:
        load_button |= {"visible": update.phase != "loading", "interactive": update.phase == "rest"}
    if load_button:
        drawn[tab.loading.load] = gr.Button(**load_button)
    if update.may_load_anyway is not None:
        drawn[tab.loading.anyway] = gr.Button(visible=update.may_load_anyway)
    if update.phase:
        drawn |= _draw_phase(tab, update)
    return drawn


def _draw_session(tab: ChatTab, session: ChatSession) -> Updates:
    return {
        tab.session: session,
        tab.storage.chat: session.to_stored_text(),
        tab.attached: instructions_line(session.instructions),
        tab.tools.detach: gr.Button(visible=session.has_own_instructions),
        tab.tools.undo: gr.Button(visible=session.replaced is not None),
        tab.cancel_edit: gr.Button(visible=session.editing is not None),
    }


def answer_pair(update: ChatUpdate) -> AnswerPair | None:
    """The two answers that stand side by side, while neither is kept."""
    session = update.session
    if session is None or session.beside is None:
        return None
    newest, other = session.model, session.beside.model
    if newest.title and other.title and newest.title != other.title:
        names = (f"{newest.title} {newest.level}", f"{other.title} {other.level}")
    else:
        names = (newest.level, other.level)
    return AnswerPair(*names, session.beside.reply, session.beside.finished)


def _draw_keeping(tab: ChatTab, update: ChatUpdate) -> Updates:
    """The buttons below the two answers."""
    pair = answer_pair(update)
    is_shown = pair is not None and update.phase == "rest"
    names = (pair.other_level, pair.level) if pair else ("", "")
    buttons = (tab.keep_other, tab.keep_newest)
    return {button: gr.Button(f"Keep {name}", visible=is_shown) for button, name in zip(buttons, names, strict=True)}


def _draw_phase(tab: ChatTab, update: ChatUpdate) -> Updates:
    tools, busy = tab.tools, update.phase != "rest"
    drawn: Updates = {
        tab.loading.cancel: gr.Button(visible=update.phase == "loading"),
        tab.send: gr.Button(visible=not busy),
        tab.stop: gr.Button(visible=update.phase == "replying"),
    }
    if update.session:
        drawn |= _draw_keeping(tab, update)
        usable = not busy and not update.session.is_empty
        need_a_chat = (tools.regenerate, tools.edit, tools.clear, tools.save_markdown, tools.save_json)
        drawn |= {button: gr.Button(interactive=usable) for button in need_a_chat}
        drawn[tools.go_on] = gr.Button(visible=not busy and update.session.may_continue)
        drawn[tools.attach] = gr.UploadButton(interactive=not busy)
        drawn[tools.open] = gr.UploadButton(interactive=not busy)
        drawn[tools.detach] = gr.Button(visible=update.session.has_own_instructions, interactive=not busy)
    return drawn


def draw_loaded_models(tab: ChatTab, service: ChatService, choice: ModelChoice) -> Updates:
    """The models in memory, for somebody who has chosen this one."""
    return draw_update(tab, ChatUpdate(loaded_models=service.loaded_models.view(choice)))


# --- wire ---


def wire_chat_tab(tab: ChatTab, service: ChatService, streaming: Streaming) -> None:
    """Every event of the tab. Several generators may run side by side: the pool and the engine guard the models."""
    # Must come before the picker's listeners: the page runs an event's listeners in turn, and after the redraw this
    # would remove what a Load that was pressed meanwhile has shown.
    gr.on([*tab.picker.changes, tab.dial.input], None, None, tab.loading.progress, js="() => ''")
    wire_choices(tab.picker, service.picker)
    visitor = partial(visitor_of, runs=service.runs, via="chat")
    _wire_replies(tab, service, streaming, visitor)
    _wire_loads(tab, service, streaming, visitor)
    _wire_tools(tab, service, visitor)


def _wire_replies(tab: ChatTab, service: ChatService, streaming: Streaming, visitor: VisitorOf) -> None:
    inputs = {tab.session, tab.storage.key, *tab.request_inputs}
    turns = Redraws()

    def in_turn(request: gr.Request, updates: Iterator[ChatUpdate]) -> Iterator[ChatUpdate]:
        """The updates until another level is asked, which ends this reply."""
        is_newest = turns.begin_redraw(str(request.session_hash))
        for update in updates:
            if not is_newest():
                return
            yield update

    def key_of(values: Values) -> str:
        return str(values[tab.storage.key] or "")

    def send(request: gr.Request, values: Values) -> Iterator[Updates]:
        chat_request = read_request(tab, values)
        session, text = values[tab.session], values[tab.message]
        updates = service.send_message(visitor(request), session, text, chat_request, key_of(values))
        for number, update in enumerate(in_turn(request, updates)):
            is_accepted = number == 0 and update.session is not None
            yield draw_update(tab, update) | ({tab.message: ""} if is_accepted else {})

    def send_example(text: str, request: gr.Request, values: Values) -> Iterator[Updates]:
        chat_request = read_request(tab, values)
        updates = service.send_message(visitor(request), values[tab.session], text, chat_request, key_of(values))
        for update in in_turn(request, updates):
            yield draw_update(tab, update)

    def regenerate(request: gr.Request, values: Values) -> Iterator[Updates]:
        chat_request = read_request(tab, values)
        updates = service.regenerate_reply(visitor(request), values[tab.session], chat_request, key_of(values))
        for update in in_turn(request, updates):
            yield draw_update(tab, update)

    def go_on(request: gr.Request, values: Values) -> Iterator[Updates]:
        chat_request = read_request(tab, values)
        updates = service.continue_reply(visitor(request), values[tab.session], chat_request, key_of(values))
        for update in in_turn(request, updates):
            yield draw_update(tab, update)

    def move_dial(request: gr.Request, values: Values) -> Iterator[Updates]:
        """The last question to another level. The dial shows it before the picker knows of it."""
        chat_request = read_request(tab, values)
        if level := read_level(values[tab.dial]):
            chat_request = replace(chat_request, choice=replace(chat_request.choice, level=level))
        growing = str(values[tab.storage.growing] or "")
        updates = service.swap_level(visitor(request), values[tab.session], chat_request, key_of(values), growing)
        for update in in_turn(request, updates):
            yield draw_update(tab, update)

    def stop(request: gr.Request) -> None:
        service.stop_work(visitor(request))

    sent = [tab.send.click, tab.message.submit]
    streaming.wire(sent, send, {*inputs, tab.message}, [*tab.outputs, tab.message], tab.growing)
    for button in tab.examples:
        work = partial(send_example, str(button.value))
        streaming.wire([button.click], work, inputs, tab.outputs, tab.growing)
    streaming.wire([tab.tools.regenerate.click], regenerate, inputs, tab.outputs, tab.growing)
    streaming.wire([tab.tools.go_on.click], go_on, inputs, tab.outputs, tab.growing)
    moved = {*inputs, tab.dial, tab.storage.growing}
    streaming.wire([tab.dial.input], move_dial, moved, tab.outputs, tab.growing, newest_wins=True)
    gr.on([tab.stop.click, tab.loading.cancel.click], stop, **_QUICK)
    tab.message.change(None, tab.message, tab.send, js=_SENDABLE_JS)


def _wire_loads(tab: ChatTab, service: ChatService, streaming: Streaming, visitor: VisitorOf) -> None:
    """Loading a model, and the list of models that are loaded."""
    picker, loading = tab.picker, tab.loading
    inputs = {*picker.inputs, loading.load}

    def load(allow_unfit: bool, request: gr.Request, values: Values) -> Iterator[Updates]:
        if values[loading.load] == UNLOAD and not allow_unfit:
            yield draw_update(tab, service.unload_model(picker.read_choice(values)))
            return
        for update in service.load_model(visitor(request), picker.read_choice(values), allow_unfit=allow_unfit):
            yield draw_update(tab, update)

    def choose_loaded_model(request: gr.Request, pressed: Any) -> Iterator[Updates]:
        choice = service.choose_loaded_model(visitor(request), str(pressed))
        for view in picker_views(picker, service.picker, request, choice, "page"):
            yield picker.choice_updates(view) | draw_loaded_models(tab, service, view.choice)

    streaming.wire([loading.load.click], partial(load, False), inputs, tab.outputs, tab.growing)
    streaming.wire([loading.anyway.click], partial(load, True), inputs, tab.outputs, tab.growing)
    chosen = [*picker.outputs, loading.loaded_models, loading.load]
    loading.loaded_models.input(choose_loaded_model, loading.loaded_models, chosen, **_PRIVATE)


def _wire_tools(tab: ChatTab, service: ChatService, visitor: VisitorOf) -> None:
    tools = tab.tools

    def detach(session: ChatSession) -> Updates:
        return draw_update(tab, ChatUpdate(replace(session, instructions=None)))

    tools.detach.click(detach, tab.session, tab.outputs, **_QUICK)
    for button, render, name, media_type in (
        (tools.save_markdown, as_markdown, "chat.md", "text/markdown"),
        (tools.save_json, as_json, "chat.json", "application/json"),
    ):
        save = button.click(_transcript_as(render), tab.session, tab.saved, **_QUICK)
        save.then(None, tab.saved, None, js=save_file_js(name, media_type))


def _transcript_as(render: Callable[..., str]) -> Callable[[ChatSession], str]:
    return lambda session: render(session.transcript())
