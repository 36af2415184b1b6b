"""The components of the Chat tab and where they stand. tab.py draws into them and wires them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from playground.app.chat.updates import ContextUse
from playground.app.compare.dial import Dial
from playground.app.model_picker.service import ModelPickerService
from playground.chat.markdown_escape import LATEX_DELIMITERS
from playground.chat.prompts import load_example_prompts
from playground.chat.session import ChatSession
from playground.settings import Settings
from playground.web.html.dial import level_value, slim_dial_rows
from playground.web.html.page import empty_state
from playground.web.html.reply import context_gauge, live_line
from playground.web.model_picker.picker import PickerComponents, build_model_picker
from playground.web.tabs.chat.tool_controls import ToolControls, build_tool_question, build_tool_settings
from playground.web.widgets import (
    SamplingControls,
    build_dial,
    build_sampling_controls,
    button_rows,
    hidden_text,
    javascript,
)

LOAD: Final = "Load"
UNLOAD: Final = "In memory · Unload"  # the same button, while the chosen model is loaded


@dataclass(frozen=True)
class LoadControls:
    """Loading the chosen model before a question does, and the models in memory. anyway: where it does not fit."""

    load: gr.Button
    progress: gr.HTML
    cancel: gr.Button
    anyway: gr.Button
    loaded_models: gr.HTML


@dataclass(frozen=True)
class ChatTools:
    """The quiet buttons below the message box."""

    undo: gr.Button
    go_on: gr.Button
    regenerate: gr.Button
    edit: gr.Button
    save_markdown: gr.Button
    save_json: gr.Button
    open: gr.UploadButton
    attach: gr.UploadButton
    detach: gr.Button
    clear: gr.Button


@dataclass(frozen=True)
class TabStorage:
    """Hidden parts through which texts go to the storage of the browser's tab and back.

    chat: as JSON, as `ChatSession.to_stored_text` writes it. growing: the reply that is being written, as JSON; "" at
    rest. key: finds that reply on the server. settings: those of the page, only on their way back. own_address: "own"
    where the page was opened with the address that this tab wrote itself. shelf: of skills, which all tabs of the
    browser share.
    """

    chat: gr.Textbox
    growing: gr.Textbox
    key: gr.Textbox
    settings: gr.Textbox
    own_address: gr.Textbox
    shelf: gr.Textbox


@dataclass(frozen=True)
class ChatTab:
    """The components of the tab. pencils: which message is to be edited, by its number among the person's own."""

    picker: PickerComponents
    loading: LoadControls
    sampling: SamplingControls
    session: gr.State
    dial: gr.HTML
    log: gr.Chatbot
    keep_other: gr.Button
    keep_newest: gr.Button
    examples: list[gr.Button]
    live: gr.HTML
    gauge: gr.HTML
    problem: gr.HTML
    not_restored: gr.HTML
    attached: gr.HTML
    skills: gr.HTML
    message: gr.Textbox
    send: gr.Button
    stop: gr.Button
    cancel_edit: gr.Button
    tools: ChatTools
    tool_controls: ToolControls
    pencils: gr.HTML
    details: gr.HTML
    saved: gr.Textbox
    storage: TabStorage

    @property
    def request_inputs(self) -> set[Any]:
        """What `read_request` needs."""
        return {*self.picker.inputs, *vars(self.sampling).values(), self.tool_controls.use}

    @property
    def growing(self) -> list[Any]:
        """What changes several times a second while a level is made, a model loads or a reply is written."""
        shown = [self.log, self.live, self.gauge, self.loading.progress]
        return [*shown, self.picker.models_changed, self.storage.growing]

    @property
    def outputs(self) -> list[Any]:
        """What `draw_update` may change."""
        loading = self.loading
        buttons = [loading.load, loading.cancel, loading.anyway, self.send, self.stop, self.cancel_edit]
        buttons += [self.keep_other, self.keep_newest]
        texts = [self.details, self.problem, self.not_restored, self.attached]
        others = [self.session, loading.loaded_models, self.storage.chat]
        return [*self.growing, *buttons, *vars(self.tools).values(), *self.tool_controls.outputs, *texts, *others]


def build_chat_tab(service: ModelPickerService, settings: Settings, tool_servers: Sequence[str] = ()) -> ChatTab:
    """Two columns on a wide screen; one on a phone, where the picker folds to a line above the chat."""
    with gr.Row(elem_classes="gp-page"):
        with gr.Column(elem_classes="gp-side"):
            picker = build_model_picker(service, "chat")
            with picker.actions:
                loading = _build_load_controls()
            sampling = build_sampling_controls(settings.max_reply_tokens)
            tool_settings = build_tool_settings(tool_servers)
        with gr.Column(elem_classes="gp-chat"):
            session = gr.State(ChatSession(), time_to_live=settings.tab_seconds)
            dial = build_dial(level_value(None), slim_dial_rows(Dial()), "chat-dial", "gp-slim-dial")
            # What comes and goes takes its room from the messages: what stands below them never moves.
            with gr.Column(elem_classes="gp-log-area"):
                with gr.Column(elem_classes="gp-log-place"):
                    log = gr.Chatbot(
                        show_label=False, label="Chat", layout="bubble", buttons=["copy"], editable="user",
                        latex_delimiters=LATEX_DELIMITERS, feedback_options=None, group_consecutive_messages=False,
                        allow_tags=False, elem_id="chat-log", elem_classes="gp-log",
                        placeholder=empty_state(
                            "Ask the model something",
                            "Type a message or try one of these. The model loads automatically.",
                        ),
                    )  # fmt: skip
                    with gr.Row(elem_classes="gp-starters"):  # theme.css shows them while the chat is empty
                        examples = [
                            _button(text, f"start-{number}", size="sm")
                            for number, text in enumerate(load_example_prompts(), 1)
                        ]
                with gr.Row(elem_classes="gp-keep"):
                    keep_other = _button("Keep", "keep-other", size="sm", visible=False)
                    keep_newest = _button("Keep", "keep-newest", size="sm", visible=False)
                    undo = _button("Undo", "undo", size="sm", visible=False)
                    go_on = _button("Continue", "continue", size="sm", visible=False)
                not_restored = _html("not-restored")
                tool_controls = build_tool_question(tool_settings)
                problem = _html("problem")
                attached = _html("attached")
                skills = button_rows("", "chat-skills")
            with gr.Row(elem_classes="gp-status"):
                live = _html("live", live_line(None))
                gauge = _html("context-meter", context_gauge(ContextUse()))
            with gr.Row(elem_classes="gp-input"):
                message = gr.Textbox(
                    label="Your message", show_label=False, placeholder="Type a message", lines=1, max_lines=8,
                    container=False, elem_id="chat-message",
                )  # fmt: skip
                send = _button("Send", "send", variant="primary", scale=0, interactive=False)
                cancel_edit = _button("Cancel", "cancel-edit", scale=0, visible=False)
                stop = _button("Stop", "stop", variant="stop", scale=0, visible=False)
            tools = _build_tools(undo, go_on)
            pencils = gr.HTML(
                "", js_on_load=javascript("edit_pencils.js"), elem_classes="gp-never", elem_id="chat-pencils"
            )
            details = _html("details")
            saved = _never_shown("saved")
            storage = _build_storage()
    return ChatTab(
        picker=picker,
        loading=loading,
        sampling=sampling,
        session=session,
        dial=dial,
        log=log,
        keep_other=keep_other,
        keep_newest=keep_newest,
        examples=examples,
        live=live,
        gauge=gauge,
        problem=problem,
        not_restored=not_restored,
        attached=attached,
        skills=skills,
        message=message,
        send=send,
        stop=stop,
        cancel_edit=cancel_edit,
        tools=tools,
        tool_controls=tool_controls,
        pencils=pencils,
        details=details,
        saved=saved,
        storage=storage,
    )


def _build_load_controls() -> LoadControls:
    return LoadControls(
        load=_button(LOAD, "load"),
        progress=_html("progress"),
        cancel=_button("Cancel", "cancel-load", variant="stop", visible=False),
        anyway=_button("Load anyway", "load-anyway", variant="stop", visible=False),
        loaded_models=button_rows("", "chat-residents"),
    )


def _build_storage() -> TabStorage:
    return TabStorage(
        chat=_never_shown("kept"),
        growing=_never_shown("growing"),
        key=_never_shown("key"),
        settings=_never_shown("settings"),
        own_address=_never_shown("own-address"),
        shelf=_never_shown("shelf"),
    )


def _build_tools(undo: gr.Button, go_on: gr.Button) -> ChatTools:
    with gr.Row(elem_classes="gp-tools"):
        return ChatTools(
            undo=undo,
            go_on=go_on,
            regenerate=_button("Regenerate", "regenerate", size="sm", interactive=False),
            edit=_button("Edit last", "edit", size="sm", interactive=False),
            save_markdown=_button("Save as Markdown", "save-markdown", size="sm", interactive=False),
            save_json=_button("Save as JSON", "save-json", size="sm", interactive=False),
            open=gr.UploadButton("Open a chat", size="sm", file_types=[".json"], elem_id="chat-open"),
            attach=gr.UploadButton("Add a skill", size="sm", file_types=[".md", ".txt"], elem_id="chat-attach"),
            detach=_button("Remove instructions", "detach", size="sm", visible=False),
            clear=_button("Clear", "clear", size="sm", interactive=False),
        )


def _button(label: str, name: str, **properties: Any) -> gr.Button:
    return gr.Button(label, elem_id=f"chat-{name}", **properties)


def _html(name: str, value: str = "") -> gr.HTML:
    return gr.HTML(value, apply_default_css=False, elem_id=f"chat-{name}")


def _never_shown(name: str) -> gr.Textbox:
    return hidden_text(f"chat-{name}")
