"""What an MCP server says of its tools, and what it returns, as far as it can be used. Servers are not trusted.

Pure functions of what came; the connection is in client.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from playground.chat.template.message import Tool

MOST_TOOLS: Final = 40  # of one server: each takes its part of the context
LONGEST_SCHEMA: Final = 8000  # characters of JSON
_LONGEST_DESCRIPTION: Final = 1000
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class ServerTool:
    """A tool of a server. name: as the server calls it; tool: as a model is offered it, under a name of its own."""

    server: str
    name: str
    tool: Tool

    @property
    def offered_name(self) -> str:
        return str(self.tool["function"]["name"])


def usable_tools(server: str, listed: Iterable[Mapping[str, Any]], taken: Collection[str]) -> list[ServerTool]:
    """The tools that a model can be offered; those without a usable name or schema are left out.

    listed: each with name, description and inputSchema. taken: names that are in use; such a tool gets the name of its
    server in front.
    """
    tools: list[ServerTool] = []
    names = set(taken)
    for one in listed:
        name, schema = one.get("name"), one.get("inputSchema")
        if len(tools) >= MOST_TOOLS or not isinstance(name, str) or not isinstance(schema, Mapping):
            continue
        offered = name if name not in names else f"{re.sub(r'[^A-Za-z0-9_-]', '_', server)}_{name}"
        if not _NAME.fullmatch(offered) or offered in names or not _is_usable(schema):
            continue
        description = str(one.get("description") or "")[:_LONGEST_DESCRIPTION]
        function = {"name": offered, "description": description, "parameters": dict(schema)}
        names.add(offered)
        tools.append(ServerTool(server, name, {"type": "function", "function": function}))
    return tools


def _is_usable(schema: Mapping[str, Any]) -> bool:
    if schema.get("type", "object") != "object" or not isinstance(schema.get("properties", {}), Mapping):
        return False
    try:
        return len(json.dumps(schema)) <= LONGEST_SCHEMA
    except (TypeError, ValueError, RecursionError):
        return False


def text_of_result(parts: Iterable[Mapping[str, Any]]) -> str:
    """The texts of a result; of a picture and the like only that there was one."""
    texts: list[str] = []
    for part in parts:
        kind, resource = part.get("type"), part.get("resource")
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(resource, Mapping) and isinstance(resource.get("text"), str):
            texts.append(resource["text"])
        else:
            texts.append(f"[{str(kind)[:20]} left out]")
    return "\n".join(texts)
