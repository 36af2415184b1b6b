"""The API's endpoints as tools of an MCP server, which Gradio makes of them where it is switched on.

Gradio's tools call the page over this computer's own network, like any other program. So the caller's right to come in
and its address have to be passed on. The answers are passed on as JSON.
"""

from __future__ import annotations

import json
from collections.abc import MutableMapping, Sequence
from importlib.util import find_spec
from typing import Any

import gradio as gr

from playground.errors import PlaygroundError
from playground.settings import Settings
from playground.web.gradio_private import prepare_mcp_tools


def check_mcp(settings: Settings) -> None:
    """Raises PlaygroundError if the tools are switched on and their package is missing."""
    if settings.mcp and find_spec("mcp") is None:
        raise PlaygroundError(
            "PLAYGROUND_MCP is on, and the package mcp is not installed.",
            "Install it with .venv/bin/python -m pip install -e .[mcp], or switch it off.",
        )


def prepare_tools(page: gr.Blocks, settings: Settings) -> None:
    """Let the tools answer in JSON, and sign in if there is a password; their callers show it to the request filter."""
    prepare_mcp_tools(page, settings.password.get_secret_value(), _as_json)


def _as_json(answers: Sequence[Any], root_url: str) -> list[Any]:
    from mcp.types import TextContent

    return [TextContent(type="text", text=json.dumps(answer, ensure_ascii=False)) for answer in answers]


def with_own_address(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A tool's call with the address that it really came from."""
    peer = scope.get("client")
    headers = [(name, value) for name, value in scope["headers"] if name != b"x-forwarded-for"]
    if peer:
        headers.append((b"x-forwarded-for", str(peer[0]).encode()))
    return {**scope, "headers": headers}
