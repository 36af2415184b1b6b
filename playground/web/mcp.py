"""The API's endpoints as tools of an MCP server, which Gradio makes of them where it is switched on.

Gradio's tools call the page over this computer's own network, as one more program. So what the page knows of the caller
has to be carried over: that it may come in, and from where it came. And what comes back is given on as JSON.
"""

from __future__ import annotations

import json
from collections.abc import MutableMapping, Sequence
from importlib.util import find_spec
from typing import Any

import gradio as gr
from gradio_client import Client

from playground.errors import PlaygroundError
from playground.settings import Settings


def check_mcp(settings: Settings) -> None:
    """Raises PlaygroundError where the tools are wanted and the package for them is not there."""
    if settings.mcp and find_spec("mcp") is None:
        raise PlaygroundError(
            "PLAYGROUND_MCP is on, and the package mcp is not installed.",
            "Install it with .venv/bin/python -m pip install -e .[mcp], or switch it off.",
        )


def prepare_tools(page: gr.Blocks, settings: Settings) -> None:
    """Let the tools answer in JSON, and sign them in where there is a password: their callers show it to the gate."""
    tools: Any = page.mcp_server_obj
    if tools is None:
        return
    tools.postprocess_output_data = _as_json
    password = settings.password.get_secret_value()
    if password:
        tools._client_instance = Client(
            tools.local_url or page.local_url or "",
            auth=("mcp", password),
            headers={"x-gradio-user": "mcp"},
            download_files=False,
            verbose=False,
            analytics_enabled=False,
            ssl_verify=False,
            _skip_components=False,
        )


def _as_json(answers: Sequence[Any], root_url: str) -> list[Any]:
    from mcp.types import TextContent

    return [TextContent(type="text", text=json.dumps(answer, ensure_ascii=False)) for answer in answers]


def with_own_address(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A tool's call with the address that it came from, in place of any that it made up."""
    peer = scope.get("client")
    headers = [(name, value) for name, value in scope["headers"] if name != b"x-forwarded-for"]
    if peer:
        headers.append((b"x-forwarded-for", str(peer[0]).encode()))
    return {**scope, "headers": headers}
