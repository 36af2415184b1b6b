"""The Chat tab laid out: which components there are, and where. What they do is chat_tab.py's to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from playground.app.model_picker import ModelPickerService
from playground.chat.session import ChatSession
from playground.web.html.page import empty_state
from playground.web.html.reply import context_meter, live_line
from playground.web.model_picker import PickerComponents, build_model_picker
from playground.web.widgets import button_rows

# The starter model answers these well; a larger model does too.
EXAMPLES: Final = (
    "What is 2+2?",
    "Why is the sky blue? Answer in one sentence.",
    "Write a short poem about the sea.",
    "Give me three tips for a good night's sleep.",
)

STEADY: Final = 0.3  # low, so that what differs between two levels is the level and not the dice


@dataclass(frozen=True)
class SamplingControls:
    """How a reply is drawn, in the field's words; the order is that of `wish`."""

    system: gr.Textbox
    temperature: gr.Slider
    top_k: gr.Slider
    top_p: gr.Slider
    min_p: gr.Slider
    repeat_penalty: gr.Slider
    max_tokens: gr.Slider
    seed: gr.Number

    @property
    def all(self) -> list[Any]:
        return [
            self.system, self.temperature, self.top_k, self.top_p, self.min_p, self.repeat_penalty, self.max_tokens,
            self.seed,
        ]  # fmt: skip


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

    @property
    def need_a_chat(self) -> list[gr.Button]:
        return [self.regenerate, self.edit, self.clear, self.save_markdown, self.save_json]


@dataclass(frozen=True)
class ChatTab:
    """The components that the rest of the app, and its tests, touch."""

    picker: PickerComponents
    load: gr.Button
    load_anyway: gr.Button
    cancel_load: gr.Button
    progress: gr.HTML
    loaded_models: gr.HTML  # what is in memory, with a button on each to join it
    parameters: SamplingControls
    talk: gr.State
    log: gr.Chatbot
    starters: list[gr.Button]
    live: gr.HTML
    meter: gr.HTML
    problem: gr.HTML
    attached: gr.HTML
    message: gr.Textbox
    send: gr.Button
    stop: gr.Button
    tools: ChatTools
    details: gr.HTML
    saved: gr.Textbox
    kept: gr.Textbox

    @property
    def drawn(self) -> list[Any]:
        return [
            self.talk, self.log, self.live, self.meter, self.details, self.problem, self.progress, self.load,
            self.load_anyway, self.cancel_load, self.send, self.stop, self.picker.models_changed, self.loaded_models,
            *self.tools.need_a_chat,
        ]  # fmt: skip

    @property
    def growing(self) -> list[Any]:
        """What changes many times a second while a level is made, a model loads or a reply is written."""
        return [self.log, self.live, self.meter, self.progress, self.picker.models_changed]


def build_chat_tab(service: ModelPickerService, most_tokens: int = 4096, tab_seconds: float | None = None) -> ChatTab:
    """Two columns on a desk, one on a phone, where the picker folds to a line above the chat."""
    with gr.Row(elem_classes="gp-page"):
        with gr.Column(elem_classes="gp-side"):
            picker = build_model_picker(service, "chat")
            with picker.actions:
                load = gr.Button("Load", variant="primary", elem_id="chat-load")
                progress = _html("", "chat-progress")
                cancel_load = gr.Button("Cancel", variant="stop", visible=False, elem_id="chat-cancel-load")
                load_anyway = gr.Button("Load anyway", variant="stop", visible=False, elem_id="chat-load-anyway")
                loaded_models = button_rows("", "chat-residents")
            parameters = _lay_out_parameters(most_tokens)
        with gr.Column(elem_classes="gp-chat"):
            talk = gr.State(ChatSession(), time_to_live=tab_seconds)
            with gr.Column(elem_classes="gp-log-place"):
                log = _lay_out_log()
                with gr.Row(elem_classes="gp-starters"):  # theme.css shows them while the chat is empty
                    starters = [
                        gr.Button(text, size="sm", elem_id=f"chat-start-{n}") for n, text in enumerate(EXAMPLES, 1)
                    ]
            with gr.Row(elem_classes="gp-status"):
                live = _html(live_line(None), "chat-live")
                meter = _html(context_meter(None, None), "chat-context-meter")
            problem = _html("", "chat-problem")
            attached = _html("", "chat-attached")
            message, send, stop = _lay_out_input()
            tools = _lay_out_tools()
            details = _html("", "chat-details")
            saved = gr.Textbox(visible="hidden", elem_id="chat-saved")
            kept = gr.Textbox(visible="hidden", elem_id="chat-kept")  # on its way to the browser tab's own storage
    return ChatTab(
        picker, load, load_anyway, cancel_load, progress, loaded_models, parameters, talk, log, starters, live, meter,
        problem, attached, message, send, stop, tools, details, saved, kept,
    )  # fmt: skip


def _html(value: str, elem_id: str) -> gr.HTML:
    return gr.HTML(value, apply_default_css=False, elem_id=elem_id)


def _lay_out_parameters(most_tokens: int) -> SamplingControls:
    with gr.Accordion("How it answers", open=False, elem_id="chat-parameters", elem_classes="gp-more"):
        return SamplingControls(
            system=gr.Textbox(
                label="System text", info="What the model is told before the chat begins.", lines=3, max_lines=8,
                elem_id="chat-system",
            ),
            temperature=_slider("Temperature", "0 takes the likeliest word; higher is more varied.", 0, 2, STEADY),
            top_k=_slider("Top-k", "Choose among so many likeliest tokens; 0 means all.", 0, 200, 40, 1),
            top_p=_slider("Top-p", "Choose among the likeliest that together reach this share.", 0.05, 1, 0.95, 0.01),
            min_p=_slider("Min-p", "Leave out what has less than this share of the best.", 0, 0.5, 0.05, 0.01),
            repeat_penalty=_slider("Repeat penalty", "1 is off; a little more avoids repetition.", 1, 1.5, 1, 0.01),
            max_tokens=_slider("Longest reply", "In tokens.", 16, most_tokens, min(1024, most_tokens), 16),
            seed=gr.Number(
                label="Seed", info="The same number throws the same dice; -1 throws new ones each time.", value=-1,
                precision=0, minimum=-1, maximum=2**32 - 2, elem_id="chat-seed",
            ),
        )  # fmt: skip


def _slider(label: str, info: str, least: float, most: float, usual: float, step: float = 0.05) -> gr.Slider:
    name = label.lower().replace(" ", "-")
    return gr.Slider(least, most, value=usual, step=step, label=label, info=info, elem_id=f"chat-{name}")


def _lay_out_log() -> gr.Chatbot:
    return gr.Chatbot(
        label="Chat",
        show_label=False,
        elem_id="chat-log",
        elem_classes="gp-log",
        layout="bubble",
        placeholder=empty_state("Ask the model something", "Write below, or take one of these. It loads by itself."),
        buttons=["copy"],
        latex_delimiters=[],
        feedback_options=None,
        group_consecutive_messages=False,
        allow_tags=False,
    )


def _lay_out_input() -> tuple[gr.Textbox, gr.Button, gr.Button]:
    with gr.Row(elem_classes="gp-input"):
        message = gr.Textbox(
            label="Your message",
            show_label=False,
            placeholder="Write a message",
            lines=1,
            max_lines=8,
            container=False,
            elem_id="chat-message",
        )
        send = gr.Button("Send", variant="primary", elem_id="chat-send", scale=0)
        stop = gr.Button("Stop", variant="stop", elem_id="chat-stop", scale=0, visible=False)
    return message, send, stop


def _lay_out_tools() -> ChatTools:
    def button(label: str, name: str, **kwargs: Any) -> gr.Button:
        return gr.Button(label, size="sm", elem_id=f"chat-{name}", **kwargs)

    with gr.Row(elem_classes="gp-tools"):
        return ChatTools(
            regenerate=button("Regenerate", "regenerate", interactive=False),
            edit=button("Edit last", "edit", interactive=False),
            clear=button("Clear", "clear", interactive=False),
            save_markdown=button("Save as Markdown", "save-markdown", interactive=False),
            save_json=button("Save as JSON", "save-json", interactive=False),
            attach=gr.UploadButton("Attach instructions", size="sm", file_types=[".md", ".txt"], elem_id="chat-attach"),
            detach=button("Remove instructions", "detach", visible=False),
        )
