"""Real MCP servers, each a process of its own: their tools work, and one that misbehaves ends in a sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.app.tool_servers.client import ToolServers
from playground.app.tool_servers.config import ToolServer, read_tool_servers
from playground.app.tool_servers.tools import MOST_TOOLS, ServerTool, text_of_result, usable_tools
from playground.chat.tools.arguments import CallRefused
from playground.errors import PlaygroundError
from playground.settings import load_settings
from tests.support.playground_process import free_port

SERVER = """
import os, sys
from mcp.server.fastmcp import Context, FastMCP

server = FastMCP("notes", host="127.0.0.1", port=int(os.environ.get("PORT", "0")))

@server.tool()
def reverse(text: str) -> str:
    "The text from its end to its beginning."
    return text[::-1]

@server.tool()
def calculator(expression: str) -> str:
    "Not the built-in one."
    return "from the server " + os.environ.get("KEY", "without a key")

@server.tool()
def fail() -> str:
    "Fails."
    raise ValueError("the notes are locked")

@server.tool()
async def hang() -> str:
    "Never answers."
    import anyio
    await anyio.sleep_forever()

@server.tool()
def die() -> str:
    "Ends the server."
    os._exit(3)

@server.tool()
def key_sent(context: Context) -> str:
    "The key that came with the request."
    return context.request_context.request.headers["authorization"]

server.run(sys.argv[1])
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("server") / "notes.py"
    path.write_text(SERVER)
    return path


@pytest.fixture
def connect(program: Path) -> Iterator[Callable[..., ToolServers]]:
    opened: list[ToolServers] = []

    def connect(*arguments: str, start_seconds: float = 60, call_seconds: float = 60, **more: str) -> ToolServers:
        command = ToolServer.model_validate(
            {"command": sys.executable, "args": arguments or (str(program), "stdio"), "env": more}
        )
        servers = ToolServers({"notes": command}, start_seconds=start_seconds, call_seconds=call_seconds)
        opened.append(servers)
        return started(servers)

    yield connect
    for servers in opened:
        servers.close()


def started(servers: ToolServers) -> ToolServers:
    servers.start()
    for connection in servers._connections:
        assert connection.settled.wait(60)
    return servers


def tool(servers: ToolServers, name: str) -> ServerTool:
    return next(one for one in servers.tools(("calculator",)) if one.offered_name == name)


def call(servers: ToolServers, name: str, **arguments: str) -> str:
    return servers.call(tool(servers, name), arguments).result(60)


def test_the_tools_of_a_server_are_offered_and_called(connect: Callable[..., ToolServers]) -> None:
    servers = connect(KEY="with a key")
    assert not servers.problems
    names = [one.offered_name for one in servers.tools(("calculator",))]
    assert names == ["reverse", "notes_calculator", "fail", "hang", "die", "key_sent"]
    assert tool(servers, "reverse").tool["function"]["parameters"]["required"] == ["text"]
    assert call(servers, "reverse", text="fox") == "xof"
    assert call(servers, "notes_calculator", expression="1") == "from the server with a key"


def test_a_call_that_fails_or_hangs_says_so_and_the_server_goes_on(connect: Callable[..., ToolServers]) -> None:
    servers = connect(call_seconds=0.5)
    with pytest.raises(CallRefused, match="the notes are locked"):
        call(servers, "fail")
    with pytest.raises(CallRefused, match="did not answer within"):
        call(servers, "hang")
    assert started(servers).tools()


def test_a_server_that_dies_says_so_and_is_started_again(connect: Callable[..., ToolServers]) -> None:
    servers = connect()
    with pytest.raises(CallRefused, match="has ended"):
        call(servers, "die")
    assert call(started(servers), "reverse", text="fox") == "xof"


def test_a_server_by_address_works_the_same_and_its_end_is_noticed(program: Path) -> None:
    port = free_port()
    environment = {**os.environ, "PORT": str(port)}
    command = [sys.executable, str(program), "streamable-http"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        address = ToolServer.model_validate(
            {"url": f"http://127.0.0.1:{port}/mcp", "headers": {"Authorization": "Bearer key"}}
        )
        servers = started(ToolServers({"notes": address}))
        while servers.problems and process.poll() is None:  # it does not listen yet
            time.sleep(0.1)
            servers = started(servers)
        try:
            assert call(servers, "reverse", text="fox") == "xof"
            assert call(servers, "key_sent") == "Bearer key"
            with pytest.raises(CallRefused, match="the notes are locked"):
                call(servers, "fail")
            with pytest.raises(CallRefused, match="has ended"):
                call(servers, "die")
            started(servers)
            assert not servers.tools() and "The MCP server notes cannot be used" in servers.problems[0]
        finally:
            process.kill()
            servers.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-c", "import sys; sys.stdin.read()"), "did not answer within"),
        (("-c", "print('hello, I am no server')"), "cannot be used"),
        (("-c", "raise SystemExit(1)"), "cannot be used"),
    ],
)
def test_a_server_that_is_none_ends_in_a_sentence(
    connect: Callable[..., ToolServers], arguments: tuple[str, ...], words: str
) -> None:
    servers = connect(*arguments, start_seconds=2 if words.startswith("did") else 60)
    (problem,) = servers.problems
    assert problem.startswith("The MCP server notes") and words in problem and not servers.tools()


def test_a_command_that_is_not_there_is_named(connect: Callable[..., ToolServers]) -> None:
    servers = started(ToolServers({"ghost": ToolServer(command="/no/such/program")}))
    assert "The MCP server ghost cannot be used" in servers.problems[0]
    servers.close()


def test_without_the_package_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playground.app.tool_servers.client.find_spec", lambda name: None)
    servers = ToolServers({"notes": ToolServer(command="notes")})
    servers.start()
    assert servers.has_started() and not servers.tools() and "pip install" in servers.problems[0]


# --- what a server may say, and a file ---


def test_tools_without_a_usable_name_or_schema_are_left_out() -> None:
    plain = {"type": "object", "properties": {}}
    listed = [
        {"name": "good", "inputSchema": plain},
        {"name": "good", "inputSchema": plain},
        {"name": "bad name!", "inputSchema": plain},
        {"name": "list", "inputSchema": {"type": "array"}},
        {"name": "long", "inputSchema": {"type": "object", "properties": {"x": {"description": "x" * 9000}}}},
        *({"name": f"more{number}", "inputSchema": plain} for number in range(MOST_TOOLS)),
    ]
    names = [one.offered_name for one in usable_tools("a b", listed, ())]
    assert names[:3] == ["good", "a_b_good", "more0"] and len(names) == MOST_TOOLS


def test_of_a_result_the_texts_are_taken() -> None:
    parts: list[dict[str, Any]] = [
        {"type": "text", "text": "a"}, {"type": "image", "data": "…"}, {"resource": {"text": "b"}}, {"type": 3},
    ]  # fmt: skip
    assert text_of_result(parts) == "a\n[image left out]\nb\n[3 left out]"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no json", "not JSON"),
        ("[]", "lists no servers"),
        ('{"mcpServers": {"a": {}}}', "either a command or an url"),
        ('{"mcpServers": {"a": {"url": "file:///etc"}}}', "url"),
        ('{"mcpServers": {"a": {"command": "x", "args": 3}}}', "args"),
        ('{"mcpServers": {"\\n": {"command": "x"}}}', "a name that cannot be used"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_a_sentence(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "servers.json"
    path.write_text(content)
    with pytest.raises(PlaygroundError, match=words):
        read_tool_servers(path)
    with pytest.raises(PlaygroundError, match="cannot be read"):
        read_tool_servers(tmp_path / "missing.json")


def test_servers_are_only_for_a_page_of_this_computer_alone(tmp_path: Path) -> None:
    path = tmp_path / "servers.json"
    path.write_text(json.dumps({"mcpServers": {"a": {"command": "x", "disabled": True}, "b": {"command": "y"}}}))
    assert list(read_tool_servers(path)) == ["b"]
    assert load_settings(mcp_servers=path).offered_mcp_servers == path
    assert load_settings(mcp_servers=path, host="0.0.0.0").offered_mcp_servers is None
    assert load_settings(mcp_servers=path, on_space=True).offered_mcp_servers is None
