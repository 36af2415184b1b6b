"""Holds the connections to MCP servers: starts them when a chat first wants tools, lists their tools, calls them.

All connections live in one thread with an event loop. Each has a task that connects, lists the tools and then waits; a
server that hangs, dies or says nonsense ends only its own task, and a sentence says so. The next chat that wants tools
starts it again. The package `mcp` is imported only here, and only where a server is configured.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from playground.app.tool_servers.config import ToolServer
from playground.app.tool_servers.tools import ServerTool, text_of_result, usable_tools
from playground.chat.tools.arguments import CallRefused

if TYPE_CHECKING:
    from mcp import ClientSession
    from mcp.types import CallToolResult

START_SECONDS: Final = 30.0  # for a server to start and to list its tools; one that is fetched first needs some
CALL_SECONDS: Final = 60.0  # for one call
_CLOSE_SECONDS: Final = 5.0
_ASK_SECONDS: Final = 2.0  # between two questions to a server by address whether it is still there
_MISSING: Final = (
    "MCP servers are configured, but the package mcp is not installed, so their tools are not offered. Install it with "
    ".venv/bin/python -m pip install -e .[mcp]."
)


class ToolServers:
    """The servers by name. Thread-safe; `close` ends them all.

    start_seconds, call_seconds: how long a server may take to start, and for a call.
    """

    def __init__(
        self,
        servers: Mapping[str, ToolServer],
        *,
        start_seconds: float = START_SECONDS,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        self._connections = [_Connection(name, server, start_seconds) for name, server in servers.items()]
        self._call_seconds = call_seconds
        self._is_missing = bool(servers) and find_spec("mcp") is None
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self._connections)

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each server that cannot be used."""
        return (_MISSING,) if self._is_missing else tuple(one.problem for one in self._connections if one.problem)

    def start(self) -> None:
        """Start the servers that do not run."""
        if self._is_missing or not self._connections:
            return
        with self._lock:
            if self._loop is None:
                logging.getLogger("mcp").setLevel(logging.CRITICAL)  # a sentence on the page reports it
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="MCP servers")
                self._thread.start()
            for one in self._connections:
                one.start(self._loop)

    def has_started(self) -> bool:
        """Whether each server has listed its tools, or has failed."""
        return self._is_missing or all(one.settled.is_set() for one in self._connections)

    def tools(self, taken: Collection[str] = ()) -> list[ServerTool]:
        """The tools of the servers that run, with names that are neither in use nor taken."""
        tools: list[ServerTool] = []
        for one in self._connections:
            names = {*taken, *(tool.offered_name for tool in tools)}
            tools += usable_tools(one.name, one.listed, names)
        return tools

    def call(self, tool: ServerTool, arguments: dict[str, Any]) -> Future[str]:
        """What the tool returns, as text; CallRefused if it fails. Cancelling the future gives the call up."""
        connection = next((one for one in self._connections if one.name == tool.server), None)
        if self._loop is None or connection is None or connection.session is None:
            raise CallRefused(f"the MCP server {tool.server} does not run")
        answering = connection.call(connection.session, tool.name, arguments, self._call_seconds)
        return asyncio.run_coroutine_threadsafe(answering, self._loop)

    def close(self) -> None:
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        ending = asyncio.run_coroutine_threadsafe(_end_tasks([one.task for one in self._connections]), loop)
        with suppress(TimeoutError, asyncio.TimeoutError):
            ending.result(_CLOSE_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(_CLOSE_SECONDS)


class _Connection:
    """One server. problem: a sentence, "" while all is well. settled: its tools are listed, or it has failed."""

    def __init__(self, name: str, server: ToolServer, start_seconds: float) -> None:
        self.name, self.server, self._start_seconds = name, server, start_seconds
        self.settled = threading.Event()
        self.listed: list[dict[str, Any]] = []
        self.problem = ""
        self.session: ClientSession | None = None
        self.task: asyncio.Task[None] | None = None
        self._runs = False
        self._broken = asyncio.Event()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._runs:
            return
        self._runs = True
        if not self.problem:  # nobody waits again for a server that has failed before
            self.settled.clear()

        def begin() -> None:
            self.task = loop.create_task(self._run(loop))

        loop.call_soon_threadsafe(begin)

    async def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connects, lists the tools, and holds the connection until it breaks or the task is cancelled."""
        self._broken = asyncio.Event()
        task = asyncio.current_task()
        assert task
        too_late = loop.call_later(self._start_seconds, task.cancel)
        try:
            async with _session(self.server) as session:
                await session.initialize()
                self.listed = [tool.model_dump(mode="json") for tool in (await session.list_tools()).tools]
                too_late.cancel()
                self.session, self.problem = session, ""
                self.settled.set()
                await self._broken.wait()
        except asyncio.CancelledError:
            if self.settled.is_set():
                raise
            self.problem = f"The MCP server {self.name} did not answer within {self._start_seconds:.0f} s."
        except Exception as error:  # of any kind: behind it is a stranger's program
            self.problem = f"The MCP server {self.name} cannot be used: {_reason(error)}."
        finally:
            too_late.cancel()
            self.session, self.listed = None, []
            self._runs = False
            self.settled.set()

    async def call(self, session: ClientSession, name: str, arguments: dict[str, Any], seconds: float) -> str:
        from mcp import McpError

        try:
            result = await self._answer(session.call_tool(name, arguments, timedelta(seconds=seconds)), session)
        except Exception as error:  # of any kind, as above
            if isinstance(error, McpError) and error.error.code == 408:
                raise CallRefused(f"the MCP server {self.name} did not answer within {seconds:.0f} s") from None
            has_ended = any(word in str(error).lower() for word in ("closed", "terminated"))
            if not isinstance(error, McpError | RuntimeError) or has_ended:
                self._broken.set()
                if self.task:
                    await asyncio.wait([self.task], timeout=_CLOSE_SECONDS)  # so that it can be started again
                raise CallRefused(f"the MCP server {self.name} has ended") from None
            raise CallRefused(f"the MCP server {self.name} refused: {_reason(error)}") from None
        text = text_of_result(part.model_dump(mode="json") for part in result.content)
        if result.isError:
            raise CallRefused(text[:2000] or "the tool failed and did not say why")
        return text

    async def _answer(self, call: Coroutine[Any, Any, CallToolResult], session: ClientSession) -> CallToolResult:
        """The answer to a call, or ConnectionError once the connection has ended without one.

        The end of a server by address closes nothing, so it is asked now and then whether it is there.
        """
        assert self.task
        answering = asyncio.create_task(call)
        asking = asyncio.create_task(_keep_asking(session)) if self.server.url else None
        try:
            await asyncio.wait((answering, self.task), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ConnectionError
            return answering.result()
        finally:
            answering.cancel()
            if asking:
                asking.cancel()


async def _keep_asking(session: ClientSession) -> None:
    """A server that cannot be reached ends the connection."""
    with suppress(Exception):
        while True:
            await asyncio.sleep(_ASK_SECONDS)
            await session.send_ping()


@asynccontextmanager
async def _session(server: ToolServer) -> AsyncIterator[ClientSession]:
    from mcp import ClientSession

    if server.url:
        from mcp.client.streamable_http import streamablehttp_client

        headers = {name: value.get_secret_value() for name, value in server.headers.items()}
        async with (
            streamablehttp_client(server.url, headers=headers) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            yield session
        return
    from mcp.client.stdio import StdioServerParameters, stdio_client

    env = {name: value.get_secret_value() for name, value in server.env.items()}
    command = StdioServerParameters(command=server.command, args=list(server.args), env=env, cwd=server.cwd)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        async with stdio_client(command, errlog=nowhere) as (read, write), ClientSession(read, write) as session:
            yield session


def _reason(error: BaseException) -> str:
    """What went wrong, on one line, without a full stop; of a group of errors the first."""
    while isinstance(inner := getattr(error, "exceptions", None), tuple) and inner:
        error = inner[0]
    text = " ".join(str(error).split())[:300].rstrip(".")
    return text or type(error).__name__


async def _end_tasks(tasks: list[asyncio.Task[None] | None]) -> None:
    running = [task for task in tasks if task and not task.done()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
