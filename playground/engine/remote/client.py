"""The HTTP client of an OpenAI-compatible server: its list of models, the stream of a reply, a count of tokens.

Each request has a connection of its own, so that a reply can be aborted at any moment, even before the server has begun
to answer: that is how such servers learn that it is no longer wanted. The key is sent to the server's address only,
since redirects are not followed. If a server has several addresses, a reply goes to the one with the fewest replies,
and to the next one if that does not answer.
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
    HTTP_ERRORS,
    describe_http_error,
    describe_refusal,
    empty_stream,
    failed_midway,
    is_too_long,
    is_unknown_model,
    not_compatible,
)
from playground.engine.remote.protocol import (
    Chunk,
    RemoteModel,
    error_text,
    read_chunk,
    read_models,
    read_token_count,
)
from playground.errors import PlaygroundError, RemoteProblem
from playground.servers import RemoteServer

CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 5.0  # for a list of models, or a count of tokens
_LONGEST_ANSWER: Final = 4 << 20  # bytes of an answer that is not a stream
_LONGEST_LINE: Final = 1 << 20  # characters of one line of a stream
_COUNT_PATHS: Final = ("/tokenize", "/extras/tokenize/count")  # vLLM, SGLang and llama-server; llama-cpp-python
_NOT_UNDERSTOOD: Final = (400, 422, 501)  # of servers that do not know a part of the request
_TRY_ELSEWHERE: Final = (502, 503)  # no server behind the address, or one that is not ready


class RequestAborted(Exception):
    """Nobody reads the reply any more; never shown."""


class TooMuchAsked(RemoteProblem):
    """The request failed in a way that a simpler one may not."""

    @classmethod
    def from_problem(cls, problem: PlaygroundError) -> TooMuchAsked:
        return cls(problem.problem, problem.remedy)


class _NotReachable(RemoteProblem):
    """Nothing answers at this address of a server; another one may."""


class Connection:
    """The connection of one request, which `abort_request` ends from any thread.

    httpx2 can close a response only between two reads, and not while it connects. So this keeps the socket, which the
    client's trace extension hands out, and shuts it down.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_aborted = False

    def abort_request(self) -> None:
        with self._lock:
            self._is_aborted = True
            self._shut_socket()

    def raise_if_aborted(self) -> None:
        if self._is_aborted:
            raise RequestAborted

    def trace_step(self, name: str, info: dict[str, Any]) -> None:
        """httpx2 calls this for each step of the request."""
        if name in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
                if self._is_aborted:
                    self._shut_socket()

    def _shut_socket(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # not TLS's own shutdown, which would take the socket from the thread that reads
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class ServerClient:
    """Sends requests to one server; thread-safe. Methods raise RemoteProblem, or RequestRefused."""

    def __init__(self, server: RemoteServer, silence_seconds: float = 120) -> None:
        self.server = server
        self._silence_seconds = silence_seconds
        self._lock = threading.Lock()
        self._http: httpx2.Client | None = None
        self._running: Counter[str] = Counter()  # replies under way, by address
        self._served: Counter[str] = Counter()
        self._count_path: str | None = _COUNT_PATHS[0]

    # --- requests ---

    def list_models(self) -> tuple[RemoteModel, ...]:
        answer = self._ask("GET", "/models")
        try:
            return read_models(self.server.name, answer)
        except ValueError as error:
            raise not_compatible(self.server) from error

    def count_tokens(self, model: str, text: str) -> int | None:
        """How many tokens the model makes of a text; None if the server cannot count."""
        for path in _COUNT_PATHS[_COUNT_PATHS.index(self._count_path) :] if self._count_path else ():
            body = {"model": model, "prompt": text, "content": text, "input": text, "add_special_tokens": False}
            try:
                count = read_token_count(self._ask("POST", path, body, below_v1=False))
            except PlaygroundError as error:
                if error.__cause__ is not None:  # the server was not reached, so it may be able to next time
                    return None
                count = None
            if count is not None:
                self._count_path = path
                return count
        self._count_path = None
        return None

    def stream_chunks(self, body: dict[str, Any], connection: Connection) -> Iterator[Chunk]:
        """The stream of a chat completion, up to its proper end."""
        tried: list[str] = []
        while True:
            with self._choose_address(tried) as server:
                try:
                    yield from self._stream_from(server, body, connection)
                    return
                except _NotReachable:
                    connection.raise_if_aborted()
                    tried.append(server.url)
                    if len(tried) == len(self.server.urls):
                        raise

    def close(self) -> None:
        with self._lock:
            if self._http is not None:
                self._http.close()

    # --- streams ---

    @contextmanager
    def _choose_address(self, tried: Sequence[str]) -> Iterator[RemoteServer]:
        """The server at its address with the fewest replies, which counts one more meanwhile."""
        with self._lock:
            left = [url for url in self.server.urls if url not in tried]
            url = min(left, key=lambda url: (self._running[url], self._served[url]))
            self._running[url] += 1
            self._served[url] += 1
        try:
            yield replace(self.server, url=url)
        finally:
            with self._lock:
                self._running[url] -= 1

    def _stream_from(self, server: RemoteServer, body: dict[str, Any], connection: Connection) -> Iterator[Chunk]:
        try:
            with self._client().stream(
                "POST",
                f"{server.url}/chat/completions",
                json=body,
                headers=self._headers("text/event-stream"),
                timeout=httpx2.Timeout(self._silence_seconds, connect=CONNECT_SECONDS),
                extensions={"trace": connection.trace_step},
            ) as response:
                if response.status_code != 200:
                    raise self._refusal(response, body)
                yield from self._read_chunks(response)
        except HTTP_ERRORS as error:
            connection.raise_if_aborted()
            problem = describe_http_error(error, server, self._silence_seconds)
            if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout)):
                raise _NotReachable(problem.problem, problem.remedy) from error
            if body.get("logprobs") and isinstance(error, (httpx2.RemoteProtocolError, httpx2.ReadError)):
                raise TooMuchAsked.from_problem(problem) from error
            raise problem from error

    def _read_chunks(self, response: httpx2.Response) -> Iterator[Chunk]:
        is_empty = True
        for data in self._read_data_lines(response):
            if data == "[DONE]":
                return
            try:
                chunk = read_chunk(data)
            except ValueError as error:
                raise not_compatible(self.server) from error
            is_empty = False
            if chunk.error:
                raise failed_midway(self.server, error_text({"error": chunk.error}))
            yield chunk
        if is_empty:
            is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
            raise TooMuchAsked.from_problem(empty_stream(self.server)) if is_stream else not_compatible(self.server)

    def _read_data_lines(self, response: httpx2.Response) -> Iterator[str]:
        """What follows `data:` in each line of an event stream.

        Not by httpx2's iter_lines: that would keep a line of any length, and split a line at a U+2028 in its JSON.
        """
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        rest = ""
        for received in response.iter_bytes():
            *lines, rest = (rest + decode(received)).split("\n")
            if len(rest) > _LONGEST_LINE:
                raise not_compatible(self.server)
            yield from (line[5:].strip() for line in lines if line.startswith("data:"))
        if rest.startswith("data:"):
            yield rest[5:].strip()

    # --- answers that are read as a whole ---

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None, *, below_v1: bool = True) -> object:
        """The JSON answer of the first address that gives one.

        below_v1: whether the path is below /v1, or beside it.
        """
        problem: PlaygroundError | None = None
        for url in self.server.urls:
            try:
                return self._ask_at(replace(self.server, url=url), method, path, body, below_v1)
            except PlaygroundError as error:
                problem = problem or error
        assert problem is not None  # there is at least one address
        raise problem

    def _ask_at(
        self, server: RemoteServer, method: str, path: str, body: dict[str, Any] | None, below_v1: bool
    ) -> object:
        url = f"{server.url if below_v1 else server.url.removesuffix('/v1')}{path}"
        timeout = httpx2.Timeout(ANSWER_SECONDS)
        try:
            with self._client().stream(method, url, json=body, headers=self._headers(), timeout=timeout) as response:
                if response.status_code != 200:
                    raise self._refusal(response)
                return self._read_json(response)
        except HTTP_ERRORS as error:
            raise describe_http_error(error, server, ANSWER_SECONDS) from error
        except ValueError as error:
            raise not_compatible(server) from error

    def _read_json(self, response: httpx2.Response) -> object:
        """Raises ValueError for what is no JSON, too long or too slow."""
        content = b""
        until = time.monotonic() + 4 * ANSWER_SECONDS  # httpx2's timeout is for each read: a server that drips has none
        for received in response.iter_bytes():
            content += received
            if len(content) > _LONGEST_ANSWER or time.monotonic() > until:
                raise ValueError("too long, or too slow")
        try:
            return json.loads(content)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error

    def _refusal(self, response: httpx2.Response, body: dict[str, Any] | None = None) -> PlaygroundError:
        """body: of a chat, which could be asked for less."""
        status, retry_after = response.status_code, response.headers.get("retry-after", "")
        try:
            answer = self._read_json(response)
        except (ValueError, *HTTP_ERRORS):
            answer = None
        model = None if body is None else str(body["model"])
        refusal = describe_refusal(status, answer, retry_after, self.server, model)
        if status in _TRY_ELSEWHERE:
            return _NotReachable(refusal.problem, refusal.remedy)
        said = error_text(answer)
        may_be_too_much = status in _NOT_UNDERSTOOD or (status == 500 and body is not None and "logprobs" in body)
        if may_be_too_much and not is_too_long(said) and not is_unknown_model(said):
            return TooMuchAsked.from_problem(refusal)
        return refusal

    def _headers(self, accept: str = "application/json") -> dict[str, str]:
        key = self.server.key
        return {"Accept": accept} | ({"Authorization": f"Bearer {key.get_secret_value()}"} if key else {})

    def _client(self) -> httpx2.Client:
        """No connection is kept for a second request: one that is aborted must not be in use by another request.

        The environment's proxy is used for https only: it could read the key in a plain request.
        """
        with self._lock:
            if self._http is None:
                self._http = httpx2.Client(
                    follow_redirects=False,
                    trust_env=self.server.url.startswith("https:"),
                    limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
                )
            return self._http
