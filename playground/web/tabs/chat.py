"""The Chat tab: a model picker, sampling settings, the chat with its live figures.

Three parts: lay out the components, react to what the application yields, wire the events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import gradio as gr

from playground.app.chat import ChatRequest, ChatService, ChatUpdate, ContextUse, LoadReport, ReplyActivity
from playground.app.messages import CLEAR
from playground.app.model_choice import ModelChoice
from playground.app.model_picker import ModelPickerService
from playground.chat.export import as_json, as_markdown
from playground.chat.markdown_escape import LATEX_DELIMITERS
from playground.chat.prompts import load_example_prompts
from playground.chat.session import ChatSession
from playground.limits.runs import Visitor
from playground.settings import Settings
from playground.web.html.loaded_models import loaded_models_card
from playground.web.html.page import empty_state, notice, status_message
from playground.web.html.reply import (
    chatbot_messages,
    context_gauge,
    instructions_line,
    live_line,
    load_report,
    reply_details,
)
from playground.web.model_picker import PickerComponents, build_model_picker, wire_model_picker
from playground.web.server.sessions import visitor_of
from playground.web.server.uploads import discard_upload
from playground.web.streaming import Streaming, Updates, Values
from playground.web.widgets import SamplingControls, build_sampling_controls, button_rows, change_stamp, save_file_js

# A browser tab's own storage: it survives a reload, other tabs do not see it, and the server keeps nothing.
_STORE_JS: Final = (
    "text => { try { sessionStorage.setItem('gguf-playground-chat', text); } catch { /* full, or off */ } }"
)
_STORED_JS: Final = (
    "() => { try { return sessionStorage.getItem('gguf-playground-chat') || ''; } catch { return ''; } }"
)
_SENDABLE_JS: Final = "text => ({__type__: 'update', interactive: text.trim() !== ''})"

_PRIVATE: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}
_QUICK: Final[dict[str, Any]] = {**_PRIVATE, "queue": False}

VisitorOf = Callable[[gr.Request], Visitor]


# --- lay out ---


@dataclass(frozen=True)
class ChatTools:
    """The quiet buttons below the message box."""

    regenerate: gr.Button
    edit: gr.Button
    clear: gr.Button
    save_markdown: gr.Button
    save_json: gr.Button
    attach: gr.UploadButton
    detach: gr.Button


@dataclass(frozen=True)
class ChatTab:
    """The components of the tab. stored: the chat on its way to the browser's storage and back."""

    picker: PickerComponents
    load: gr.Button
    cancel_load: gr.Button
    load_anyway: gr.Button
    progress: gr.HTML
    loaded_models: gr.HTML
    sampling: SamplingControls
    session: gr.State
    log: gr.Chatbot
    examples: list[gr.Button]
    live: gr.HTML
    gauge: gr.HTML
    problem: gr.HTML
    attached: gr.HTML
    message: gr.Textbox
    send: gr.Button
    stop: gr.Button
    tools: ChatTools
    details: gr.HTML
    saved: gr.Textbox
    stored: gr.Textbox

    @property
    def request_inputs(self) -> set[Any]:
        """What `read_request` needs."""
        return {*self.picker.inputs, *vars(self.sampling).values()}

    @property
    def growing(self) -> list[Any]:
        """What changes several times a second while a level is made, a model loads or a reply is written."""
        return [self.log, self.live, self.gauge, self.progress, self.picker.models_changed]

    @property
    def outputs(self) -> list[Any]:
        """What `draw_update` may change."""
        buttons = [self.load, self.cancel_load, self.load_anyway, self.send, self.stop, *vars(self.tools).values()]
        others = [self.session, self.details, self.problem, self.attached, self.loaded_models]
        return [*self.growing, *buttons, *others]


def build_chat_tab(service: ModelPickerService, settings: Settings) -> ChatTab:
    """Two columns on a wide screen; one on a phone, where the picker folds to a line above the chat."""
    with gr.Row(elem_classes="gp-page"):
        with gr.Column(elem_classes="gp-side"):
            picker = build_model_picker(service, "chat")
            with picker.actions:
                load = _button("Load", "load", variant="primary")
                progress = _html("progress")
                cancel_load = _button("Cancel", "cancel-load", variant="stop", visible=False)
                load_anyway = _button("Load anyway", "load-anyway", variant="stop", visible=False)
                loaded_models = button_rows("", "chat-residents")
            sampling = build_sampling_controls(settings.max_reply_tokens)
        with gr.Column(elem_classes="gp-chat"):
            session = gr.State(ChatSession(), time_to_live=settings.tab_seconds)
            with gr.Column(elem_classes="gp-log-place"):
                log = gr.Chatbot(
                    show_label=False, label="Chat", layout="bubble", buttons=["copy"],
                    latex_delimiters=LATEX_DELIMITERS, feedback_options=None, group_consecutive_messages=False,
                    allow_tags=False, elem_id="chat-log", elem_classes="gp-log",
                    placeholder=empty_state(
                        "Ask the model something", "Type a message or try one of these. The model loads automatically."
                    ),
                )  # fmt: skip
                with gr.Row(elem_classes="gp-starters"):  # theme.css shows them while the chat is empty
                    examples = [
                        _button(text, f"start-{number}", size="sm")
                        for number, text in enumerate(load_example_prompts(), 1)
                    ]
            with gr.Row(elem_classes="gp-status"):
                live = _html("live", live_line(None))
                gauge = _html("context-meter", context_gauge(ContextUse()))
            problem = _html("problem")
            attached = _html("attached")
            with gr.Row(elem_classes="gp-input"):
                message = gr.Textbox(
                    label="Your message", show_label=False, placeholder="Type a message", lines=1, max_lines=8,
                    container=False, elem_id="chat-message",
                )  # fmt: skip
                send = _button("Send", "send", variant="primary", scale=0, interactive=False)
                stop = _button("Stop", "stop", variant="stop", scale=0, visible=False)
            tools = _build_tools()
            details = _html("details")
            saved = gr.Textbox(visible="hidden", elem_classes="gp-never", elem_id="chat-saved")
            stored = gr.Textbox(visible="hidden", elem_classes="gp-never", elem_id="chat-kept")
    return ChatTab(
        picker=picker,
        load=load,
        cancel_load=cancel_load,
        load_anyway=load_anyway,
        progress=progress,
        loaded_models=loaded_models,
        sampling=sampling,
        session=session,
        log=log,
        examples=examples,
        live=live,
        gauge=gauge,
        problem=problem,
        attached=attached,
        message=message,
        send=send,
        stop=stop,
        tools=tools,
        details=details,
        saved=saved,
        stored=stored,
    )


def _build_tools() -> ChatTools:
    with gr.Row(elem_classes="gp-tools"):
        return ChatTools(
            regenerate=_button("Regenerate", "regenerate", size="sm", interactive=False),
            edit=_button("Edit last", "edit", size="sm", interactive=False),
            clear=_button("Clear", "clear", size="sm", interactive=False),
            save_markdown=_button("Save as Markdown", "save-markdown", size="sm", interactive=False),
            save_json=_button("Save as JSON", "save-json", size="sm", interactive=False),
            attach=gr.UploadButton("Attach instructions", size="sm", file_types=[".md", ".txt"], elem_id="chat-attach"),
            detach=_button("Remove instructions", "detach", size="sm", visible=False),
        )


def _button(label: str, name: str, **properties: Any) -> gr.Button:
    return gr.Button(label, elem_id=f"chat-{name}", **properties)


def _html(name: str, value: str = "") -> gr.HTML:
    return gr.HTML(value, apply_default_css=False, elem_id=f"chat-{name}")


# --- react ---


def read_request(tab: ChatTab, values: Values) -> ChatRequest:
    """What the picker and the sampling settings hold."""
    controls = tab.sampling
    return ChatRequest(
        choice=tab.picker.read_choice(values),
        system=str(values[controls.system] or ""),
        sampling=controls.read_sampling(values),
        max_tokens=int(values[controls.max_tokens]),
    )


def draw_update(tab: ChatTab, update: ChatUpdate) -> Updates:
    """The new values of the components that the update changes."""
    drawn: Updates = {}
    if update.activity:
        now = update.activity
        drawn[tab.live] = live_line(now.event, stopped=now.stopped_by, load_seconds=now.load_seconds)
    if update.context:
        drawn[tab.gauge] = context_gauge(update.context)
    if update.details:
        drawn[tab.details] = reply_details(update.details)
    elif update.phase == "replying":
        drawn[tab.details] = ""  # those of the reply before
    if update.problem:
        drawn[tab.problem] = status_message(update.problem)
    if isinstance(update.progress, LoadReport):
        drawn[tab.progress] = load_report(update.progress)
    elif update.progress:
        drawn[tab.progress] = status_message(update.progress)
    if update.session:
        drawn[tab.log] = chatbot_messages(update.session.conversation.messages, update.growing)
        if update.growing is None:  # the state changes when the reply is whole
            drawn |= _draw_session(tab, update.session)
    if update.has_new_level:
        drawn[tab.picker.models_changed] = change_stamp()
    if update.loaded_models is not None:
        drawn[tab.loaded_models] = gr.HTML(value="", rows=loaded_models_card(update.loaded_models))
    if update.may_load_anyway is not None:
        drawn[tab.load_anyway] = gr.Button(visible=update.may_load_anyway)
    if update.phase:
        drawn |= _draw_phase(tab, update)
    return drawn


def _draw_session(tab: ChatTab, session: ChatSession) -> Updates:
    return {
        tab.session: session,
        tab.attached: instructions_line(session.instructions),
        tab.tools.detach: gr.Button(visible=session.instructions is not None),
    }


def _draw_phase(tab: ChatTab, update: ChatUpdate) -> Updates:
    tools, busy = tab.tools, update.phase != "rest"
    drawn: Updates = {
        tab.load: gr.Button(visible=update.phase != "loading", interactive=not busy),
        tab.cancel_load: gr.Button(visible=update.phase == "loading"),
        tab.send: gr.Button(visible=not busy),
        tab.stop: gr.Button(visible=update.phase == "replying"),
    }
    if update.session:
        usable = not busy and not update.session.is_empty
        need_a_chat = (tools.regenerate, tools.edit, tools.clear, tools.save_markdown, tools.save_json)
        drawn |= {button: gr.Button(interactive=usable) for button in need_a_chat}
        drawn[tools.attach] = gr.UploadButton(interactive=not busy)
        drawn[tools.detach] = gr.Button(visible=update.session.instructions is not None, interactive=not busy)
    return drawn


# --- wire ---


def wire_chat_tab(page: gr.Blocks, tab: ChatTab, service: ChatService, streaming: Streaming) -> None:
    """Every event of the tab. Several generators may run side by side: the pool and the engine guard the models."""
    # Must come before the picker's listeners: the page runs an event's listeners in turn, and after the redraw this
    # would remove what a Load that was pressed meanwhile has shown.
    gr.on(tab.picker.changes, None, None, tab.progress, js="() => ''")
    wire_model_picker(page, tab.picker, service.picker)
    visitor = partial(visitor_of, runs=service.runs, via="chat")
    _wire_replies(tab, service, streaming, visitor)
    _wire_loads(page, tab, service, streaming, visitor)
    _wire_tools(tab, service, visitor)

    def restore(request: gr.Request, stored: str) -> Updates:
        return draw_update(tab, service.restore_session(visitor(request), stored))

    page.load(restore, tab.stored, tab.outputs, js=_STORED_JS, **_QUICK)


def _wire_replies(tab: ChatTab, service: ChatService, streaming: Streaming, visitor: VisitorOf) -> None:
    inputs = {tab.session, *tab.request_inputs}

    def send(request: gr.Request, values: Values) -> Iterator[Updates]:
        chat_request = read_request(tab, values)
        updates = service.send_message(visitor(request), values[tab.session], values[tab.message], chat_request)
        for number, update in enumerate(updates):
            is_accepted = number == 0 and update.session is not None
            yield draw_update(tab, update) | ({tab.message: ""} if is_accepted else {})

    def send_example(text: str, request: gr.Request, values: Values) -> Iterator[Updates]:
        for update in service.send_message(visitor(request), values[tab.session], text, read_request(tab, values)):
            yield draw_update(tab, update)

    def regenerate(request: gr.Request, values: Values) -> Iterator[Updates]:
        for update in service.regenerate_reply(visitor(request), values[tab.session], read_request(tab, values)):
            yield draw_update(tab, update)

    def stop(request: gr.Request) -> None:
        service.stop_work(visitor(request))

    sent = [tab.send.click, tab.message.submit]
    ends = [streaming.wire(sent, send, {*inputs, tab.message}, [*tab.outputs, tab.message], tab.growing)]
    for button in tab.examples:
        work = partial(send_example, str(button.value))
        ends.append(streaming.wire([button.click], work, inputs, tab.outputs, tab.growing))
    ends.append(streaming.wire([tab.tools.regenerate.click], regenerate, inputs, tab.outputs, tab.growing))
    for end in ends:
        _store_after(end, tab)
    gr.on([tab.stop.click, tab.cancel_load.click], stop, **_QUICK)
    tab.message.change(None, tab.message, tab.send, js=_SENDABLE_JS)


def _wire_loads(page: gr.Blocks, tab: ChatTab, service: ChatService, streaming: Streaming, visitor: VisitorOf) -> None:
    """Loading a model, and the list of models that are loaded."""
    picker = tab.picker
    inputs = picker.inputs

    def load(allow_unfit: bool, request: gr.Request, values: Values) -> Iterator[Updates]:
        for update in service.load_model(visitor(request), picker.read_choice(values), allow_unfit=allow_unfit):
            yield draw_update(tab, update)

    def draw_loaded_models(choice: ModelChoice) -> Updates:
        return draw_update(tab, ChatUpdate(loaded_models=service.loaded_models.view(choice)))

    def list_loaded_models(values: Values) -> Updates:
        return draw_loaded_models(picker.read_choice(values))

    def choose_loaded_model(request: gr.Request, pressed: Any) -> Iterator[Updates]:
        choice = service.choose_loaded_model(visitor(request), str(pressed))
        for view in service.picker.views(choice):
            yield picker.choice_updates(view) | draw_loaded_models(view.choice)

    streaming.wire([tab.load.click], partial(load, False), inputs, tab.outputs, tab.growing)
    streaming.wire([tab.load_anyway.click], partial(load, True), inputs, tab.outputs, tab.growing)
    gr.on(
        [page.load, picker.line.change], list_loaded_models, inputs, tab.loaded_models,
        trigger_mode="always_last", **_QUICK,
    )  # fmt: skip
    tab.loaded_models.input(choose_loaded_model, tab.loaded_models, [*picker.outputs, tab.loaded_models], **_PRIVATE)


def _wire_tools(tab: ChatTab, service: ChatService, visitor: VisitorOf) -> None:
    tools = tab.tools

    def edit(session: ChatSession) -> Updates:
        hint = notice("Change your last message and send it. It replaces the old one and its reply.")
        return {tab.session: replace(session, is_editing=True), tab.message: session.last_question, tab.problem: hint}

    def clear(session: ChatSession) -> Updates:
        update = ChatUpdate(
            session.cleared(), phase="rest", activity=ReplyActivity(), context=ContextUse(), problem=CLEAR,
            progress=CLEAR,
        )  # fmt: skip
        return draw_update(tab, update) | {tab.details: ""}

    def attach(request: gr.Request, path: str, session: ChatSession) -> Updates:
        try:
            return draw_update(tab, service.attach_instructions(visitor(request), session, Path(path)))
        finally:
            discard_upload(path)

    def detach(session: ChatSession) -> Updates:
        return draw_update(tab, ChatUpdate(replace(session, instructions=None)))

    tools.edit.click(edit, tab.session, [tab.session, tab.message, tab.problem], **_QUICK)
    _store_after(tools.clear.click(clear, tab.session, tab.outputs, **_QUICK), tab)
    tools.attach.upload(attach, [tools.attach, tab.session], tab.outputs, **_QUICK)
    tools.detach.click(detach, tab.session, tab.outputs, **_QUICK)
    for button, render, name, media_type in (
        (tools.save_markdown, as_markdown, "chat.md", "text/markdown"),
        (tools.save_json, as_json, "chat.json", "application/json"),
    ):
        save = button.click(_transcript_as(render), tab.session, tab.saved, **_QUICK)
        save.then(None, tab.saved, None, js=save_file_js(name, media_type))


def _transcript_as(render: Callable[..., str]) -> Callable[[ChatSession], str]:
    return lambda session: render(session.transcript())


def _store_after(event: Any, tab: ChatTab) -> None:
    """Let the browser keep the chat for a reload."""
    stored = event.then(lambda session: session.to_stored_text(), tab.session, tab.stored, **_QUICK)
    stored.then(None, tab.stored, None, js=_STORE_JS)
