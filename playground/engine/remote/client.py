"""The connection to an OpenAI-compatible server: its list of models, the stream of a reply, a count of tokens.

The network is asked here and nowhere else beside the Hub. Each request has a connection of its own, so that a reply can
be cut off at any moment, even while the server has not begun to answer: that is how such servers learn of a stop. The
key goes to the server's address and nowhere else: redirects are not followed. A server of several addresses is asked
where it has the least to do, and elsewhere when that does not answer.
"""

from __future__ import annotations

import codecs
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

import httpx2

from playground.engine.remote.errors import (
    FAULTS,
    describe_fault,
    describe_refusal,
    failed_midway,
    is_too_long,
    names_no_model,
    no_first_word,
    odd_answer,
)
from playground.engine.remote.protocol import Piece, RemoteModel, read_models, read_piece, read_token_count, said_by
from playground.errors import PlaygroundError, RemoteProblem
from playground.servers import RemoteServer

CONNECT_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 5.0  # for a list of models, or a count of tokens
_LONGEST_ANSWER: Final = 4 << 20  # bytes of an answer that is read whole
_LONGEST_LINE: Final = 1 << 20  # bytes of one piece of a stream
_COUNTERS: Final = ("/tokenize", "/extras/tokenize/count")  # vLLM, SGLang and llama-server; llama-cpp-python
_NOT_UNDERSTOOD: Final = (400, 422, 501)  # what a server answers that does not know something of the request
_ELSEWHERE_PERHAPS: Final = (502, 503)  # no server behind the address, or one that is not ready
_END: Final = "[DONE]"


class HungUp(Exception):
    """The reader of the reply is gone; never shown."""


class Connection:
    """The connection of one request: `cut` ends it from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_cut = False

    def cut(self) -> None:
        with self._lock:
            self._is_cut = True
            self._shut()

    def check(self) -> None:
        if self._is_cut:
            raise HungUp

    def watch(self, name: str, info: dict[str, Any]) -> None:
        """The HTTP client's report of its steps: takes hold of the socket as soon as there is one."""
        if name in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
                if self._is_cut:
                    self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # the plain shutdown: TLS's own would take the socket from under its reader
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class ServerClient:
    """Asks one server; thread-safe. Methods raise RemoteProblem, or RequestRefused, with a sentence."""

    def __init__(self, server: RemoteServer, silence_seconds: float = 120) -> None:
        self.server = server
        self._silence_seconds = silence_seconds
        self._lock = threading.Lock()
        self._shared: httpx2.Client | None = None
        self._busy: Counter[str] = Counter()  # replies under way, by address
        self._served: Counter[str] = Counter()
        self._counter: str | None = _COUNTERS[0]

    def list_models(self) -> tuple[RemoteModel, ...]:
        """What the server offers now."""
        answer = self._ask("GET", "/models")
        try:
            return read_models(self.server.name, answer)
        except ValueError as error:
            raise odd_answer(self.server) from error

    def count_tokens(self, model: str, text: str) -> int | None:
        """How many tokens the model makes of a text; None where the server has no way to tell."""
        for path in _COUNTERS[_COUNTERS.index(self._counter) :] if self._counter else ():
            body = {"model": model, "prompt": text, "content": text, "input": text, "add_special_tokens": False}
            try:
                count = read_token_count(self._ask("POST", path, body, below_v1=False))
            except PlaygroundError as error:
                if error.__cause__ is not None:  # not refused, but not reached either: another time, perhaps
                    return None
                count = None
            if count is not None:
                self._counter = path
                return count
        self._counter = None
        return None

    def pieces(self, body: dict[str, Any], line: Connection) -> Iterator[Piece]:
        """The stream of a chat completion, piece by piece, up to its proper end."""
        tried: list[str] = []
        while True:
            with self._place(tried) as at:
                try:
                    yield from self._pieces(at, body, line)
                    return
                except _NotThere:
                    line.check()
                    tried.append(at.url)
                    if len(tried) == len(self.server.urls):
                        raise

    def close(self) -> None:
        with self._lock:
            if self._shared is not None:
                self._shared.close()

    @contextmanager
    def _place(self, tried: Sequence[str]) -> Iterator[RemoteServer]:
        """The server at the one of its other addresses that has the least to do; counted as busy meanwhile."""
        with self._lock:
            left = [url for url in self.server.urls if url not in tried]
            at = min(left, key=lambda url: (self._busy[url], self._served[url]))
            self._busy[at] += 1
            self._served[at] += 1
        try:
            yield replace(self.server, url=at)
        finally:
            with self._lock:
                self._busy[at] -= 1

    def _pieces(self, at: RemoteServer, body: dict[str, Any], line: Connection) -> Iterator[Piece]:
        try:
            with self._client().stream(
                "POST",
                f"{at.url}/chat/completions",
                json=body,
                headers=self._headers("text/event-stream"),
                timeout=httpx2.Timeout(self._silence_seconds, connect=CONNECT_SECONDS),
                extensions={"trace": line.watch},
            ) as response:
                if response.status_code != 200:
                    raise self._refusal(response, body)
                yield from self._read(response)
        except FAULTS as error:
            line.check()
            problem = describe_fault(error, at, self._silence_seconds)
            if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout)):
                raise _NotThere(problem.problem, problem.remedy) from error
            broke = isinstance(error, (httpx2.RemoteProtocolError, httpx2.ReadError))
            raise (_asked_too_much(problem) if broke and body.get("logprobs") else problem) from error

    def _read(self, response: httpx2.Response) -> Iterator[Piece]:
        is_empty = True
        for data in self._data_lines(response):
            if data == _END:
                return
            try:
                piece = read_piece(data)
            except ValueError as error:
                raise odd_answer(self.server) from error
            is_empty = False
            if piece.error is not None:
                raise failed_midway(self.server, piece.error)
            yield piece
        if is_empty:
            is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
            raise _asked_too_much(no_first_word(self.server)) if is_stream else odd_answer(self.server)

    def _data_lines(self, response: httpx2.Response) -> Iterator[str]:
        """What follows `data:` in each line of an event stream; other lines are comments and names."""
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        rest = ""
        for chunk in response.iter_bytes():
            *lines, rest = (rest + decode(chunk)).split("\n")
            if len(rest) > _LONGEST_LINE:
                raise odd_answer(self.server)
            yield from (line[5:].strip() for line in lines if line.startswith("data:"))
        if rest.startswith("data:"):
            yield rest[5:].strip()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None, *, below_v1: bool = True) -> object:
        """A JSON answer of the first address that gives one, within LOOK_SECONDS for each step."""
        problem: PlaygroundError | None = None
        for url in self.server.urls:
            try:
                return self._ask_at(replace(self.server, url=url), method, path, body, below_v1)
            except PlaygroundError as error:
                problem = problem or error
        assert problem is not None  # there is at least one address
        raise problem

    def _ask_at(self, at: RemoteServer, method: str, path: str, body: dict[str, Any] | None, below_v1: bool) -> object:
        url = f"{at.url if below_v1 else at.url.removesuffix('/v1')}{path}"
        timeout = httpx2.Timeout(LOOK_SECONDS)
        try:
            with self._client().stream(method, url, json=body, headers=self._headers(), timeout=timeout) as response:
                if response.status_code != 200:
                    raise self._refusal(response)
                return self._json(response)
        except FAULTS as error:
            raise describe_fault(error, at, LOOK_SECONDS) from error
        except ValueError as error:
            raise odd_answer(at) from error

    def _json(self, response: httpx2.Response) -> object:
        content = b""
        until = time.monotonic() + 4 * LOOK_SECONDS  # a server that drips would never time out
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > _LONGEST_ANSWER or time.monotonic() > until:
                raise ValueError("too much, or too slow")
        try:
            return json.loads(content)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error

    def _refusal(self, response: httpx2.Response, body: dict[str, Any] | None = None) -> PlaygroundError:
        """body: of a chat, which could be asked for less."""
        status, retry_after = response.status_code, response.headers.get("retry-after", "")
        try:
            answer = self._json(response)
        except (ValueError, *FAULTS):
            answer = None
        model = None if body is None else str(body["model"])
        refused = describe_refusal(status, answer, retry_after, self.server, model)
        said = said_by(answer)
        if status in _ELSEWHERE_PERHAPS:
            return _NotThere(refused.problem, refused.remedy)
        stumbles = status in _NOT_UNDERSTOOD or (status == 500 and body is not None and "logprobs" in body)
        return _asked_too_much(refused) if stumbles and not is_too_long(said) and not names_no_model(said) else refused

    def _headers(self, accept: str = "application/json") -> dict[str, str]:
        key = self.server.key
        return {"Accept": accept} | ({"Authorization": f"Bearer {key.get_secret_value()}"} if key else {})

    def _client(self) -> httpx2.Client:
        """No connection is kept for a second request: a line that is cut must be nobody else's.

        The environment's proxy is used for https alone: a plain request would show the key to it.
        """
        with self._lock:
            if self._shared is None:
                self._shared = httpx2.Client(
                    follow_redirects=False,
                    trust_env=self.server.url.startswith("https:"),
                    limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
                )
            return self._shared


class _NotThere(RemoteProblem):
    """Nothing answers at this address; another one of the server may."""


class AskedTooMuch(RemoteProblem):
    """Failed in a way that a simpler request may not."""


def _asked_too_much(problem: PlaygroundError) -> AskedTooMuch:
    return AskedTooMuch(problem.problem, problem.remedy)
