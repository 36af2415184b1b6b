"""The part of the model picker in which a person connects an OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import gradio as gr

from playground.app.messages import Notice, log_refusal
from playground.app.servers import Servers
from playground.errors import PlaygroundError
from playground.limits.visitor import Visitor
from playground.web.html.page import status_message
from playground.web.streaming import Updates, Values
from playground.web.widgets import change_stamp

_QUIET: Final[dict[str, Any]] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class ServerForm:
    """The components in which a person enters an OpenAI-compatible server."""

    address: gr.Textbox
    name: gr.Textbox
    key: gr.Textbox
    add: gr.Button
    message: gr.HTML


def build_server_form(group: str) -> ServerForm:
    with gr.Accordion("Connect a server", open=False, elem_classes="gp-more", elem_id=f"{group}-server"):
        address = gr.Textbox(
            label="Address",
            info="Any OpenAI-compatible server: llama-server, vLLM, SGLang, LM Studio …",
            placeholder="http://192.168.1.20:8000/v1",
            max_lines=1,
            elem_id=f"{group}-server-address",
        )
        name = gr.Textbox(
            label="Name (optional)", placeholder="such as workshop", max_lines=1, elem_id=f"{group}-server-name"
        )
        key = gr.Textbox(label="API key (optional)", type="password", max_lines=1, elem_id=f"{group}-server-key")
        add = gr.Button("Connect", elem_id=f"{group}-server-add")
        message = gr.HTML("", apply_default_css=False, elem_id=f"{group}-server-said")
    return ServerForm(address=address, name=name, key=key, add=add, message=message)


def wire_server_form(
    form: ServerForm, servers: Servers, visitor: Callable[..., Visitor], models_changed: gr.Textbox
) -> None:
    """Adds the server. The key leaves the page's field as soon as it was taken, and nothing sends it back."""

    def add(request: gr.Request, values: Values) -> Updates:
        name, address, key = (str(values[part] or "") for part in (form.name, form.address, form.key))
        try:
            success = servers.add_server(name, address, key)
        except PlaygroundError as error:
            log_refusal(error, visitor(request))
            return {form.message: status_message(error)}
        emptied = dict.fromkeys((form.key, form.name, form.address), "")
        return {form.message: status_message(Notice(success, "good")), models_changed: change_stamp(), **emptied}

    gr.on(
        [form.add.click, form.key.submit, form.address.submit],
        add,
        {form.address, form.name, form.key},
        [form.message, form.key, form.name, form.address, models_changed],
        **_QUIET,
    )
