"""Tools in a chat: which ones a model is offered, and how its calls are run.

A reply that calls tools ends there. In the mode "ask" the chat is at rest until the person lets the calls run or not,
so a reload loses nothing and no model waits; in the mode "allowed" they run at once. Either way what they return is
put behind the reply, and the model is asked to go on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from concurrent.futures import wait
from dataclasses import replace
from datetime import date
from typing import Any, Final, get_args

from playground.app.chat.updates import ChatUpdate, ToolUse
from playground.app.messages import CLEAR, Notice, WorkProgress
from playground.app.tool_servers.client import ToolServers
from playground.chat.session import ChatSession
from playground.chat.template.message import Message, Tool, ToolCall
from playground.chat.tools.arguments import CallRefused
from playground.chat.tools.built_in import built_in_tools, run_built_in
from playground.limits.run import Run
from playground.text_format import replace_surrogates

MOST_ROUNDS: Final = 5  # replies with calls to one question whose calls are run
_LOOK_SECONDS: Final = 0.1  # between two looks at a server
LONGEST_RESULT: Final = 16_000  # characters; the rest is left out
STOPPED: Final = "The person stopped before this call could run."
TOO_MANY_ROUNDS: Final = f"Not run: the tools have run {MOST_ROUNDS} times for this question, the most here."


def read_tool_use(value: object) -> ToolUse:
    """What a browser sent; it may be anything."""
    return next((use for use in get_args(ToolUse) if use == value), "off")


class ToolRunner:
    """The tools of all chats. servers: those of MCP servers, None where there are none."""

    def __init__(self, servers: ToolServers | None = None) -> None:
        self.servers = servers or ToolServers({})

    def start(self, session: ChatSession, run: Run) -> Iterator[ChatUpdate]:
        """Starts the servers that do not run yet, and waits until each has listed its tools or failed."""
        self.servers.start()
        while not self.servers.has_started() and not run.is_stopped():
            waits = WorkProgress("Starting the MCP servers")
            yield ChatUpdate(session, Message("assistant", ""), opening=waits)
            time.sleep(_LOOK_SECONDS)

    def offered(self, session: ChatSession, use: ToolUse) -> tuple[Tool, ...]:
        """The tools that a model is offered."""
        if use == "off":
            return ()
        built_in = built_in_tools(session.attached)
        return (*built_in, *(one.tool for one in self.servers.tools(_names_of(built_in))))

    def with_problems(self, update: ChatUpdate) -> ChatUpdate:
        """The last update of a reply, with what is wrong with the servers, unless there is more important news."""
        if not self.servers.problems or update.problem not in (None, CLEAR):
            return update
        return replace(update, problem=Notice(" ".join(self.servers.problems), "warning"))

    def answer_calls(self, session: ChatSession, run: Run) -> Generator[ChatUpdate, None, ChatSession]:
        """Runs the calls of the last reply, one after the other; the chat with what they returned."""
        for call in session.pending_calls:
            if run.is_stopped():
                break
            result = yield from self._result_of(call, session, run)
            session = session.with_result(call, result)
            yield ChatUpdate(session, Message("assistant", ""))
        return session.with_calls_refused(STOPPED)

    def _result_of(self, call: ToolCall, session: ChatSession, run: Run) -> Generator[ChatUpdate, None, str]:
        try:
            arguments = _arguments_of(call)
            built_in = _names_of(built_in_tools(session.attached))
            tool = next((one for one in self.servers.tools(built_in) if one.offered_name == call.name), None)
            if tool is None:
                return _as_text(run_built_in(call.name, arguments, session.attached, date.today()))
            answer = self.servers.call(tool, arguments)
            while not wait([answer], _LOOK_SECONDS).done:
                if run.is_stopped():
                    answer.cancel()
                    return STOPPED
                yield ChatUpdate(session, Message("assistant", ""))
            return _shortened(answer.result())
        except CallRefused as error:
            return _as_text({"error": str(error)})


def _arguments_of(call: ToolCall) -> dict[str, Any]:
    """Raises CallRefused. A call out of a saved chat may hold anything."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise CallRefused("the arguments are not a JSON object")
    return arguments


def _as_text(result: Any) -> str:
    return _shortened(json.dumps(result, ensure_ascii=False))


def _names_of(tools: tuple[Tool, ...]) -> list[str]:
    return [str(tool["function"]["name"]) for tool in tools]


def _shortened(text: str) -> str:
    text = replace_surrogates(text)
    if len(text) > LONGEST_RESULT:
        return f"{text[:LONGEST_RESULT]} … ({len(text) - LONGEST_RESULT} more characters were left out)"
    return text
