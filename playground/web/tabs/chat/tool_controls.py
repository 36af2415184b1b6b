"""The components of the tools: whether a model may call any, the text that they read, the question before a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from playground.app.chat.tools import read_tool_use
from playground.app.chat.updates import Phase, ToolUse
from playground.chat.session import ChatSession
from playground.web.html.tool_cards import asked_line, attached_line
from playground.web.streaming import Updates, Values

_CHOICES: Final = (("Off", "off"), ("Ask before each call", "ask"), ("Run without asking", "allowed"))


@dataclass(frozen=True)
class ToolControls:
    """use: off, ask, allowed. attach, attached, detach: the text for the tools. asked, run, refuse: before a call."""

    use: gr.Radio
    attach: gr.UploadButton
    attached: gr.HTML
    detach: gr.Button
    asked: gr.HTML
    run: gr.Button
    refuse: gr.Button

    def read_use(self, values: Values) -> ToolUse:
        return read_tool_use(values[self.use])

    @property
    def outputs(self) -> list[Any]:
        return [self.attach, self.attached, self.detach, self.asked, self.run, self.refuse]


def build_tool_settings(servers: Sequence[str]) -> tuple[gr.Radio, gr.UploadButton, gr.HTML, gr.Button]:
    """A folded panel among the settings. servers: the names of the MCP servers whose tools are offered, too."""
    more = f" And the tools of the MCP servers: {', '.join(servers)}." if servers else ""
    with gr.Accordion("Tools", open=False, elem_id="chat-tools-settings", elem_classes="gp-more"):
        use = gr.Radio(
            list(_CHOICES), value="off", label="Tools that the model may call",
            info=f"A calculator, the date, a word counter, and a text that you attach here.{more}",
            elem_id="chat-tools-use",
        )  # fmt: skip
        attached = gr.HTML("", apply_default_css=False, elem_id="chat-tools-attached")
        attach = gr.UploadButton(
            "Attach a text for the tools", size="sm", file_types=[".md", ".txt"], elem_id="chat-tools-attach"
        )
        detach = gr.Button("Remove the text", size="sm", visible=False, elem_id="chat-tools-detach")
    return use, attach, attached, detach


def build_tool_question(settings: tuple[gr.Radio, gr.UploadButton, gr.HTML, gr.Button]) -> ToolControls:
    """The row that asks before a call runs; tools.css hides it while nothing is asked."""
    use, attach, attached, detach = settings
    with gr.Row(elem_classes="gp-ask-row"):
        asked = gr.HTML("", apply_default_css=False, elem_id="chat-tools-asked")
        run = gr.Button("Run", size="sm", variant="primary", elem_id="chat-tools-run")
        refuse = gr.Button("Don’t run", size="sm", elem_id="chat-tools-refuse")
    return ToolControls(use, attach, attached, detach, asked, run, refuse)


def draw_tools(controls: ToolControls, session: ChatSession, phase: Phase | None) -> Updates:
    """What the tools' own parts show of a chat."""
    has_text = session.attached is not None
    return {
        controls.asked: asked_line(session) if phase == "rest" else "",
        controls.attached: attached_line(session.attached),
        controls.detach: gr.Button(visible=has_text),
    }
