"""Calls of programs over plain HTTP: what Gradio 6.31 would answer by a bare 500 and a traceback gets one sentence.

POST /gradio_api/call/v2/chat   {"prompt": "What is 2+2?"}
POST /gradio_api/call/chat      {"data": ["What is 2+2?", "starter", …]}, one value for each parameter
POST /gradio_api/run/machine    {"data": []}, the same, answered at once
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground.web.gradio_private import is_signed_in, offered_endpoints
from playground.web.server.uploads import RejectedRequest

_API: Final = "/gradio_api/"
_BY_NAME, _BY_PLACE, _AT_ONCE = f"{_API}call/v2/", f"{_API}call/", f"{_API}run/"
_WANTED_VALUES: Final = (
    'Post a JSON object of the endpoint\'s parameters to /gradio_api/call/v2/, such as {"prompt": "What is 2+2?"}; '
    "docs/api.md lists them."
)


async def pass_on_call(app: ASGIApp, body: bytes, scope: Scope, receive: Receive, send: Send) -> bool:
    """Serves a call of an endpoint; False if the request is none. Raises RejectedRequest for unsuitable values."""
    path = str(scope["path"])
    prefix = next((prefix for prefix in (_BY_NAME, _BY_PLACE, _AT_ONCE) if path.startswith(prefix)), None)
    if prefix is None or not is_signed_in(scope.get("app"), Request(scope).cookies):  # then Gradio answers 401
        return False
    name, endpoints = path.removeprefix(prefix).strip("/"), offered_endpoints(scope.get("app"))
    if name not in endpoints:
        if prefix == _AT_ONCE:  # the page's own events come this way, too
            return False
        raise RejectedRequest(404, f"There is no endpoint of that name. There are: {', '.join(endpoints)}.")
    _check_body(body, name, None if prefix == _BY_NAME else endpoints)
    answer = _PassedAnswer(send)
    try:
        await app(scope, receive, answer.send)
    except (TypeError, ValueError, KeyError) as error:
        if answer.has_begun:
            raise
        found = str(error).partition(". ")[0].rstrip(".")
        raise RejectedRequest(422, f"These values do not suit this endpoint: {found}. {_WANTED_VALUES}") from error
    return True


def _check_body(body: bytes, name: str, endpoints: Mapping[str, Sequence[str]] | None) -> None:
    """endpoints: where the values come as a list, in the order of the parameters."""
    try:
        values = json.loads(body)
    except ValueError:
        raise RejectedRequest(422, f"This body is not JSON. {_WANTED_VALUES}") from None
    if not isinstance(values, dict):
        raise RejectedRequest(422, f"This body is not a JSON object. {_WANTED_VALUES}")
    if endpoints is None:
        return
    data, wanted = values.get("data"), endpoints[name]
    if not isinstance(data, list):
        raise RejectedRequest(422, f"This body has no list `data`. {_WANTED_VALUES}")
    if len(data) != len(wanted):
        names = f" ({', '.join(wanted)})" if wanted else ""
        raise RejectedRequest(
            422, f"`data` has {len(data)} values, and {name} takes {len(wanted)}{names}. {_WANTED_VALUES}"
        )


class _PassedAnswer:
    """Passes an answer on. Gradio 6.31 answers a refusal with a sentence by 500, as if the server had failed: 422."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self.has_begun = False

    async def send(self, message: Message) -> None:
        self.has_begun = True
        if message["type"] == "http.response.start" and message["status"] == 500:
            self._start = message
            return
        if self._start is not None:
            start, self._start = self._start, None
            await self._send({**start, "status": 422} if _has_sentence(message.get("body", b"")) else start)
        await self._send(message)


def _has_sentence(body: bytes) -> bool:
    try:
        answer: Any = json.loads(body)
    except ValueError:
        return False
    return isinstance(answer, dict) and isinstance(answer.get("error"), str)
