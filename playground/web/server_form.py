"""Where a person enters an OpenAI-compatible server: its address, a name for it, its key.

Lays out and wires; what is a server, and whether it answers, is servers.py's to say. The key leaves the page's field
as soon as it was taken, and nothing sends it back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from playground.app.refusals import error_message
from playground.app.servers import Servers
from playground.errors import PlaygroundError
from playground.limits.runs import Visitor
from playground.web.html.page import notice


@dataclass(frozen=True)
class ServerForm:
    """Its components."""

    address: gr.Textbox
    name: gr.Textbox
    key: gr.Textbox
    add: gr.Button
    said: gr.HTML


def build_server_form(group: str) -> ServerForm:
    """Folded away inside the column that is open; `group` names it once per page."""
    with gr.Accordion("A server with more models", open=False, elem_classes="gp-more", elem_id=f"{group}-server"):
        address = gr.Textbox(
            label="Address",
            info="Of an OpenAI-compatible server: llama-server, vLLM, SGLang, LM Studio …",
            placeholder="http://192.168.1.20:8000/v1",
            max_lines=1,
            elem_id=f"{group}-server-address",
        )
        name = gr.Textbox(
            label="Name", placeholder="such as workshop", max_lines=1, elem_id=f"{group}-server-name"
        )  # fmt: skip
        key = gr.Textbox(
            label="Key", info="If it wants one.", type="password", max_lines=1, elem_id=f"{group}-server-key"
        )  # fmt: skip
        add = gr.Button("Ask for its models", elem_id=f"{group}-server-add")
        said = gr.HTML("", apply_default_css=False, elem_id=f"{group}-server-said")
    return ServerForm(address, name, key, add, said)


def wire_server_form(
    form: ServerForm,
    servers: Servers,
    visitor: Callable[[gr.Request], Visitor],
    news: gr.Textbox,
    new_news: Callable[[], str],
) -> None:
    """Adds the server and lets every picker know; news: what the pickers listen to, new_news: another value for it."""

    def add(request: gr.Request, address: str, name: str, key: str) -> dict[Any, Any]:
        try:
            said = servers.add(str(name or ""), str(address or ""), str(key or ""))
        except PlaygroundError as error:
            return {form.said: error_message(error, visitor(request))}
        return {form.said: notice(said, "good"), form.key: "", form.name: "", form.address: "", news: new_news()}

    gr.on(
        [form.add.click, form.key.submit, form.address.submit],
        add,
        [form.address, form.name, form.key],
        [form.said, form.key, form.name, form.address, news],
        show_progress="hidden",
        api_visibility="private",
    )
