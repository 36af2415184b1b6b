"""Reads which MCP servers there are, from a file in the form that other programs use, too.

    {"mcpServers": {"files": {"command": "npx", "args": ["-y", "some-server"], "env": {"KEY": "…"}},
                    "search": {"url": "http://127.0.0.1:8000/mcp", "headers": {"Authorization": "…"}}}}

Parses and checks; starts nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from playground.errors import PlaygroundError

MOST_SERVERS: Final = 16
_LARGEST_FILE: Final = 1 << 20  # bytes
_NAME: Final = re.compile(r"[\w .-]{1,40}")
_FORM: Final = 'Its form is {"mcpServers": {"name": {"command": "…", "args": ["…"]}}}, or {"url": "…"} for one by HTTP.'


class ToolServer(BaseModel):
    """One server: a command that speaks over its standard input and output, or an address for streamable HTTP."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    command: Annotated[str, Field(max_length=1000)] = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, SecretStr] = Field(default_factory=dict)
    cwd: Path | None = None
    url: Annotated[str, Field(pattern=r"^$|^https?://", max_length=500)] = ""
    headers: Mapping[str, SecretStr] = Field(default_factory=dict)
    disabled: bool = False

    @model_validator(mode="after")
    def _needs_one_way(self) -> ToolServer:
        if bool(self.command) == bool(self.url):
            raise ValueError("a server has either a command or an url")
        return self


def read_tool_servers(path: Path) -> dict[str, ToolServer]:
    """The servers by name, in the order of the file. Raises PlaygroundError, whose text has no value of the file."""
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        problem = f"The file of MCP servers {path} cannot be read: {error.strerror}."
        raise PlaygroundError(problem, "Set PLAYGROUND_MCP_SERVERS to a file that is there, or unset it.") from None
    try:
        data: Any = json.loads(raw) if len(raw) <= _LARGEST_FILE else None
    except (ValueError, RecursionError):
        raise PlaygroundError(f"The file of MCP servers {path} is not JSON.", _FORM) from None
    listed = data.get("mcpServers") if isinstance(data, dict) else None
    if not isinstance(listed, dict) or len(listed) > MOST_SERVERS:
        raise PlaygroundError(f"The file of MCP servers {path} lists no servers, or more than {MOST_SERVERS}.", _FORM)
    servers: dict[str, ToolServer] = {}
    for name, entry in listed.items():
        if not _NAME.fullmatch(name):
            raise PlaygroundError(f"An MCP server in {path} has a name that cannot be used.", "Use up to 40 letters.")
        try:
            server = ToolServer.model_validate(entry)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            why = f"{place}: {first['msg']}" if place else first["msg"]
            raise PlaygroundError(f"The MCP server {name!r} in {path} cannot be used: {why}.", _FORM) from None
        if not server.disabled:
            servers[name] = server
    return servers
