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

from playground.errors import PlaygroundError
from playground.settings import Settings
from playground.web.gradio_private import prepare_mcp_tools


def check_mcp(settings: Settings) -> None:
    """Raises PlaygroundError where the tools are wanted and the package for them is not there."""
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
    """A tool's call with the address that it came from, in place of any that it made up."""
    peer = scope.get("client")
    headers = [(name, value) for name, value in scope["headers"] if name != b"x-forwarded-for"]
    if peer:
        headers.append((b"x-forwarded-for", str(peer[0]).encode()))
    return {**scope, "headers": headers}
